/*
 * expression.c
 *	  Trigger arguments whose value is SQL over the row: ev_*= and when=.
 *
 * A bare column name is a parameter of the prepared "select EXPRESSION"; the
 * parser itself finds the names through its hooks, so that strings, comments and
 * subselects need no care. Only names that SQL reserves, like user and order, would
 * never reach them: the server's lexer finds these, and the parameter is written in
 * their place. Parameter n is attribute n of the row.
 *
 * The plan belongs to the setup: setup.c frees it. It runs as the user who changes
 * the row and sees what the changing statement saw when it began.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/keywords.h"
#include "nodes/makefuncs.h"
#include "nodes/params.h"
#include "parser/parse_node.h"
#include "parser/scanner.h"
#include "parser/scansup.h"
#include "utils/builtins.h"

#include "triggers.h"

/* the first token number that is neither a character nor one of the lexer's own */
#define FIRST_KEYWORD 10000

/* function prototypes */
static void evaluate(TrigaCall *call, TrigaExpression *expr);
static void prepare(TrigaExpression *expr);
static char *replace_reserved(const TrigaSetup *setup, const char *source);
static const TrigaColumn *reserved_column(const TrigaSetup *setup, int token, const char *written);
static void parser_setup(ParseState *pstate, void *arg);
static Node *resolve_bare(ParseState *pstate, ColumnRef *cref);
static Node *resolve_unknown(ParseState *pstate, ColumnRef *cref, Node *var);
static Node *resolve_param(ParseState *pstate, ParamRef *pref);
static const char *single_name(ColumnRef *cref);
static Node *build_param(const TrigaColumn *col, int location);

/* Does the row make an event? */
bool
triga_when(TrigaCall *call)
{
	TrigaExpression *expr = &call->setup->expressions[EV_WHEN];
	Oid			type;
	bool		isnull;
	Datum		result;

	if (expr->source == NULL)
		return true;
	evaluate(call, expr);
	type = SPI_tuptable->tupdesc->natts == 1 ? SPI_gettypeid(SPI_tuptable->tupdesc, 1) : InvalidOid;
	if (type != BOOLOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("when= query result must be boolean, got=%u", type),
				 OidIsValid(type) ? errdetail("The type of the expression is %s: %s",
											  format_type_be(type), expr->source)
				 : errdetail("The option is empty.")));
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("when= should not be NULL"),
				 errdetail("The expression is: %s", expr->source),
				 errhint("Say with coalesce() what a NULL means.")));
	SPI_freetuptable(SPI_tuptable);
	return DatumGetBool(result);
}

/* The text of an event field, NULL if the expression is NULL. */
char *
triga_expression(TrigaCall *call, EventField field)
{
	char	   *result = NULL;

	evaluate(call, &call->setup->expressions[field]);
	if (SPI_tuptable->tupdesc->natts == 1)
		result = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return result;
}

/* Leaves one row of one column in SPI_tuptable; of none if the option is empty. */
static void
evaluate(TrigaCall *call, TrigaExpression *expr)
{
	TrigaSetup *setup = call->setup;
	SPIExecuteOptions options = {.read_only = true};
	int			rc;

	if (expr->plan == NULL)
		prepare(expr);

	options.params = makeParamList(setup->natts);
	for (int i = 0; i < setup->natts; i++)
	{
		options.params->params[i].value = (Datum) 0;
		options.params->params[i].isnull = true;
		options.params->params[i].pflags = 0;
		options.params->params[i].ptype = InvalidOid;
	}
	for (int i = 0; i < setup->ncolumns; i++)
	{
		const TrigaColumn *col = &setup->columns[i];
		ParamExternData *param = &options.params->params[col->index];

		param->value = call->row->values[col->index];
		param->isnull = call->row->nulls[col->index] || (col->generated && !call->row->computed);
		param->ptype = col->typid;
	}

	rc = SPI_execute_plan_extended(expr->plan, &options);
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "trigger argument %s= failed: %s", expr->option, SPI_result_code_string(rc));
	if (SPI_processed != 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("Expect 1 row from override query, got " UINT64_FORMAT, SPI_processed),
				 errdetail("The expression of %s= is: %s", expr->option, expr->source)));
	if (SPI_tuptable->tupdesc->natts > 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("trigger argument %s= must be one value, got %d columns",
						expr->option, SPI_tuptable->tupdesc->natts),
				 errdetail("The expression is: %s", expr->source)));
}

static void
prepare(TrigaExpression *expr)
{
	SPIPrepareOptions options = {
		.parserSetup = parser_setup,
		.parserSetupArg = expr->setup
	};
	char	   *query = psprintf("select %s", replace_reserved(expr->setup, expr->source));
	SPIPlanPtr	plan = SPI_prepare_extended(query, &options);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
	expr->plan = plan;
}

