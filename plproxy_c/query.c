/*
 * query.c
 *	  Builds the SQL of remote queries and local fragments.
 *
 * In a remote query an argument becomes ($n::type), since values are sent as
 * text of no known type; in a local one it is $n with its declared type. An
 * argument used twice is one parameter.
 *
 * Queries live in the context they were begun in.
 */
#include "postgres.h"

#include "parser/parser.h"
#include "utils/builtins.h"

#include "plproxy.h"

struct ProxyQueryBuilder
{
	ProxyFunction *func;
	bool		local;
	StringInfoData sql;
	int			nparams;
	int		   *params;			/* room for one per argument */
	int			watch;			/* place in the query, or -1 */
	const char *origin;			/* what of the body came to stand there */
};

static void query_add_arg(ProxyQueryBuilder *builder, int arg);

ProxyQueryBuilder *
plproxy_query_begin(ProxyFunction *func, bool local)
{
	ProxyQueryBuilder *builder = palloc0(sizeof(ProxyQueryBuilder));

	builder->func = func;
	builder->local = local;
	builder->watch = -1;
	builder->params = palloc(sizeof(int) * Max(func->nargs, 1));
	initStringInfo(&builder->sql);
	return builder;
}

/* Add a piece of the body, or a space. */
void
plproxy_query_add(ProxyQueryBuilder *builder, const char *text, int len)
{
	int			rest = builder->watch - builder->sql.len;

	if (rest >= 0 && rest < len)
		builder->origin = text +rest;

	appendBinaryStringInfo(&builder->sql, text, len);
}

/* Add a word or $n, which may be an argument; tell whether it was. */
bool
plproxy_query_add_word(ProxyQueryBuilder *builder, const char *word, int len)
{
	int			arg = plproxy_parser_argument(builder->func, word, len);

	if (arg < 0)
	{
		plproxy_query_add(builder, word, len);
		return false;
	}
	if (builder->watch >= builder->sql.len)
		builder->origin = word;
	query_add_arg(builder, arg);
	return true;
}

/*
 * Find where in a fragment what stands in its query at "offset" comes from. All are
 * counted in bytes.
 */
int
plproxy_query_origin(ProxyFunction *func, const char *fragment, int offset)
{
	ProxyQueryBuilder *builder = plproxy_query_begin(func, true);
	ProxyScanner scanner;

	builder->watch = offset;
	plproxy_scanner_begin(&scanner, func, fragment);
	plproxy_scanner_sql(&scanner, builder);

	/* at its end, or at a space that is nobody's */
	if (offset >= builder->sql.len || builder->origin < fragment || builder->origin > scanner.start)
		return scanner.start - fragment;
	return builder->origin - fragment;
}

ProxyQuery *
plproxy_query_finish(ProxyQueryBuilder *builder)
{
	ProxyQuery *query = palloc0(sizeof(ProxyQuery));

	query->sql = builder->sql.data;
	query->nparams = builder->nparams;
	query->params = builder->params;
	if (strchr(query->sql, '\\'))
		query->strings = standard_conforming_strings ? "on" : "off";
	pfree(builder);
	return query;
}

/*
 * The query of a function without SELECT: call the function of the same name,
 * or the TARGET, with all arguments in order. "dynamic" spells out the columns
 * for a function that returns just "record".
 */
ProxyQuery *
plproxy_query_default(ProxyFunction *func, ProxyShape *shape, bool dynamic)
{
	ProxyQueryBuilder *builder = plproxy_query_begin(func, false);
	StringInfo	sql = &builder->sql;
	const char *separator = "";

	appendStringInfoString(sql, "select ");
	if (!shape->composite)
		appendStringInfo(sql, "r::%s", shape->columns[0].name);
	for (int i = 0; shape->composite && i < shape->desc->natts; i++)
	{
		if (!OidIsValid(shape->columns[i].oid))
			continue;
		appendStringInfo(sql, "%s%s::%s", separator,
						 quote_identifier(NameStr(TupleDescAttr(shape->desc, i)->attname)),
						 shape->columns[i].name);
		separator = ", ";
	}

	appendStringInfo(sql, " from %s(", func->target ? func->target : func->remote_name);
	for (int i = 0; i < func->nargs; i++)
	{
		if (i > 0)
			appendStringInfoString(sql, ", ");
		query_add_arg(builder, i);
	}
	appendStringInfoString(sql, shape->composite && !dynamic ? ")" : ") r");

	if (dynamic)
	{
		separator = "(";
		for (int i = 0; i < shape->desc->natts; i++)
		{
			appendStringInfo(sql, "%s%s %s", separator,
							 quote_identifier(NameStr(TupleDescAttr(shape->desc, i)->attname)),
							 shape->columns[i].name);
			separator = ", ";
		}
		appendStringInfoChar(sql, ')');
	}
	return plproxy_query_finish(builder);
}

static void
query_add_arg(ProxyQueryBuilder *builder, int arg)
{
	int			param;

	for (param = 0; param < builder->nparams; param++)
	{
		if (builder->params[param] == arg)
			break;
	}
	if (param == builder->nparams)
		builder->params[builder->nparams++] = arg;

	if (builder->local)
		appendStringInfo(&builder->sql, "$%d", param + 1);
	else
		appendStringInfo(&builder->sql, "($%d::%s)", param + 1,
						 builder->func->args[arg].type.name);
}
