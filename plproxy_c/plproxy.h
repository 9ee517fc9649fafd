/*
 * plproxy.h
 *	  The map of the language handler: its structs, and its functions grouped
 *	  by the file that defines them.
 *
 * Three kinds of things live three different lives:
 *
 *	- ProxyFunction and ProxyCluster are compiled once per backend, never
 *	  changed afterwards, and replaced as a whole when what they were made from
 *	  changes. use_count keeps a replaced one alive for the calls that run on it.
 *	- ProxyCall and its ProxyTasks are one call. Everything that a call learns
 *	  or waits for is in them, so calls nest and interleave as they like.
 *	- ProxyConn is one libpq connection. Between calls it lies in its pool; a
 *	  call owns it from acquire to release and no other call touches it.
 */
#ifndef PLPROXY_H
#define PLPROXY_H

#include "pg_compat.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "portability/instr_time.h"
#include "storage/itemptr.h"
#include "storage/latch.h"
#include "utils/hsearch.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include <libpq-fe.h>

/*
 * How values of a type come where all come in binary. Those before WIRE_RECEIVE
 * are decoded in place.
 */
typedef enum
{
	WIRE_BOOL,
	WIRE_2,						/* integers of 2, 4, 8 bytes */
	WIRE_4,
	WIRE_8,
	WIRE_TIMESTAMP,				/* with or without time zone */
	WIRE_FLOAT4,
	WIRE_FLOAT8,
	WIRE_RECEIVE,				/* for the type's receive function */
	WIRE_ARRAY,					/* of elements that can */
	WIRE_STRING,				/* as text does */
	WIRE_JSONB,					/* as text does, behind a version */
	WIRE_TEXT_ONLY				/* they cannot */
} ProxyWire;

/*
 * A type as far as values cross the wire. "typmod" is -1 unless the type is that
 * of a result column, or of the elements of one, and so is what follows "output".
 */
typedef struct ProxyType
{
	Oid			oid;
	int32		typmod;
	char	   *name;			/* as a remote server reads it, no typmod */
	Oid			ioparam;		/* second argument of "input" */
	FmgrInfo	input;
	FmgrInfo	output;
	bool		nested;			/* its text may have an array in it */
	bool		names;			/* its text follows search_path */
	bool		date;			/* or timestamp, or a domain over one */
	ProxyWire	wire;
	Oid			receive_ioparam;
	FmgrInfo	receive;		/* valid for WIRE_RECEIVE */
	struct ProxyType *element;	/* valid for WIRE_ARRAY */
	int16		typlen;			/* of an element, and so what follows */
	bool		byval;
	char		align;
} ProxyType;

/* One IN or INOUT argument. */
typedef struct ProxyArg
{
	char	   *name;			/* NULL when it has none */
	ProxyType	type;
	bool		split;			/* named by SPLIT, so an array */
	ProxyType	element;		/* valid when split */
} ProxyArg;

/* "plproxy_", 128 bits in hexadecimal, and the end of the string */
#define PREPARED_NAME_LEN 41

/*
 * SQL text with argument references. A remote query is sent to partitions; a
 * local one is a fragment that local.c runs, and what follows "name" is its, but
 * for the place in the body.
 */
typedef struct ProxyQuery
{
	char	   *sql;
	int			nparams;
	int		   *params;			/* argument behind each $n, from 0 */
	const char *strings;		/* standard_conforming_strings when the body
								 * was read; NULL: it has no backslash */
	char		name[PREPARED_NAME_LEN];	/* remote: when prepared, or empty */
	Oid		   *types;			/* of the parameters, known when prepared */
	bool		fresh;			/* runs on a snapshot of its own */
	SPIPlanPtr	plan;			/* NULL before the first run */
	CachedPlan *simple;			/* last plan that was just an expression */
	bool		constant;		/* that expression depends on nothing else */
	bool complex;				/* the last plan was more than an expression */
	char	   *source;			/* as it stands in the body, up to its ";" */
	int			line;			/* of the body, where it begins */
	int			offset;			/* the same in bytes */
} ProxyQuery;

