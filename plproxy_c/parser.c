/*
 * parser.c
 *	  Reads a function body into its ProxyFunction.
 *
 *	body	:= { statement }
 *	statement := CONNECT ( string | argument | expression ) ';'
 *			   | CLUSTER ( string | argument | expression ) ';'
 *			   | RUN ON ( ALL | ANY | number | argument | expression ) ';'
 *			   | SPLIT ( ALL | argument { ',' argument } ) ';'
 *			   | TARGET name ';'
 *			   | SELECT sql ';'
 *	expression := '(' sql | ( name | string | number ) operator sql
 *
 * The "(" of a function call is an operator here. What begins an expression is
 * chosen so that a forgotten ';' is found where it is missing.
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

/* A kind of statement, and where it stands in the body. */
typedef enum
{
	STMT_CONNECT,
	STMT_CLUSTER,
	STMT_RUN,
	STMT_SPLIT,
	STMT_TARGET,
	STMT_SELECT
} ProxyStatement;

#define STMT_COUNT (STMT_SELECT + 1)

typedef struct StatementPlace
{
	const char *start;			/* NULL when there is none */
	int			line;
} StatementPlace;

static void parse_map(ProxyScanner *scanner, ProxyMapKind kind);
static void parse_run(ProxyScanner *scanner);
static void parse_split(ProxyScanner *scanner);
static void parse_target(ProxyScanner *scanner);
static void parse_select(ProxyScanner *scanner);
static bool at_expression(ProxyScanner *scanner);
static ProxyQuery *parse_expression(ProxyScanner *scanner);
static int	parse_argument(ProxyScanner *scanner);
static void parse_end(ProxyScanner *scanner);
static void split_argument(ProxyScanner *scanner, ProxyArg *arg, int number);
static void check_body(ProxyScanner *scanner, const StatementPlace *places);
static char *argument_name(const char *ident, int len);

/* in the order of ProxyStatement */
static const char *const statements[STMT_COUNT] = {
	"connect", "cluster", "run", "split", "target", "select"
};

void
plproxy_parser_run(ProxyFunction *func, const char *body)
{
	ProxyScanner scanner;
	StatementPlace places[STMT_COUNT] = {0};

	func->map_arg = -1;
	func->run = RUN_ANY;
	plproxy_scanner_begin(&scanner, func, body);

	while (plproxy_scanner_next(&scanner) != TOKEN_END)
	{
		int			statement = 0;

		while (statement < STMT_COUNT && !plproxy_scanner_is(&scanner, statements[statement]))
			statement++;
		if (statement == STMT_COUNT)
			plproxy_scanner_error(&scanner);
		if (places[statement].start)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("line %d: only one %s statement is allowed",
							scanner.line, asc_toupper(scanner.text.data, scanner.text.len)),
					 plproxy_scanner_position(&scanner, scanner.start)));
		places[statement].start = scanner.start;
		places[statement].line = scanner.line;

		switch ((ProxyStatement) statement)
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
	check_body(&scanner, places);
}

/*
 * Find the argument that "ident" names: $n, or a name, whose case only counts
 * when it is quoted or when it alone tells two arguments apart. Returns its
 * index, or -1 if it names none.
 */
int
plproxy_parser_argument(ProxyFunction *func, const char *ident, int len)
{
	int			found = -1;
	char	   *name;

	if (ident[0] == '$')
	{
		int			number = 0;

		for (int i = 1; i < len && number <= func->nargs; i++)
			number = number * 10 + (ident[i] - '0');
		return number >= 1 && number <= func->nargs ? number - 1 : -1;
	}

	name = argument_name(ident, len);
	for (int i = 0; i < func->nargs; i++)
	{
		const char *arg = func->args[i].name;

		if (arg == NULL)
			continue;
		if (strcmp(arg, name) == 0)
		{
			found = i;
			break;
		}
		if (found < 0 && ident[0] != '"' && pg_strcasecmp(arg, name) == 0)
			found = i;
	}
	pfree(name);
	return found;
}

/* CONNECT and CLUSTER */
static void
parse_map(ProxyScanner *scanner, ProxyMapKind kind)
{
	ProxyFunction *func = scanner->func;

	func->map = kind;
	(void) plproxy_scanner_next(scanner);
	if (at_expression(scanner))
		func->map_query = parse_expression(scanner);
	else if (scanner->kind == TOKEN_STRING)
	{
		func->map_name = pstrdup(scanner->text.data);
		parse_end(scanner);
	}
	else
	{
		func->map_arg = parse_argument(scanner);
		if (!plproxy_type_is_string(func->args[func->map_arg].type.oid))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("line %d: argument \"%s\" must be of type text, not %s",
							scanner->line, scanner->text.data,
							format_type_be(func->args[func->map_arg].type.oid)),
					 plproxy_scanner_position(scanner, scanner->start)));
		parse_end(scanner);
	}
}

