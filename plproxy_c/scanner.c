/*
 * scanner.c
 *	  Cuts a function body into tokens.
 *
 * A body is read in two modes. Between statements, plproxy_scanner_next gives
 * one token after another. Where SQL begins (after SELECT, or at the "(" of a
 * function call), plproxy_scanner_sql copies text into a query up to the ";" that
 * ends the statement, looking only at what it must: strings, comments, and the
 * words that may be arguments.
 *
 * The body is NUL-terminated and outlives the scanner. Errors name the line, and
 * the position in the body, which the validator turns into one in CREATE FUNCTION.
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"
#include "parser/parser.h"

#include "plproxy.h"

#define IS_IDENT_START(c) (isalpha((unsigned char) (c)) || (c) == '_' || IS_HIGHBIT_SET(c))
#define IS_IDENT(c) (IS_IDENT_START(c) || isdigit((unsigned char) (c)))
#define IS_SPACE(c) ((c) == ' ' || (c) == '\t' || (c) == '\n' || (c) == '\r' || (c) == '\f' || (c) == '\v')

static bool scanner_skip(ProxyScanner *scanner);
static bool scanner_chain(ProxyScanner *scanner);
static const char *scanner_quoted(ProxyScanner *scanner, const char *start, bool backslash);
static const char *scanner_dollar_quoted(ProxyScanner *scanner, const char *start);
static void scanner_count_lines(ProxyScanner *scanner, const char *end);

static const char *const keywords[] = {
	"all", "any", "cluster", "connect", "on", "run", "select", "split", "target"
};

void
plproxy_scanner_begin(ProxyScanner *scanner, ProxyFunction *func, const char *body)
{
	scanner->func = func;
	scanner->body = scanner->pos = scanner->start = body;
	scanner->line = scanner->pos_line = 1;
	scanner->kind = TOKEN_OTHER;
	initStringInfo(&scanner->text);
}

/*
 * Read the next token between statements. A character that begins none is a
 * token of its own.
 */
ProxyTokenKind
plproxy_scanner_next(ProxyScanner *scanner)
{
	const char *start;

	(void) scanner_skip(scanner);
	resetStringInfo(&scanner->text);
	scanner->line = scanner->pos_line;
	scanner->start = start = scanner->pos;

	switch (*start)
	{
		case '\0':
			return scanner->kind = TOKEN_END;
		case ';':
			scanner->pos++;
			appendStringInfoChar(&scanner->text, ';');
			return scanner->kind = TOKEN_SEMICOLON;
		case ',':
			scanner->pos++;
			appendStringInfoChar(&scanner->text, ',');
			return scanner->kind = TOKEN_COMMA;
		case '\'':
			{
				const char *end = scanner_quoted(scanner, start, false);

				for (const char *p = start + 1; p < end - 1; p++)
				{
					appendStringInfoChar(&scanner->text, *p);
					if (*p == '\'')
						p++;
				}
				scanner_count_lines(scanner, end);
				return scanner->kind = TOKEN_STRING;
			}
		case '$':
			if (!isdigit((unsigned char) start[1]))
				break;
			scanner->pos++;
			while (isdigit((unsigned char) *scanner->pos))
				scanner->pos++;
			appendBinaryStringInfo(&scanner->text, start, scanner->pos - start);
			return scanner->kind = TOKEN_IDENT;
		default:
			if (isdigit((unsigned char) *start))
			{
				while (isdigit((unsigned char) *scanner->pos))
					scanner->pos++;
				appendBinaryStringInfo(&scanner->text, start, scanner->pos - start);
				if (IS_IDENT_START(*scanner->pos))
					plproxy_scanner_error(scanner);
				return scanner->kind = TOKEN_NUMBER;
			}
			if (!scanner_chain(scanner))
				break;
			for (int i = 0; i < lengthof(keywords); i++)
			{
				if (pg_strcasecmp(scanner->text.data, keywords[i]) == 0)
					return scanner->kind = TOKEN_KEYWORD;
			}
			return scanner->kind = TOKEN_IDENT;
	}

	/* what has several bytes is a letter to us, so this is one byte */
	scanner->pos++;
	appendStringInfoChar(&scanner->text, *start);
	return scanner->kind = TOKEN_OTHER;
}

/* Read the last token once more, as SQL. */
void
plproxy_scanner_unread(ProxyScanner *scanner)
{
	scanner->pos = scanner->start;
	scanner->pos_line = scanner->line;
}

