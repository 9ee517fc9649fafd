/*
 * triggers.h
 *	  The map of pgq_triggers: triggers that turn changes of rows into events.
 *
 * One trigger call goes through four stages: the setup of the trigger (its
 * arguments and its table, cached), the decision whether there is an event at
 * all, the six fields of the event, and the call of pgq.insert_event. The three
 * SQL functions differ only in the TrigaFormat that writes the fields.
 */
#ifndef PGQ_TRIGGERS_H
#define PGQ_TRIGGERS_H

#include "pg_compat.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

/* What pgq.insert_event takes after the queue's name, in its order. */
typedef enum EventField
{
	EV_TYPE,
	EV_DATA,
	EV_EXTRA1,
	EV_EXTRA2,
	EV_EXTRA3,
	EV_EXTRA4,
	NUM_EV_FIELDS,

	EV_WHEN = NUM_EV_FIELDS,	/* not a field: the place of the when= option */
	NUM_EXPRESSIONS,

	EV_NONE = -1
} EventField;

/* How a value becomes text: the commonest types need no function call. */
typedef enum TrigaOutput
{
	OUTPUT_FUNCTION,
	OUTPUT_TEXT,				/* the value's bytes as they are */
	OUTPUT_BOOL,
	OUTPUT_INT2,
	OUTPUT_INT4,
	OUTPUT_INT8
} TrigaOutput;

/* One live column of the table. */
typedef struct TrigaColumn
{
	int			index;			/* place in the arrays of a deformed row */
	const char *name;
	const char *label;			/* the name as TrigaFormat.label writes it */
	const char *ident;			/* the name as it stands in SQL */
	Oid			typid;
	int16		typlen;
	bool		typbyval;
	Oid			collation;
	EventField	magic;			/* _pgq_ev_ column: the field it gives, or
								 * EV_NONE */
	bool		ignored;		/* named by ignore= */
	bool		in_pkey;
	bool		generated;		/* stored generated column */
	TrigaOutput kind;
	FmgrInfo	output;			/* the type's output function */
} TrigaColumn;

/* The text of a value; not terminated. data is NULL for NULL. */
typedef struct TrigaText
{
	const char *data;
	int			len;
	char		number[MAXINT8LEN + 1]; /* room for what data may point to */
} TrigaText;

/* An option whose value is SQL over the row. */
typedef struct TrigaExpression
{
	struct TrigaSetup *setup;	/* whose columns it may name */
	const char *option;			/* e.g. ev_extra2 */
	const char *source;			/* NULL: the option is not given */
	SPIPlanPtr	plan;			/* NULL until first use */
} TrigaExpression;

/* A row as values; lives as long as the trigger call. */
typedef struct TrigaRow
{
	Datum	   *values;
	bool	   *nulls;
	bool		computed;		/* false: stored generated columns are not
								 * filled in yet, as a BEFORE trigger sees the
								 * new row */
} TrigaRow;

struct TrigaFormat;

/* What a trigger fires for. */
typedef enum TrigaOp
{
	OP_INSERT,
	OP_UPDATE,
	OP_DELETE,
	OP_TRUNCATE,
	NUM_OPS
} TrigaOp;

/* All that is known of a trigger before it fires. */
typedef struct TrigaSetup
{
	MemoryContext context;		/* holds all of this */
	Oid			trigger_id;
	Oid			relid;
	const struct TrigaFormat *format;
	bool		valid;			/* false: rebuild before the next use */
	bool		replaced;		/* no longer in the cache: free it after use */
	int			use_count;

	const char *schema_name;
	const char *table_name;

	/* the arguments */
	const char *queue_name;
	bool		skip;
	bool		backup;
	bool		deny;
	const char *ignore_list;	/* as given, NULL if not */
	const char *pkey_list;		/* as given or found, NULL on a keyless table */
	bool		pkey_given;
	const char *column_kinds;	/* logtriga: a letter a column, else NULL */
	List	   *pkey_names;		/* char *, in the order of pkey_list */
	bool		has_expressions;
	TrigaExpression expressions[NUM_EXPRESSIONS];

	/* the fields that are the same in all events */
	text	   *queue_text;
	text	   *type_text[NUM_OPS];
	text	   *table_text;		/* schema.table */

	/* the columns: neither dropped nor virtual ones */
	int			natts;			/* length of a deformed row */
	int			ncolumns;
	TrigaColumn *columns;
	bool		has_ignored;	/* some column does not count */
	bool		has_magic;
} TrigaSetup;

/* One firing; rows are NULL where the operation has none. */
typedef struct TrigaCall
{
	TrigaSetup *setup;
	TrigaOp		op;
	TrigaRow   *new_row;
	TrigaRow   *old_row;
	TrigaRow   *row;			/* what the event is about: new, for D old */
} TrigaCall;

/* How one of the SQL functions writes its events. */
typedef struct TrigaFormat
{
	const char *name;			/* of the SQL function */
	/* arguments of the oldest kind: a letter a column, nothing else */
	bool		by_position;
	/* a column's name as it stands in rows; palloc'd */
	char	   *(*label) (const char *name);
	void		(*type) (StringInfo out, const TrigaSetup *setup, TrigaOp op);
	void		(*data) (StringInfo out, const TrigaCall *call);
	/* the old row for ev_extra2 */
	void		(*backup) (StringInfo out, const TrigaCall *call);
} TrigaFormat;

/* in triggers.c */
extern const char triga_op_letter[NUM_OPS];
extern const char *const triga_op_name[NUM_OPS];

/* in setup.c */
extern TrigaSetup *triga_setup_acquire(TriggerData *tg, const TrigaFormat *format);
extern void triga_setup_release(TrigaSetup *setup);

/* in column.c */
extern bool triga_in_data(const TrigaColumn *col, const TrigaRow *row);
extern void triga_output_init(TrigaColumn *col, MemoryContext context);
extern void triga_output(TrigaColumn *col, const TrigaRow *row, TrigaText *out);
extern bool triga_changed(const TrigaCall *call, const TrigaColumn *col);
extern bool triga_key_changed(const TrigaCall *call);

/* in expression.c */
extern bool triga_when(TrigaCall *call);
extern char *triga_expression(TrigaCall *call, EventField field);

/* in insert.c */
extern void triga_insert_event(text *queue_name, const NullableDatum *fields);

/* in format_url.c */
extern const TrigaFormat triga_format_url;
extern char *triga_url_label(const char *name);
extern void triga_url_row(StringInfo out, const TrigaSetup *setup, const TrigaRow *row);

/* in format_json.c */
extern const TrigaFormat triga_format_json;

/* in format_sql.c */
extern const TrigaFormat triga_format_sql;
extern const TrigaFormat triga_format_log;

#endif							/* PGQ_TRIGGERS_H */