static void
parse_run(ProxyScanner *scanner)
{
	ProxyFunction *func = scanner->func;

	(void) plproxy_scanner_next(scanner);
	if (!plproxy_scanner_is(scanner, "on"))
		plproxy_scanner_error(scanner);

	(void) plproxy_scanner_next(scanner);
	if (at_expression(scanner))
	{
		func->run = RUN_QUERY;
		func->run_query = parse_expression(scanner);
		return;
	}
	if (plproxy_scanner_is(scanner, "all"))
		func->run = RUN_ALL;
	else if (plproxy_scanner_is(scanner, "any"))
		func->run = RUN_ANY;
	else if (scanner->kind == TOKEN_NUMBER)
	{
		func->run = RUN_NUMBER;
		errno = 0;
		func->run_number = strtoint(scanner->text.data, NULL, 10);
		if (errno != 0)
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("line %d: partition number %s is out of range",
							scanner->line, scanner->text.data),
					 plproxy_scanner_position(scanner, scanner->start)));
	}
	else
	{
		func->run = RUN_ARGUMENT;
		func->run_number = parse_argument(scanner);
	}
	parse_end(scanner);
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
							scanner->line, scanner->text.data),
					 plproxy_scanner_position(scanner, scanner->start)));
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
	int			line = scanner->line;
	int			offset = scanner->start - scanner->body;
	ProxyQuery *query;

	plproxy_query_add(builder, "select ", 7);
	plproxy_scanner_sql(scanner, builder);
	query = plproxy_query_finish(builder);
	query->line = line;
	query->offset = offset;
	scanner->func->select = query;
}

/* Does the last token begin an expression? */
static bool
at_expression(ProxyScanner *scanner)
{
	switch (scanner->kind)
	{
		case TOKEN_OTHER:
			return scanner->text.data[0] == '(';
		case TOKEN_KEYWORD:
			return plproxy_scanner_at(scanner, "(");
		case TOKEN_IDENT:
		case TOKEN_NUMBER:
		case TOKEN_STRING:
			return plproxy_scanner_at(scanner, "([+-*/%^<>=~!@#&|?:");
		default:
			return false;
	}
}

/* The expression that begins with the last token. */
static ProxyQuery *
parse_expression(ProxyScanner *scanner)
{
	ProxyQueryBuilder *builder = plproxy_query_begin(scanner->func, true);
	int			line = scanner->line;
	int			offset = scanner->start - scanner->body;
	ProxyQuery *query;

	plproxy_scanner_unread(scanner);
	plproxy_scanner_sql(scanner, builder);
	query = plproxy_query_finish(builder);
	query->source = pnstrdup(scanner->body + offset, scanner->start - scanner->body - offset);
	query->line = line;
	query->offset = offset;
	return query;
}

/* The last token must name an argument. */
static int
parse_argument(ProxyScanner *scanner)
{
	int			arg;

	if (scanner->kind != TOKEN_IDENT)
		plproxy_scanner_error(scanner);
	arg = plproxy_parser_argument(scanner->func, scanner->text.data, scanner->text.len);
	if (arg < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_PARAMETER),
				 errmsg("line %d: \"%s\" is no argument of the function",
						scanner->line, scanner->text.data),
				 plproxy_scanner_position(scanner, scanner->start)));
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
						scanner->line, number, format_type_be(arg->type.oid)),
				 plproxy_scanner_position(scanner, scanner->start)));
	arg->split = true;
	plproxy_type_init(&arg->element, element, -1, false, CurrentMemoryContext);
	scanner->func->split = true;
}

/* Which statements need and exclude which? */
static void
check_body(ProxyScanner *scanner, const StatementPlace *places)
{
	ProxyFunction *func = scanner->func;
	const StatementPlace *cluster = &places[STMT_CLUSTER];
	const StatementPlace *run = &places[STMT_RUN];

	if (places[STMT_CONNECT].start && (cluster->start || run->start))
	{
		const StatementPlace *place = cluster->start ? cluster : run;

		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: CONNECT cannot be used with %s", place->line,
						place == cluster ? "CLUSTER" : "RUN"),
				 errhint("CONNECT calls one database; CLUSTER and RUN choose among partitions."),
				 plproxy_scanner_position(scanner, place->start)));
	}
	if (!places[STMT_CONNECT].start && !cluster->start)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: CLUSTER statement is missing", scanner->line),
				 errhint("Write CLUSTER 'name'; or CONNECT 'connect string';")));
	if (places[STMT_TARGET].start && places[STMT_SELECT].start)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: TARGET cannot be used with SELECT", places[STMT_TARGET].line),
				 plproxy_scanner_position(scanner, places[STMT_TARGET].start)));
	if (func->run == RUN_ALL && !func->returns_set)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("line %d: RUN ON ALL needs a function that returns a set", run->line),
				 errhint("Declare it with RETURNS SETOF or RETURNS TABLE."),
				 plproxy_scanner_position(scanner, run->start)));
	if (func->run == RUN_ARGUMENT)
	{
		ProxyArg   *arg = &func->args[func->run_number];
		ProxyType  *type = arg->split ? &arg->element : &arg->type;

		if (type->oid != INT2OID && type->oid != INT4OID && type->oid != INT8OID)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("line %d: RUN ON wants a hash of type smallint, integer or bigint, not %s",
							run->line, format_type_be(type->oid)),
					 plproxy_scanner_position(scanner, run->start)));
	}
}

/* The name that an identifier stands for: without quotes, or as typed. */
static char *
argument_name(const char *ident, int len)
{
	char	   *name;
	int			n = 0;

	if (ident[0] != '"')
		return pnstrdup(ident, len);
	name = palloc(len);
	for (int i = 1; i < len - 1; i++)
	{
		name[n++] = ident[i];
		if (ident[i] == '"')
			i++;
	}
	name[n] = '\0';
	return name;
}