/* A local query while a call runs it. */
typedef struct ProxyLocal
{
	ProxyQuery *query;
	CachedPlan *plan;			/* pinned; NULL: the query runs through SPI */

	/* with "plan" */
	ParamListInfo params;
	ExprState  *expr;
	ExprContext *econtext;
	bool		snapshot;		/* push a fresh snapshot for each run */
	Datum		value;			/* of the last run, in "econtext" */
	bool		isnull;
	Oid			type;			/* base type of "value" */
	bool		type_is_simple; /* it is no row type */

	/* with SPI, which is connected meanwhile */
	Datum	   *values;
	char	   *flags;
	SPITupleTable *rows;		/* of the last run */
} ProxyLocal;

/* Settings of a partition's session that the text of values may depend on. */
typedef enum
{
	SHOWS_DATES = 1,			/* DateStyle */
	SHOWS_INTERVALS = 2,		/* IntervalStyle */
	SHOWS_FLOATS = 4			/* extra_float_digits */
} ProxyShows;

/*
 * What a function returns. The shape of a function declared to return "record"
 * depends on the calling query and belongs to the call; any other belongs to
 * its function.
 */
typedef struct ProxyShape
{
	bool		composite;		/* else one value, column 0 of "desc" */
	TupleDesc	desc;
	int			ncolumns;		/* columns of "desc" that are not dropped */
	ProxyType  *columns;		/* one per attribute; oid invalid if dropped */
	Oid			domain;			/* domain over the row type, or InvalidOid */
	bool		binary;			/* values can come in binary */
	bool		nested;			/* in text there may be arrays in them */
	int			shows;			/* in text: ProxyShows, or'ed */
	ProxyQuery *query;			/* what is sent to partitions */
} ProxyShape;

typedef enum
{
	MAP_CLUSTER,				/* CLUSTER 'name' or function */
	MAP_CONNECT					/* CONNECT 'string', argument or function */
} ProxyMapKind;

typedef enum
{
	RUN_ANY,					/* one partition at random */
	RUN_ALL,					/* every partition */
	RUN_NUMBER,					/* the partition "run_number" */
	RUN_ARGUMENT,				/* hash is the argument "run_number" */
	RUN_QUERY					/* hashes are the rows of "run_query" */
} ProxyRunKind;

/* A compiled function. Immutable but for use_count, marks and lazy plans. */
typedef struct ProxyFunction
{
	Oid			oid;
	MemoryContext cxt;			/* holds this struct and all below */
	int			use_count;		/* calls that run on it, plus the cache */
	bool		stale;			/* must be checked against the catalogs */
	bool		changed;		/* stale, and must be compiled anew */

	/* what it was compiled from */
	TransactionId xmin;			/* of the pg_proc row */
	ItemPointerData tid;
	int			ntypes;
	uint32	   *type_hashes;	/* pg_type syscache hashes it depends on */
	Oid			rowtype;		/* named row type it returns, or InvalidOid */
	uint64		rowtype_id;		/* tupDesc_identifier of "rowtype" */

	char	   *signature;		/* schema.name(types), for messages */
	char	   *application_name;	/* by which partitions show its calls */
	char	   *application_set;	/* the statement that sets it */
	char	   *remote_name;	/* "schema"."name", quoted as needed */
	bool		returns_set;
	int			nargs;
	ProxyArg   *args;

	/* the body */
	ProxyMapKind map;
	char	   *map_name;		/* cluster or connect string, or NULL */
	int			map_arg;		/* argument that holds it, or -1 */
	ProxyQuery *map_query;		/* query that gives it, or NULL */
	ProxyRunKind run;
	int			run_number;
	ProxyQuery *run_query;
	bool		split;			/* some argument is split */
	char	   *target;			/* TARGET, or NULL */
	ProxyQuery *select;			/* SELECT, or NULL */

	ProxyShape *shape;			/* NULL when each call decides */
} ProxyFunction;

/* Are remote queries prepared? */
typedef enum
{
	PREPARE_AUTO,				/* yes, unless a pooler loses them */
	PREPARE_ON,
	PREPARE_OFF
} ProxyPrepare;