/* Is the last token this keyword? */
bool
plproxy_scanner_is(ProxyScanner *scanner, const char *keyword)
{
	return scanner->kind == TOKEN_KEYWORD && pg_strcasecmp(scanner->text.data, keyword) == 0;
}

/* Does one of these characters follow? */
bool
plproxy_scanner_at(ProxyScanner *scanner, const char *characters)
{
	(void) scanner_skip(scanner);
	return *scanner->pos && strchr(characters, *scanner->pos) != NULL;
}

/*
 * Copy SQL into the query, up to and without the ";" that ends the statement.
 * Comments and white space become one space.
 */
void
plproxy_scanner_sql(ProxyScanner *scanner, ProxyQueryBuilder *builder)
{
	bool		empty = true;
	bool		name = false;	/* behind ".", "::" or AS: no argument here */

	for (;;)
	{
		bool		space = scanner_skip(scanner);
		const char *start = scanner->pos;
		const char *end;
		char		c = *start;

		scanner->line = scanner->pos_line;
		scanner->start = start;
		if (c == '\0' || c == ';')
		{
			resetStringInfo(&scanner->text);
			if (c == ';')
				appendStringInfoChar(&scanner->text, c);
			if (c == '\0' || empty)
				plproxy_scanner_error(scanner);
			scanner->pos++;
			scanner->kind = TOKEN_SEMICOLON;
			return;
		}
		if (space)
			plproxy_query_add(builder, " ", 1);
		empty = false;

		if (c == '\'')
			end = scanner_quoted(scanner, start, !standard_conforming_strings);
		else if (c == '"')
			end = scanner_quoted(scanner, start, false);
		else if ((c == 'e' || c == 'E') && start[1] == '\'')
			end = scanner_quoted(scanner, start + 1, true);
		else if (c == '$' && isdigit((unsigned char) start[1]))
		{
			for (end = start + 1; isdigit((unsigned char) *end); end++)
				;
			if (!plproxy_query_add_word(builder, start, end - start))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_PARAMETER),
						 errmsg("line %d: \"%.*s\" is no argument of the function",
								scanner->line, (int) (end - start), start),
						 plproxy_scanner_position(scanner, start)));
			scanner->pos = end;
			name = false;
			continue;
		}
		else if (c == '$')
			end = scanner_dollar_quoted(scanner, start);
		else if (isdigit((unsigned char) c))
		{
			/* 1, 1.5, 1e-5, 0x1F: letters in a number are no words */
			for (end = start + 1; IS_IDENT(*end) || *end == '.'; end++)
			{
				if ((*end == 'e' || *end == 'E') && (end[1] == '+' || end[1] == '-'))
					end++;
			}
		}
		else if (IS_IDENT_START(c))
		{
			for (end = start + 1; IS_IDENT(*end) || *end == '$'; end++)
				;
			scanner->pos = end;
			(void) scanner_skip(scanner);

			/*
			 * b'…' and date '…' are literals, a.b a column, f(…) a
			 * function
			 */
			if (name || *scanner->pos == '\'' || *scanner->pos == '.' || *scanner->pos == '(')
				plproxy_query_add(builder, start, end - start);
			else
				(void) plproxy_query_add_word(builder, start, end - start);
			name = (end - start == 2 && pg_strncasecmp(start, "as", 2) == 0);

			/* what was skipped counts as white space for the next turn */
			if (scanner->pos != end && *scanner->pos != ';' && *scanner->pos != '\0')
				plproxy_query_add(builder, " ", 1);
			continue;
		}
		else if (strchr("-!#%&()*+,/:<=>?@[]^{|}~.", c) != NULL)
			end = start + 1;
		else
		{
			resetStringInfo(&scanner->text);
			appendStringInfoChar(&scanner->text, c);
			plproxy_scanner_error(scanner);
		}

		plproxy_query_add(builder, start, end - start);
		scanner_count_lines(scanner, end);
		name = (c == '.' || (c == ':' && start[-1] == ':'));
	}
}

/* The last token does not belong here. */
void
plproxy_scanner_error(ProxyScanner *scanner)
{
	if (scanner->kind == TOKEN_END || scanner->text.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: syntax error at end of function body", scanner->line),
				 errhint("Every statement ends with a semicolon."),
				 plproxy_scanner_position(scanner, scanner->start)));
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("line %d: syntax error at or near \"%s\"", scanner->line, scanner->text.data),
			 plproxy_scanner_position(scanner, scanner->start)));
}

