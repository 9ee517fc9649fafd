/*
 * parser_fuzz.c
 *	  Reads any bytes as the body of a function, without a server.
 *
 * scanner.c, parser.c and query.c are linked as they are; what they want of the
 * server stands below: memory that is freed after each body, errors that jump
 * out, and three types. A body is read twice, with either meaning of a backslash
 * in a string, into a function with arguments of many kinds.
 *
 * Beside what the sanitizers see, it is a fault when an error names a place or
 * line that the body does not have, when its text cannot be formatted, or when a
 * query refers to arguments that the function does not have, or places in it do
 * not lead back into the body.
 */
#include "postgres.h"

#include <setjmp.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/lsyscache.h"

#include "plproxy.h"

#define MAX_BLOCKS 65536

int			LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

static void read_body(const char *body, bool backslash);
static void check_function(const ProxyFunction *func);
static void check_query(const ProxyFunction *func, const ProxyQuery *query);
static void check(bool good, const char *what);
static void keep(void *block);

static const char *current_body;
static sigjmp_buf failed;
static void *blocks[MAX_BLOCKS];	/* all that was allocated, for this body */
static int	nblocks;

/* names of arguments; the third has none */
static ProxyArg arguments[] = {
	{.name = "id",.type = {.oid = INT4OID,.name = "integer"}},
	{.name = "ids",.type = {.oid = INT4ARRAYOID,.name = "integer[]"}},
	{.name = NULL,.type = {.oid = TEXTOID,.name = "text"}},
	{.name = "Name",.type = {.oid = TEXTOID,.name = "text"}},
	{.name = "name",.type = {.oid = TEXTOID,.name = "text"}},
	{.name = "run",.type = {.oid = INT8OID,.name = "bigint"}},
	{.name = "odd \"name",.type = {.oid = TEXTARRAYOID,.name = "text[]"}},
	{.name = "\303\251t\303\251",.type = {.oid = INT4OID,.name = "integer"}},
};

int
LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
	char	   *body;

	/* exactly as long as it is, so that one byte too far is found */
	if (memchr(data, 0, size) != NULL)
		return 0;
	body = malloc(size + 1);
	memcpy(body, data, size);
	body[size] = '\0';
	read_body(body, false);
	read_body(body, true);
	free(body);
	return 0;
}

static void
read_body(const char *body, bool backslash)
{
	ProxyFunction func = {.returns_set = true,.nargs = lengthof(arguments)};
	ProxyArg	args[lengthof(arguments)];

	memcpy(args, arguments, sizeof(arguments));
	func.args = args;
	current_body = body;
	standard_conforming_strings = !backslash;
	if (sigsetjmp(failed, 0) == 0)
	{
		plproxy_parser_run(&func, body);
		check_function(&func);
	}
	while (nblocks > 0)
		free(blocks[--nblocks]);
}

static void
check_function(const ProxyFunction *func)
{
	check(func->map_name || func->map_query || (func->map_arg >= 0 && func->map_arg < func->nargs), "cluster");
	check(func->run != RUN_ARGUMENT || (func->run_number >= 0 && func->run_number < func->nargs), "hash argument");
	check(func->run != RUN_NUMBER || func->run_number >= 0, "partition number");
	check((func->run == RUN_QUERY) == (func->run_query != NULL), "hash query");
	check(!(func->target && func->select), "target and select");
	check(func->target == NULL || func->target[0], "target");
	check_query(func, func->map_query);
	check_query(func, func->run_query);
	check_query(func, func->select);
}

static void
check_query(const ProxyFunction *func, const ProxyQuery *query)
{
	if (query == NULL)
		return;
	check(query->nparams >= 0 && query->nparams <= func->nargs, "number of parameters");
	for (int i = 0; i < query->nparams; i++)
		check(query->params[i] >= 0 && query->params[i] < func->nargs, "parameter");
	check(query->sql[0] != '\0', "query");
	if (query->source)
	{
		char	   *fragment = psprintf("%s;", query->source);
		int			before = 0;

		for (int i = 0; i <= strlen(query->sql); i++)
		{
			int			origin = plproxy_query_origin(unconstify(ProxyFunction *, func), fragment, i);

			/* a space that was added is found behind what it stands for */
			check(origin >= 0 && origin <= strlen(query->source), "origin");
			check(origin >= before || query->sql[i] == ' ' || query->sql[i - 1] == ' ', "order of origins");
			before = origin;
		}
	}
}