/* Settings of a cluster; all zero is the default, a time of 0 means none. */
typedef struct ProxyConfig
{
	int			connection_lifetime;	/* ms */
	int			query_timeout;	/* ms */
	int			connect_timeout;	/* ms */
	int			statement_timeout;	/* ms, for the remote session */
	int			keepalive_idle; /* seconds */
	int			keepalive_interval; /* seconds */
	int			keepalive_count;
	bool		modular_mapping;	/* partition by remainder */
	bool		session_user;	/* connect as session_user, not current_user */
	ProxyPrepare prepared_statements;
	bool		failover;		/* RUN ON ANY goes on with another partition */
	bool		disable_binary; /* values come in text always */
	bool		read_only;		/* remote transactions are read only */
	bool		skip_failed;	/* on_partition_error = skip */
} ProxyConfig;

typedef struct ProxyPartition
{
	char	   *connstr;
	int			first;			/* lowest partition with the same connstr */
} ProxyPartition;

/* A cluster as it was when loaded. Immutable but for use_count, marks and logins. */
typedef struct ProxyCluster
{
	char	   *name;			/* NULL for CONNECT */
	MemoryContext cxt;
	int			use_count;		/* calls that run on it, plus the cache */
	bool		stale;			/* server: load again before the next use */
	bool		replaced;		/* it is not in the cache any more */
	Oid			server;			/* foreign server, or InvalidOid */
	bool		by_functions;	/* plproxy.get_cluster_* describe it */
	Oid			partitions_function;	/* their one for connect strings */
	Oid			owner;			/* who defines it, unless functions do */
	bool		by_caller;		/* a call gave the string of CONNECT */
	struct ProxyLogin *logins;	/* of those who used it, see login.c */
	int			nlogins;
	int32		version;		/* of get_cluster_version() */
	ProxyConfig config;
	int			npartitions;
	ProxyPartition *partitions;
	char	   *hash_ranges;	/* as set, or NULL */
	int			nslots;			/* that "slots" has, 0 without hash_ranges */
	int		   *slots;			/* slot of a hash -> partition */
} ProxyCluster;

/* As whom calls of a user connect to a cluster. Immutable but for the pools. */
typedef struct ProxyLogin
{
	struct ProxyLogin *next;	/* of the same cluster */
	MemoryContext cxt;
	int			use_count;		/* calls that run with it, plus the cache */
	uint64		generation;		/* of the catalogs it was made from */
	int			level;			/* password_required at that time */
	Oid			for_user;		/* the current user */
	Oid			role;			/* who connects */
	const char *user;			/* used unless the connect string has one */
	const char *password;		/* NULL when no mapping gives one */
	bool		mapped;			/* "user" is a user mapping's */
	uint32		mapping_hash;	/* syscache hash of the user mapping, or 0 */

	/* why a password must be used, as an error's detail; NULL if none must */
	const char *distrust;		/* the connect string itself is not trusted */
	const char *distrust_user;	/* the user mapping's "user" is not trusted */

	struct ProxyPool **pools;	/* of each partition, or NULL; connection.c's */
	uint64		pools_known;	/* they are right while this is pools_removed */
} ProxyLogin;

typedef enum
{
	CONN_CONNECTING,			/* PQconnectPoll says what to wait for */
	CONN_IDLE,					/* nothing asked, nothing outstanding */
	CONN_RUNNING,				/* the steps of a task were sent */
	CONN_BROKEN					/* only fit to be closed */
} ProxyConnState;