/* Among the fields of an ereport: where in the body it went wrong. */
int
plproxy_scanner_position(ProxyScanner *scanner, const char *at)
{
	internalerrquery(scanner->body);
	internalerrposition(pg_mbstrlen_with_len(scanner->body, at - scanner->body) + 1);
	return 0;
}

/* Skip white space and comments; tell whether there was any. */
static bool
scanner_skip(ProxyScanner *scanner)
{
	const char *start = scanner->pos;

	for (;;)
	{
		const char *p = scanner->pos;

		if (IS_SPACE(*p))
			scanner_count_lines(scanner, p + 1);
		else if (p[0] == '-' && p[1] == '-')
			scanner_count_lines(scanner, p + strcspn(p, "\n\r"));
		else if (p[0] == '/' && p[1] == '*')
		{
			const char *end = strstr(p + 2, "*/");

			if (end == NULL)
				ereport(ERROR,
						(errcode(ERRCODE_SYNTAX_ERROR),
						 errmsg("line %d: unterminated comment", scanner->pos_line),
						 plproxy_scanner_position(scanner, p)));
			scanner_count_lines(scanner, end + 2);
		}
		else
			return p != start;
	}
}

/*
 * Read a.b."C" into the token, without the white space around the dots. Returns
 * false, having read nothing, if no name starts here.
 */
static bool
scanner_chain(ProxyScanner *scanner)
{
	for (;;)
	{
		const char *start = scanner->pos;
		const char *end;

		if (*start == '"')
			end = scanner_quoted(scanner, start, false);
		else if (IS_IDENT_START(*start))
		{
			for (end = start + 1; IS_IDENT(*end) || *end == '$'; end++)
				;
		}
		else if (scanner->text.len == 0)
			return false;
		else
		{
			/* behind a dot */
			scanner->start = start;
			scanner->line = scanner->pos_line;
			resetStringInfo(&scanner->text);
			if (*start)
				appendStringInfoChar(&scanner->text, *start);
			plproxy_scanner_error(scanner);
		}

		appendBinaryStringInfo(&scanner->text, start, end - start);
		scanner_count_lines(scanner, end);

		(void) scanner_skip(scanner);
		if (*scanner->pos != '.')
			return true;
		appendStringInfoChar(&scanner->text, '.');
		scanner->pos++;
		(void) scanner_skip(scanner);
	}
}

/*
 * Find the end of a string or quoted name; "start" is at the opening quote. A
 * doubled quote is part of it, with "backslash" so is an escaped one.
 */
static const char *
scanner_quoted(ProxyScanner *scanner, const char *start, bool backslash)
{
	char		quote = *start;

	for (const char *p = start + 1; *p; p++)
	{
		if (*p == quote)
		{
			if (p[1] != quote)
				return p + 1;
			p++;
		}
		else if (*p == '\\' && backslash && p[1])
			p++;
	}
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("line %d: unterminated quoted %s", scanner->pos_line,
					quote == '"' ? "identifier" : "string"),
			 plproxy_scanner_position(scanner, start)));
}

/* Find the end of $tag$…$tag$. */
static const char *
scanner_dollar_quoted(ProxyScanner *scanner, const char *start)
{
	const char *tag_end = start + 1;
	char	   *tag;
	const char *end;

	if (IS_IDENT_START(*tag_end))
	{
		while (IS_IDENT(*tag_end))
			tag_end++;
	}
	if (*tag_end != '$')
	{
		resetStringInfo(&scanner->text);
		appendStringInfoChar(&scanner->text, '$');
		plproxy_scanner_error(scanner);
	}
	tag_end++;

	tag = pnstrdup(start, tag_end - start);
	end = strstr(tag_end, tag);
	if (end == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("line %d: unterminated string after \"%s\"", scanner->pos_line, tag),
				 plproxy_scanner_position(scanner, start)));
	return end + strlen(tag);
}

/* Move on to "end", counting the lines on the way. */
static void
scanner_count_lines(ProxyScanner *scanner, const char *end)
{
	for (; scanner->pos < end; scanner->pos++)
	{
		if (*scanner->pos == '\n')
			scanner->pos_line++;
	}
}