static void
check(bool good, const char *what)
{
	if (good)
		return;
	dprintf(STDERR_FILENO, "wrong: %s in body:\n%s\n", what, current_body);
	abort();
}

/*
 * What follows stands for the server.
 */
bool		standard_conforming_strings = true;
MemoryContext CurrentMemoryContext = NULL;

static void
keep(void *block)
{
	check(block != NULL && nblocks < MAX_BLOCKS, "memory");
	blocks[nblocks++] = block;
}

void *
palloc(Size size)
{
	void	   *block = malloc(size ? size : 1);

	keep(block);
	return block;
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void *
repalloc(void *pointer, Size size)
{
	for (int i = nblocks - 1; i >= 0; i--)
	{
		if (blocks[i] == pointer)
			return blocks[i] = realloc(pointer, size);
	}
	check(false, "repalloc");
	return NULL;
}

void
pfree(void *pointer)
{
	for (int i = nblocks - 1; i >= 0; i--)
	{
		if (blocks[i] == pointer)
		{
			free(pointer);
			blocks[i] = blocks[--nblocks];
			return;
		}
	}
	check(false, "pfree");
}

char *
pnstrdup(const char *in, Size len)
{
	char	   *out;

	len = strnlen(in, len);
	out = palloc(len + 1);
	memcpy(out, in, len);
	out[len] = '\0';
	return out;
}

char *
pstrdup(const char *in)
{
	return pnstrdup(in, strlen(in));
}

char *
asc_toupper(const char *buff, size_t nbytes)
{
	char	   *result = pnstrdup(buff, nbytes);

	for (char *p = result; *p; p++)
		*p = pg_ascii_toupper((unsigned char) *p);
	return result;
}

bool
errstart(int elevel, const char *domain)
{
	check(elevel == ERROR, "error level");
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	siglongjmp(failed, 1);
}

/* the server's, not the macro of plproxy.h */
#undef errcode
int
errcode(int sqlerrcode)
{
	return 0;
}

int
errmsg(const char *fmt,...)
{
	char		message[256];
	va_list		args;
	int			line = 0;
	int			lines = 1;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);

	for (const char *p = current_body; *p; p++)
		lines += *p == '\n';
	check(sscanf(message, "line %d: ", &line) == 1 && line >= 1 && line <= lines, "line of error");
	return 0;
}

int
errmsg_internal(const char *fmt,...)
{
	check(false, "internal error");
	return 0;
}

int
errhint(const char *fmt,...)
{
	return 0;
}

int
internalerrquery(const char *query)
{
	check(query == current_body, "query of error");
	return 0;
}

int
internalerrposition(int cursorpos)
{
	check(cursorpos >= 1 && cursorpos <= strlen(current_body) + 1, "position of error");
	return 0;
}

int
pg_mbstrlen_with_len(const char *mbstr, int limit)
{
	int			length = 0;

	check(limit >= 0 && limit <= strlen(mbstr), "position");
	for (int i = 0; i < limit; i++)
		length += !IS_HIGHBIT_SET(mbstr[i]) || (mbstr[i] & 0x40);
	return length;
}

/* quoting is not what is looked at here */
const char *
quote_identifier(const char *ident)
{
	return ident;
}

char *
format_type_be(Oid type_oid)
{
	return pstrdup("a type");
}

Oid
get_element_type(Oid typid)
{
	return typid == INT4ARRAYOID ? INT4OID : typid == TEXTARRAYOID ? TEXTOID : InvalidOid;
}

int
plproxy_error_sqlstate(int sqlstate)
{
	return sqlstate;
}

bool
plproxy_type_is_string(Oid oid)
{
	return oid == TEXTOID;
}

void
plproxy_type_init(ProxyType *type, Oid oid, int32 typmod, bool result, MemoryContext cxt)
{
	type->oid = oid;
	type->name = pstrdup("a type");
}
