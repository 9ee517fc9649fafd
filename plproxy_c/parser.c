/*
 * parser.c
 *	  Reads a function body into its ProxyFunction.
 *
 *	body	:= { statement }
 *	statement := CONNECT ( string | argument | call ) ';'
 *			   | CLUSTER ( string | argument | call ) ';'
 *			   | RUN ON ( ALL | ANY | number | argument | call ) ';'
 *			   | SPLIT ( ALL | argument { ',' argument } ) ';'
 *			   | TARGET name ';'
 *			   | SELECT sql ';'
 *	call	:= name '(' sql
 *
 * Statements come in any order, each kind at most once. The caller has filled in
 * the arguments; what belongs together is checked when the body has been read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/string.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"

#include "plproxy.h"

typedef enum
{
	STMT_CONNECT = 1 << 0,
	STMT_CLUSTER = 1 << 1,
	STMT_RUN = 1 << 2,
	STMT_SPLIT = 1 << 3,
	STMT_TARGET = 1 << 4,
	STMT_SELECT = 1 << 5
} ProxyStatement;

typedef struct StatementKeyword
{
	const char *keyword;
	ProxyStatement bit;
} StatementKeyword;

static void parse_map(ProxyScanner *scanner, ProxyMapKind kind);
static void parse_run(ProxyScanner *scanner);
static void parse_split(ProxyScanner *scanner);
static void parse_target(ProxyScanner *scanner);
static void parse_select(ProxyScanner *scanner);
static ProxyQuery *parse_call(ProxyScanner *scanner);
static int	parse_argument(ProxyScanner *scanner);
static void parse_end(ProxyScanner *scanner);
static void split_argument(ProxyScanner *scanner, ProxyArg *arg, int number);
static void check_body(ProxyFunction *func, int line, int seen);

static const StatementKeyword statements[] = {
	{"connect", STMT_CONNECT},
	{"cluster", STMT_CLUSTER},
	{"run", STMT_RUN},
	{"split", STMT_SPLIT},
	{"target", STMT_TARGET},
	{"select", STMT_SELECT},
};

void
plproxy_parser_run(ProxyFunction *func, const char *body)
{
	ProxyScanner scanner;
	int			seen = 0;

	func->map_arg = -1;
	func->run = RUN_ANY;
	plproxy_scanner_begin(&scanner, func, body);

	while (plproxy_scanner_next(&scanner) != TOKEN_END)
	{
		ProxyStatement statement = 0;

		for (int i = 0; i < lengthof(statements); i++)
		{
			if (plproxy_scanner_is(&scanner, statements[i].keyword))
				statement = statements[i].bit;
		}
		if (statement == 0)
			plproxy_scanner_error(&scanner);
		if (seen & statement)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("line %d: only one %s statement is allowed",
							scanner.line, asc_toupper(scanner.text.data, scanner.text.len))));
		seen |= statement;

		switch (statement)
		{
			case STMT_CONNECT:
				parse_map(&scanner, MAP_CONNECT);
				break;
			case STMT_CLUSTER:
				parse_map(&scanner, MAP_CLUSTER);
				break;
			case STMT_RUN:
				parse_run(&scanner);
				break;
			case STMT_SPLIT:
				parse_split(&scanner);
				break;
			case STMT_TARGET:
				parse_target(&scanner);
				break;
			case STMT_SELECT:
				parse_select(&scanner);
				break;
		}
	}
	check_body(func, scanner.line, seen);
}

/* CONNECT and CLUSTER */
static void
parse_map(ProxyScanner *scanner, ProxyMapKind kind)
{
	ProxyFunction *func = scanner->func;

	func->map = kind;
	switch (plproxy_scanner_next(scanner))
	{
		case TOKEN_STRING:
			func->map_name = pstrdup(scanner->text.data);
			parse_end(scanner);
			break;
		case TOKEN_IDENT:
		case TOKEN_KEYWORD:
			if (plproxy_scanner_at_call(scanner))
			{
				func->map_query = parse_call(scanner);
				break;
			}
			func->map_arg = parse_argument(scanner);
			if (!plproxy_type_is_string(func->args[func->map_arg].type.oid))
				ereport(ERROR,
						(errcode(ERRCODE_DATATYPE_MISMATCH),
						 errmsg("line %d: argument \"%s\" must be of type text, not %s",
								scanner->line, scanner->text.data,
								format_type_be(func->args[func->map_arg].type.oid))));
			parse_end(scanner);
			break;
		default:
			plproxy_scanner_error(scanner);
	}
}

static void
parse_run(ProxyScanner *scanner)
{
	ProxyFunction *func = scanner->func;

	(void) plproxy_scanner_next(scanner);
	if (!plproxy_scanner_is(scanner, "on"))
		plproxy_scanner_error(scanner);

	switch (plproxy_scanner_next(scanner))
	{
		case TOKEN_NUMBER:
			func->run = RUN_NUMBER;
			errno = 0;
			func->run_number = strtoint(scanner->text.data, NULL, 10);
			if (errno != 0)
				ereport(ERROR,
						(errcode(ERRCODE_SYNTAX_ERROR),
						 errmsg("line %d: partition number %s is out of range",
								scanner->line, scanner->text.data)));
			parse_end(scanner);
			break;
		case TOKEN_IDENT:
		case TOKEN_KEYWORD:
			if (plproxy_scanner_at_call(scanner))
			{
				func->run = RUN_QUERY;
				func->run_query = parse_call(scanner);
				break;
			}
			if (plproxy_scanner_is(scanner, "all"))
				func->run = RUN_ALL;
			else if (plproxy_scanner_is(scanner, "any"))
				func->run = RUN_ANY;
			else
			{
				func->run = RUN_ARGUMENT;
				func->run_number = parse_argument(scanner);
			}
			parse_end(scanner);
			break;
		default:
			plproxy_scanner_error(scanner);
	}
}