/*
 * Writes $n where the source names a column by a reserved word, spelled exactly as
 * the column, neither quoted nor qualified nor called as a function.
 */
static char *
replace_reserved(const TrigaSetup *setup, const char *source)
{
	uint16	   *tokens = palloc(sizeof(uint16) * ScanKeywords.num_keywords);
	core_yyscan_t scanner;
	core_yy_extra_type extra;
	core_YYSTYPE value;
	YYLTYPE		location;
	StringInfoData out;
	const TrigaColumn *found = NULL;	/* by the token before this one */
	int			found_at = 0;
	int			done = 0;		/* source is copied up to here */
	int			token;
	int			previous = 0;

	/*
	 * keywords come back by their number, above all that the lexer returns
	 * else
	 */
	for (int i = 0; i < ScanKeywords.num_keywords; i++)
		tokens[i] = FIRST_KEYWORD + i;
	initStringInfo(&out);
	scanner = scanner_init(source, &extra, &ScanKeywords, tokens);
	do
	{
		token = core_yylex(&value, &location, scanner);
		if (found && token != '.' && token != '(')
		{
			appendBinaryStringInfo(&out, source + done, found_at - done);
			appendStringInfo(&out, "$%d", found->index + 1);
			done = found_at + strlen(found->name);
		}
		found = previous == '.' ? NULL : reserved_column(setup, token, source + location);
		found_at = location;
		previous = token;
	} while (token != 0);
	scanner_finish(scanner);
	appendStringInfoString(&out, source + done);
	return out.data;
}

static const TrigaColumn *
reserved_column(const TrigaSetup *setup, int token, const char *written)
{
	int			keyword = token - FIRST_KEYWORD;

	if (keyword < 0 ||
		(ScanKeywordCategories[keyword] != RESERVED_KEYWORD &&
		 ScanKeywordCategories[keyword] != TYPE_FUNC_NAME_KEYWORD))
		return NULL;
	for (int i = 0; i < setup->ncolumns; i++)
	{
		const TrigaColumn *col = &setup->columns[i];
		size_t		len = strlen(col->name);

		if (len == strlen(GetScanKeyword(keyword, &ScanKeywords)) &&
			strncmp(written, col->name, len) == 0)
			return col;
	}
	return NULL;
}

static void
parser_setup(ParseState *pstate, void *arg)
{
	pstate->p_pre_columnref_hook = resolve_bare;
	pstate->p_post_columnref_hook = resolve_unknown;
	pstate->p_paramref_hook = resolve_param;
	pstate->p_ref_hook_state = arg;
}

/*
 * An unquoted name that is written exactly as the column's is the column, upper
 * case and all: the parser has folded it, so look at what was written.
 */
static Node *
resolve_bare(ParseState *pstate, ColumnRef *cref)
{
	const TrigaSetup *setup = pstate->p_ref_hook_state;
	const char *name = single_name(cref);

	if (name == NULL || cref->location < 0)
		return NULL;
	for (int i = 0; i < setup->ncolumns; i++)
	{
		const TrigaColumn *col = &setup->columns[i];
		size_t		len = strlen(col->name);

		if (strlen(name) == len &&
			strncmp(pstate->p_sourcetext + cref->location, col->name, len) == 0 &&
			strcmp(name, downcase_truncate_identifier(col->name, len, false)) == 0)
			return build_param(col, cref->location);
	}
	return NULL;
}

/* A quoted name is the column if it is nothing else. */
static Node *
resolve_unknown(ParseState *pstate, ColumnRef *cref, Node *var)
{
	const TrigaSetup *setup = pstate->p_ref_hook_state;
	const char *name = single_name(cref);

	if (var != NULL || name == NULL)
		return NULL;
	for (int i = 0; i < setup->ncolumns; i++)
	{
		if (strcmp(setup->columns[i].name, name) == 0)
			return build_param(&setup->columns[i], cref->location);
	}
	return NULL;
}

static Node *
resolve_param(ParseState *pstate, ParamRef *pref)
{
	const TrigaSetup *setup = pstate->p_ref_hook_state;

	for (int i = 0; i < setup->ncolumns; i++)
	{
		if (setup->columns[i].index + 1 == pref->number)
			return build_param(&setup->columns[i], pref->location);
	}
	return NULL;
}

static const char *
single_name(ColumnRef *cref)
{
	if (list_length(cref->fields) != 1 || !IsA(linitial(cref->fields), String))
		return NULL;
	return strVal(linitial(cref->fields));
}

static Node *
build_param(const TrigaColumn *col, int location)
{
	Param	   *param = makeNode(Param);

	param->paramkind = PARAM_EXTERN;
	param->paramid = col->index + 1;
	param->paramtype = col->typid;
	param->paramtypmod = -1;
	param->paramcollid = col->collation;
	param->location = location;
	return (Node *) param;
}