/* One libpq connection. */
typedef struct ProxyConn
{
	dlist_node	node;			/* in its pool */
	struct ProxyPool *pool;
	PGconn	   *pg;
	ProxyConnState state;
	PostgresPollingStatusType poll; /* while CONN_CONNECTING */
	bool		unsent;			/* libpq still holds bytes to send */
	bool		doomed;			/* close it when its call is done */
	bool		by_connect;		/* CONNECT used it last, not a cluster */
	bool		shows_function; /* its application_name is ours to set */
	bool		needs_password; /* it is of no use unless one was asked for */
	uint64		used_at;		/* number of the use */
	char	   *cluster;		/* that used it last, NULL if CONNECT did */
	int			partition;		/* of "cluster" */
	TimestampTz since;			/* when its last use began or ended */
	int			connect_timeout;	/* ms, from the connect string, or 0 */
	int			lifetime_share; /* its part of connection_lifetime, in 1/1000 */
	TimestampTz connected_at;
	TimestampTz expires_at;		/* 0: lives as long as the backend */
	struct ProxyTask *task;		/* who owns it, NULL in the pool */
	struct ProxyRemote *remote; /* tied transaction it carries, or NULL */

	WaitEventSet *wait_set;		/* latch and this socket; NULL until needed */
	int			wait_pos;		/* of the socket in it */
	uint32		wait_events;	/* what it waits for there */
	uint64		group_id;		/* of the last group_set it was in, or 0 */
	int			group_pos;		/* the same as above, for that set */
	uint32		group_events;

	dlist_head	prepared;		/* statements, latest used first */
	int			nprepared;
	int			nlost;			/* how often some turned out to be gone */

	struct ProxyNotice *notices;	/* malloced, oldest first */
} ProxyConn;

/* What a statement is for that is sent to a partition. */
typedef enum
{
	STEP_SETTING,				/* makes the session's settings ours */
	STEP_BEGIN,					/* begins a transaction or subtransaction */
	STEP_CLOSE,					/* closes a prepared statement */
	STEP_PREPARE,				/* prepares the call's query */
	STEP_QUERY,					/* the call's query */
	STEP_CHECK,					/* asks how values were written */
	STEP_END,					/* ends the transaction */
	STEP_SYNC					/* no statement: an error skips to here */
} ProxyStepKind;

typedef struct ProxyStep
{
	ProxyStepKind kind;
	const char *sql;			/* NULL for STEP_PREPARE, _QUERY and _SYNC */
} ProxyStep;

/* In which way a task can fail. */
typedef enum
{
	FAIL_CONNECT,				/* could not connect; nothing was sent */
	FAIL_LOST,					/* the connection broke */
	FAIL_REMOTE,				/* the partition answered with an error */
	FAIL_ANSWER,				/* it answered with something else than rows */
	FAIL_TIMEOUT				/* it did not answer within query_timeout */
} ProxyFailure;

/* The elements of an argument that SPLIT names. */
typedef struct ProxySplit
{
	Datum	   *values;
	bool	   *nulls;
	int16		typlen;
	bool		byval;
	char		align;
} ProxySplit;

/* One host of a connect string that names several. */
typedef struct ProxyHost
{
	char	   *host;			/* NULL if not given; so the others */
	char	   *hostaddr;
	char	   *port;
	const char *attrs;			/* target_session_attrs */
	bool		taken;			/* while the order is being made */
} ProxyHost;

/* What to try one after the other to connect one task. */
typedef struct ProxyHosts
{
	int			n;
	int			current;
	ProxyHost	list[FLEXIBLE_ARRAY_MEMBER];
} ProxyHosts;