static void
parse_split(ProxyScanner *scanner)
{
	ProxyFunction *func = scanner->func;

	(void) plproxy_scanner_next(scanner);
	if (plproxy_scanner_is(scanner, "all"))
	{
		for (int i = 0; i < func->nargs; i++)
		{
			if (OidIsValid(get_element_type(func->args[i].type.oid)))
				split_argument(scanner, &func->args[i], i + 1);
		}
		parse_end(scanner);
		return;
	}
	for (;;)
	{
		int			arg = parse_argument(scanner);

		if (func->args[arg].split)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("line %d: SPLIT names argument \"%s\" twice",
							scanner->line, scanner->text.data)));
		split_argument(scanner, &func->args[arg], arg + 1);

		if (plproxy_scanner_next(scanner) == TOKEN_SEMICOLON)
			return;
		if (scanner->kind != TOKEN_COMMA)
			plproxy_scanner_error(scanner);
		(void) plproxy_scanner_next(scanner);
	}
}

static void
parse_target(ProxyScanner *scanner)
{
	if (plproxy_scanner_next(scanner) != TOKEN_IDENT || scanner->text.data[0] == '$')
		plproxy_scanner_error(scanner);
	scanner->func->target = pstrdup(scanner->text.data);
	parse_end(scanner);
}

static void
parse_select(ProxyScanner *scanner)
{
	ProxyQueryBuilder *builder = plproxy_query_begin(scanner->func, false);

	plproxy_query_add(builder, "select ", 7);
	plproxy_scanner_sql(scanner, builder);
	scanner->func->select = plproxy_query_finish(builder);
}

/* A function call; the last token is its name, which is no argument. */
static ProxyQuery *
parse_call(ProxyScanner *scanner)
{
	ProxyQueryBuilder *builder;

	/* a string or number would have been another token */
	if (scanner->text.data[0] == '$')
		plproxy_scanner_error(scanner);
	builder = plproxy_query_begin(scanner->func, true);
	plproxy_query_add(builder, scanner->text.data, scanner->text.len);
	plproxy_scanner_sql(scanner, builder);
	return plproxy_query_finish(builder);
}

/* The last token must name an argument. */
static int
parse_argument(ProxyScanner *scanner)
{
	int			arg;

	if (scanner->kind != TOKEN_IDENT)
		plproxy_scanner_error(scanner);
	arg = plproxy_function_arg_lookup(scanner->func, scanner->text.data, scanner->text.len);
	if (arg < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("line %d: \"%s\" is no argument of the function",
						scanner->line, scanner->text.data)));
	return arg;
}

static void
parse_end(ProxyScanner *scanner)
{
	if (plproxy_scanner_next(scanner) != TOKEN_SEMICOLON)
		plproxy_scanner_error(scanner);
}

static void
split_argument(ProxyScanner *scanner, ProxyArg *arg, int number)
{
	Oid			element = get_element_type(arg->type.oid);

	if (!OidIsValid(element))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("line %d: SPLIT wants arrays, but argument %d is of type %s",
						scanner->line, number, format_type_be(arg->type.oid))));
	arg->split = true;
	plproxy_type_init(&arg->element, element, -1, false, CurrentMemoryContext);
	scanner->func->split = true;
}

/* Which statements need and exclude which? */
static void
check_body(ProxyFunction *func, int line, int seen)
{
	if ((seen & STMT_CONNECT) && (seen & (STMT_CLUSTER | STMT_RUN)))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: CONNECT cannot be used with %s", line,
						(seen & STMT_CLUSTER) ? "CLUSTER" : "RUN"),
				 errhint("CONNECT calls one database; CLUSTER and RUN choose among partitions.")));
	if (!(seen & (STMT_CONNECT | STMT_CLUSTER)))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: CLUSTER statement is missing", line),
				 errhint("Write CLUSTER 'name'; or CONNECT 'connect string';")));
	if ((seen & STMT_TARGET) && (seen & STMT_SELECT))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: TARGET cannot be used with SELECT", line)));
	if (func->run == RUN_ALL && !func->returns_set)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("line %d: RUN ON ALL needs a function that returns a set", line),
				 errhint("Declare it with RETURNS SETOF or RETURNS TABLE.")));
	if (func->run == RUN_ARGUMENT)
	{
		ProxyArg   *arg = &func->args[func->run_number];
		ProxyType  *type = arg->split ? &arg->element : &arg->type;

		if (type->oid != INT2OID && type->oid != INT4OID && type->oid != INT8OID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("line %d: RUN ON wants a hash of type smallint, integer or bigint, not %s",
							line, format_type_be(type->oid))));
	}
}