/* One partition's part in a call. */
typedef struct ProxyTask
{
	struct ProxyCall *call;
	int			partition;
	const char **values;		/* parameters, as the query wants them */
	int		   *lengths;		/* of values in binary; NULL: all are text */
	int		   *formats;		/* 1: that value is in binary; NULL: none is */
	int			nelements;		/* SPLIT: how many elements it got */
	int		   *elements;		/* SPLIT: which ones, as array indexes from 0 */
	ProxyConn  *conn;			/* NULL when it has none (any more) */
	uint64		use;			/* used_at of the last it had, or 0 */
	int			wait_pos;		/* in the call's wait_set, valid while pending */
	uint32		wait_events;	/* what that waits for */
	TimestampTz connect_by;		/* 0: no limit */
	ProxyHosts *hosts;			/* NULL: libpq knows where to connect */
	char	   *earlier;		/* what other hosts and partitions said, or
								 * NULL */

	/* the conversation: what was sent, and how much of it is answered */
	ProxyStep  *steps;
	int			nsteps;
	int			maxsteps;
	int			step;			/* the one whose answer is awaited */
	bool		pipeline;		/* more than one step: ends with STEP_SYNC */
	bool		prepared;		/* the query runs as a prepared statement */
	bool		in_transaction; /* one that is open before or afterwards */
	bool		guarded;		/* STEP_BEGIN must not be cancelled */
	bool		again;			/* the query is sent again at the end */
	bool		outdated;		/* prepare it anew for that */
	int			nhealed;		/* how often it was sent again */
	bool		answered;		/* nothing is left that could take long */
	bool		done;
	bool		failed;			/* the error thrown is about its partition */
	bool		counted;		/* for plproxy_stat_calls */
	bool		counted_failed; /* as an error */
	bool		skipped;		/* it failed, and the call goes on without it */

	/* the answer */
	PGresult   *result;			/* being looked at; ours to clear */
	const char *broken;			/* why its connection is, or NULL */
	int		   *fields;			/* field of each column; NULL: not known yet */
	Tuplestorestate *store;		/* rows that wait for their turn, or NULL */
	bool		beyond_ascii;	/* some text is, so its encoding matters */
	const char *recoded;		/* the encoding that the session has ended
								 * with, NULL if that is ours */
	int64		rows;			/* that it has answered */
	int64		bytes;			/* of values in them, as received */
} ProxyTask;

/* One call of a function. Lives in "cxt", never outlives the handler's frame. */
typedef struct ProxyCall
{
	ProxyFunction *func;
	FunctionCallInfo fcinfo;
	MemoryContext cxt;
	MemoryContext caller_cxt;	/* where the result goes */
	ProxyShape *shape;
	Datum	   *args;			/* func->nargs values */
	bool	   *nulls;
	bool		sends_null;		/* in an array that goes as text */
	ProxyCluster *cluster;		/* pinned */
	bool		tied;			/* to the local transaction */
	ProxyLogin *login;			/* pinned */
	int			ntasks;
	ProxyTask  *tasks;			/* in the order the partitions were chosen */
	int		   *task_of;		/* partition -> index in "tasks", or -1 */
	int			pending;		/* tasks not done */
	TimestampTz query_by;		/* 0: no limit */
	bool		skipping;		/* partitions that fail are left out */
	int			nskipped;		/* so many were */
	bool	   *tried;			/* partitions that were down; NULL: none was */
	bool		named;			/* the error just made names its partition */
	bool		tracked;		/* "started" is valid, tasks will be counted */
	instr_time	started;
	WaitEventSet *wait_set;		/* over all pending tasks, or NULL */
	bool		wait_stale;		/* it must be built anew */
	int			nwaiting;		/* sockets in it */

	/* result.c: where rows go */
	bool		binary;			/* values come in binary */
	Tuplestorestate *store;		/* a set, as the executor gets it */
	int			turn;			/* the task whose rows go straight there */
	bool		retractable;	/* none may, for a task can still drop its
								 * rows */
	PGresult   *row;			/* no set: the first row; ours to clear */
	struct ProxyTask *row_task; /* whose row that is */
	int			column;			/* being converted; -1: the row as a whole */
	Datum	   *values;			/* room for a row */
	bool	   *isnull;
	MemoryContext row_cxt;		/* what is needed while rows are converted */
	int64		row_bytes;		/* of rows since it was reset */
} ProxyCall;

/* handler.c */
extern PGDLLEXPORT Datum plproxy_call_handler(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum plproxy_validator(PG_FUNCTION_ARGS);

/* function.c */
extern void plproxy_function_init(void);
extern ProxyFunction *plproxy_function_get(Oid oid);
extern void plproxy_function_release(ProxyFunction *func);
extern void plproxy_function_check(Oid oid);

/* scanner.c */
typedef enum
{
	TOKEN_END,
	TOKEN_SEMICOLON,
	TOKEN_COMMA,
	TOKEN_NUMBER,
	TOKEN_STRING,				/* "text" holds the unquoted string */
	TOKEN_IDENT,				/* "text" holds the dotted chain */
	TOKEN_KEYWORD,				/* an identifier that the language reserves */
	TOKEN_OTHER					/* any other character */
} ProxyTokenKind;

typedef struct ProxyScanner
{
	ProxyFunction *func;
	const char *body;
	const char *pos;
	int			pos_line;
	const char *start;			/* of the last token */
	int			line;			/* of the last token */
	ProxyTokenKind kind;		/* of the last token */
	StringInfoData text;		/* of the last token */
} ProxyScanner;

typedef struct ProxyQueryBuilder ProxyQueryBuilder;

extern void plproxy_scanner_begin(ProxyScanner *scanner, ProxyFunction *func, const char *body);
extern ProxyTokenKind plproxy_scanner_next(ProxyScanner *scanner);
extern bool plproxy_scanner_is(ProxyScanner *scanner, const char *keyword);
extern bool plproxy_scanner_at(ProxyScanner *scanner, const char *characters);
extern void plproxy_scanner_unread(ProxyScanner *scanner);
extern void plproxy_scanner_sql(ProxyScanner *scanner, ProxyQueryBuilder *builder);
pg_noreturn extern void plproxy_scanner_error(ProxyScanner *scanner);
extern int	plproxy_scanner_position(ProxyScanner *scanner, const char *at);

/* parser.c */
extern void plproxy_parser_run(ProxyFunction *func, const char *body);
extern int	plproxy_parser_argument(ProxyFunction *func, const char *ident, int len);

/* query.c */
extern ProxyQueryBuilder *plproxy_query_begin(ProxyFunction *func, bool local);
extern void plproxy_query_add(ProxyQueryBuilder *builder, const char *text, int len);
extern bool plproxy_query_add_word(ProxyQueryBuilder *builder, const char *word, int len);
extern ProxyQuery *plproxy_query_finish(ProxyQueryBuilder *builder);
extern int	plproxy_query_origin(ProxyFunction *func, const char *fragment, int offset);
extern ProxyQuery *plproxy_query_default(ProxyFunction *func, ProxyShape *shape, bool dynamic);

/* local.c */
extern void plproxy_local_begin(ProxyLocal *local, ProxyQuery *query, ProxyFunction *func);
extern uint64 plproxy_local_run(ProxyLocal *local, const Datum *args, const bool *nulls);
extern Datum plproxy_local_value(ProxyLocal *local, uint64 row, Oid *type, bool *isnull);
extern void plproxy_local_end(ProxyLocal *local);
extern Oid	plproxy_local_check(ProxyQuery *query, ProxyFunction *func);
extern void plproxy_local_free(ProxyQuery *query);
extern List *plproxy_local_parse(const char *sql, int *error_at);

/* type.c */
extern void plproxy_type_init(ProxyType *type, Oid oid, int32 typmod, bool result, MemoryContext cxt);
extern char *plproxy_type_name(Oid oid);
extern bool plproxy_type_is_string(Oid oid);
extern bool plproxy_type_shows_null(const ProxyType *type, const char *value);
extern int	plproxy_type_begin_output(const ProxyFunction *func);
extern int	plproxy_type_begin_input(void);
extern void plproxy_type_end(int nestlevel);

/* cluster.c */
extern void plproxy_cluster_init(void);
extern ProxyCluster *plproxy_cluster_get(const char *name);
extern ProxyCluster *plproxy_cluster_connect(const char *connstr, ProxyFunction *func);
extern void plproxy_cluster_release(ProxyCluster *cluster);
extern int	plproxy_cluster_partition(ProxyCluster *cluster, int64 hash);
extern PGDLLEXPORT Datum plproxy_partition_of(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum plproxy_partitions(PG_FUNCTION_ARGS);

/* load.c */
extern bool plproxy_load_still_there(const ProxyCluster *cluster);
extern Oid	plproxy_load_server_oid(const char *name);
extern ProxyCluster *plproxy_load_server(const char *name, Oid serverid);
extern ProxyCluster *plproxy_load_functions(const char *name, int32 version);
extern int32 plproxy_load_version(const char *name);
extern Oid	plproxy_load_function(void);
extern ProxyCluster *plproxy_load_begin(const char *name);
extern void plproxy_load_finish(ProxyCluster *cluster, List *connstrs);
extern PGDLLEXPORT Datum plproxy_fdw_validator(PG_FUNCTION_ARGS);

/* login.c */
extern void plproxy_login_init(void);
extern ProxyLogin *plproxy_login_get(ProxyCluster *cluster);
extern void plproxy_login_release(ProxyLogin *login);
extern void plproxy_login_forget(ProxyCluster *cluster);
extern void plproxy_login_check_usage(const ProxyCluster *cluster, Oid role);
extern Oid	plproxy_login_owner(Oid function);

/* setting.c */
extern bool plproxy_setting_exists(const char *name);
extern char *plproxy_setting_list(void);
extern void plproxy_setting_apply(ProxyCluster *cluster, const char *name, const char *value);
extern int	plproxy_setting_partition(const char *name);
extern List *plproxy_setting_partitions(List *options);
extern void plproxy_setting_slots(ProxyCluster *cluster, int npartitions);

/* hash.c */
extern PGDLLEXPORT Datum plproxy_hash_text(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum plproxy_hash_bytea(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum plproxy_hash_int8(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum plproxy_hash_uuid(PG_FUNCTION_ARGS);

/* connection.c */
extern int	plproxy_kept_wait_sets; /* connections that have a wait_set */

extern ProxyConn *plproxy_connection_acquire(ProxyTask *task);
extern void plproxy_connection_restart(ProxyTask *task);
extern void plproxy_connection_release(ProxyConn *conn);
extern bool plproxy_connection_is_there(ProxyConn *conn);
extern ProxyConn *plproxy_connection_used(uint64 use);
extern const char *plproxy_connection_key(const ProxyConn *conn);
extern void plproxy_connection_discard(const char *connstr);
extern void plproxy_connection_mapping_changed(uint32 hash);
extern void plproxy_connection_sweep(void);
extern void plproxy_connection_settings(ProxyTask *task);
extern PGDLLEXPORT Datum plproxy_connections(PG_FUNCTION_ARGS);

/* connect.c */
extern PGconn *plproxy_connect_start(ProxyTask *task, ProxyConn *conn);
extern void plproxy_connect_check(ProxyTask *task);
extern bool plproxy_connect_knows(const char *keyword);
extern void plproxy_connect_validate(const char *option, const char *connstr);

/* notice.c */
extern void plproxy_notice_receive(void *conn, const PGresult *result);
extern void plproxy_notice_report(ProxyConn *conn, bool report);

/* cancel.c */
extern void plproxy_cancel(ProxyConn **conns, int n, TimestampTz give_up);

/* failover.c */
extern ProxyHosts *plproxy_failover_hosts(ProxyTask *task, const char *host, const char *hostaddr,
										  const char *port, const char *attrs, bool random);
extern bool plproxy_failover_host(ProxyTask *task, const char *message);
extern const char *plproxy_failover_silent(ProxyTask *task);
extern int	plproxy_failover_any(ProxyCall *call);
extern bool plproxy_failover_partition(ProxyTask *task, ProxyFailure failure, const char *message);

/* call.c */
extern Datum plproxy_call_run(ProxyFunction *func, FunctionCallInfo fcinfo);

/* split.c */
extern ProxySplit *plproxy_split_begin(ProxyCall *call, int *length);
extern void plproxy_split_value(const ProxyArg *arg, const ProxySplit *array, ProxyTask *task, int param);

/* execute.c */
typedef enum
{
	WAIT_CONNECT,				/* for connections to be made */
	WAIT_QUERY,					/* for partitions to answer */
	WAIT_CANCEL,				/* for partitions to end what was cancelled */
	WAIT_TRANSACTION			/* for partitions to commit or roll back */
} ProxyWait;

extern void plproxy_execute(ProxyCall *call);
extern ErrorData * plproxy_execute_abort(ProxyCall *call);
extern WaitEventSet *plproxy_wait_set(int nsockets);
extern void plproxy_execute_forget(ProxyConn *conn);
extern bool plproxy_execute_farewell(const PGresult *result);
extern uint32 plproxy_wait_event(ProxyWait wait);
extern void plproxy_execute_step(ProxyTask *task, ProxyStepKind kind, const char *sql);

/* prepared.c */
extern void plproxy_prepared_steps(ProxyTask *task);
extern void plproxy_prepared_done(ProxyTask *task);
extern bool plproxy_prepared_heal(ProxyTask *task);
extern void plproxy_prepared_forget(ProxyConn *conn);

/* transaction.c */
extern void plproxy_transaction_init(void);
extern bool plproxy_transaction_tied(void);
extern ProxyConn *plproxy_transaction_conn(ProxyTask *task, const char *key);
extern void plproxy_transaction_begin(ProxyTask *task);
extern void plproxy_transaction_finish(ProxyTask *task);
extern bool plproxy_transaction_keep(ProxyConn *conn);
extern void plproxy_transaction_exit(void);

/* result.c */
extern ProxyShape *plproxy_result_shape(ProxyFunction *func, FunctionCallInfo fcinfo);
extern bool plproxy_result_fits(ProxyFunction *func, FunctionCallInfo fcinfo);
extern void plproxy_result_begin(ProxyCall *call);
extern void plproxy_result_rows(ProxyTask *task);
extern void plproxy_result_done(ProxyTask *task);
extern void plproxy_result_restart(ProxyTask *task);
extern Datum plproxy_result_return(ProxyCall *call);
extern void plproxy_result_abort(ProxyCall *call);

/* stat.c */
typedef enum
{
	OUTCOME_DONE,				/* all rows have arrived */
	OUTCOME_FAILED,				/* the partition or its connection failed */
	OUTCOME_CANCELED			/* the call ended before the partition did */
} ProxyOutcome;

extern bool plproxy_show_function;	/* in application_name */

extern void plproxy_stat_init(void);
extern void plproxy_stat_begin(ProxyCall *call);
extern void plproxy_stat_task(ProxyTask *task, ProxyOutcome outcome);
extern PGDLLEXPORT Datum plproxy_stat_calls(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum plproxy_stat_reset(PG_FUNCTION_ARGS);

/* transfer.c */
extern void plproxy_transfer_init(ProxyShape *shape, bool cast);
extern void plproxy_transfer_steps(ProxyTask *task);
extern void plproxy_transfer_check(ProxyTask *task);
extern void plproxy_transfer_encoding(ProxyTask *task);
extern void plproxy_transfer_done(ProxyTask *task);
extern void plproxy_transfer_date(ProxyTask *task, Oid remote, const char *value);
extern Datum plproxy_transfer_text(ProxyTask *task, ProxyType *type, char *value, int len);
extern Datum plproxy_transfer_binary(ProxyTask *task, ProxyType *type, char *value, int len);

/*
 * error.c
 *
 * With plproxy.compat_sqlstates our own errors have the SQLSTATE that they had in
 * PL/Proxy 2.x. What comes from a partition keeps its own: (errcode) (...).
 */
#define errcode(sqlstate) errcode(plproxy_error_sqlstate(sqlstate))

extern void plproxy_error_init(void);
extern int	plproxy_error_sqlstate(int sqlstate);
extern void plproxy_error_function(void *func);
extern void plproxy_error_waiting(void *call);
extern void plproxy_error_value(void *arg);
extern void plproxy_error_task(ProxyTask *task, ProxyFailure failure, const char *message, bool skip);
extern int	plproxy_error_partition(ProxyTask *task);
extern int	plproxy_error_answers(ProxyCall *call);
extern const char *plproxy_error_text(const char *text);
extern char *plproxy_error_partition_name(const ProxyTask *task);
extern int	plproxy_error_context(ProxyTask *task);

#endif							/* PLPROXY_H */
