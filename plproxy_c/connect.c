/*
 * connect.c
 *	  What libpq is told to open a connection, and who may have it do so.
 *
 * The connect string of the partition comes first; the login, our encoding and
 * the cluster's settings fill in what it leaves open. Where no superuser stands
 * behind it, a password must be given and used, see plproxy.password_required.
 */
#include "postgres.h"

#include <ctype.h>

#include "common/string.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"

#include "plproxy.h"

#define CONNSTR_HINT "Write it as keyword=value pairs or as a postgresql:// URI."

static const char *connect_password(const ProxyLogin *login, const char *user, const char *password);
static bool option_override(const ProxyHost *host, const char *keyword, const char **value);
static PQconninfoOption *connect_options(ProxyTask *task);
static PQconninfoOption *connstr_parse(const char *connstr, const char **wrong);
static const char *connstr_fault(const char *connstr, const char *message);
static bool integer_is_valid(const char *value);
static const char *option_lookup(const PQconninfoOption *options, const char *keyword);
static void connect_trust(ProxyTask *task, ProxyConn *conn, PQconninfoOption *options,
						  const char *user, const char *password);
pg_noreturn static void password_error(ProxyTask *task, const char *hint);

/*
 * Start libpq on the connect string and what we add: the login unless the string
 * names a user, our encoding, and what the cluster sets.
 */
PGconn *
plproxy_connect_start(ProxyTask *task, ProxyConn *conn)
{
	const ProxyConfig *config = &task->call->cluster->config;
	const ProxyLogin *login = task->call->login;
	PQconninfoOption *options = connect_options(task);
	const char *user = option_lookup(options, "user");
	const char *password = option_lookup(options, "password");
	const char *connect_timeout = option_lookup(options, "connect_timeout");
	const ProxyHost *host = NULL;
	PGconn	   *pg;
	const char **names;
	const char **values;
	int			n;
	bool		has_keepalive = false;

	/* for libpq that is the name of the server's operating system user */
	if (user && *user == '\0')
		user = NULL;
	password = connect_password(login, user, password);
	connect_trust(task, conn, options, user, password);
	if (task->hosts == NULL)
	{
		const char *balance = option_lookup(options, "load_balance_hosts");

		task->hosts = plproxy_failover_hosts(task, option_lookup(options, "host"),
											 option_lookup(options, "hostaddr"),
											 option_lookup(options, "port"),
											 option_lookup(options, "target_session_attrs"),
											 balance && strcmp(balance, "random") == 0);
	}
	if (task->hosts)
		host = &task->hosts->list[task->hosts->current];
	conn->connect_timeout = connect_timeout
		? Min(Max(atoi(connect_timeout), 0), INT_MAX / 1000) * 1000
		: 0;

	for (n = 0; options[n].keyword; n++)
		;
	names = palloc0(sizeof(char *) * (n + 8));
	values = palloc0(sizeof(char *) * (n + 8));
	n = 0;
	for (PQconninfoOption *option = options; option->keyword; option++)
	{
		const char *value = option->val;

		if ((host && !option_override(host, option->keyword, &value)) || value == NULL)
			continue;
		if (strncmp(option->keyword, "keepalives", 10) == 0)
			has_keepalive = true;
		if (strcmp(option->keyword, "client_encoding") == 0 ||
			strcmp(option->keyword, "user") == 0 || strcmp(option->keyword, "password") == 0)
			continue;
		names[n] = option->keyword;
		values[n++] = value;
	}
	names[n] = "user";
	values[n++] = user ? user : login->user;
	names[n] = "password";
	values[n++] = password;
	if (!has_keepalive && config->keepalive_idle)
	{
		names[n] = "keepalives_idle";
		values[n++] = psprintf("%d", config->keepalive_idle);
	}
	if (!has_keepalive && config->keepalive_interval)
	{
		names[n] = "keepalives_interval";
		values[n++] = psprintf("%d", config->keepalive_interval);
	}
	if (!has_keepalive && config->keepalive_count)
	{
		names[n] = "keepalives_count";
		values[n++] = psprintf("%d", config->keepalive_count);
	}
	names[n] = "client_encoding";
	values[n++] = GetDatabaseEncodingName();
	names[n] = "fallback_application_name";
	values[n++] = plproxy_show_function ? task->call->func->application_name : "plproxy";

	pg = PQconnectStartParams(names, values, 0);
	PQconninfoFree(options);
	if (pg == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return pg;
}

/*
 * The password to use; "user" and "password" are the connect string's. With a user
 * in the string goes the password in the string, and the user mapping's if there
 * is none, but not when the mapping names another user. Else the mapping says who
 * connects, and its password comes first.
 */
static const char *
connect_password(const ProxyLogin *login, const char *user, const char *password)
{
	if (user && login->mapped && strcmp(user, login->user) != 0)
		return password ? password : "";
	if (user)
		return password ? password : login->password;
	return login->password && *login->password ? login->password : password;
}

/*
 * Of a connect string with several hosts, one is meant. Returns false if it has no
 * such option.
 */
static bool
option_override(const ProxyHost *host, const char *keyword, const char **value)
{
	if (strcmp(keyword, "host") == 0)
		*value = host->host;
	else if (strcmp(keyword, "hostaddr") == 0)
		*value = host->hostaddr;
	else if (strcmp(keyword, "port") == 0)
		*value = host->port;
	else if (strcmp(keyword, "target_session_attrs") == 0)
		*value = host->attrs;
	return *value != NULL;
}

/* What the task's connect string says; PQconninfoFree ends that. */
static PQconninfoOption *
connect_options(ProxyTask *task)
{
	ProxyCluster *cluster = task->call->cluster;
	const char *wrong;
	PQconninfoOption *options = connstr_parse(cluster->partitions[task->partition].connstr, &wrong);

	if (options == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 cluster->name
				 ? errmsg("invalid connect string of %s", plproxy_error_partition_name(task))
				 : errmsg("invalid connect string"),
				 wrong ? errdetail_internal("%s", wrong) : 0,
				 errhint(CONNSTR_HINT),
				 plproxy_error_partition(task)));
	return options;
}

/*
 * Refuse a connect string that a foreign server shall have. A restore (which is
 * told by check_function_bodies being off) only warns: what was defined before
 * strings were looked at, or for a newer libpq, must not keep anything else from
 * being restored.
 */
void
plproxy_connect_validate(const char *option, const char *connstr)
{
	const char *wrong;
	PQconninfoOption *options = connstr_parse(connstr, &wrong);

	if (options)
	{
		const char *timeout = option_lookup(options, "connect_timeout");

		/* libpq looks at it only where it waits by itself */
		if (timeout && *timeout && !integer_is_valid(timeout))
		{
			PQconninfoFree(options);
			options = NULL;
			wrong = "\"connect_timeout\" is a whole number of seconds there.";
		}
	}
	if (options == NULL)
		ereport(check_function_bodies ? ERROR : WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid connect string in option \"%s\"", option),
				 wrong ? errdetail_internal("%s", wrong) : 0,
				 errhint(CONNSTR_HINT)));
	PQconninfoFree(options);
}

/* Is there a connection option of this name? */
bool
plproxy_connect_knows(const char *keyword)
{
	const char *wrong;
	PQconninfoOption *options = connstr_parse("", &wrong);
	bool		found = false;

	for (PQconninfoOption *option = options; option && option->keyword && !found; option++)
		found = strcmp(option->keyword, keyword) == 0;
	PQconninfoFree(options);
	return found;
}

/*
 * Parse a connect string; PQconninfoFree frees what it says. If it cannot be
 * parsed, return NULL, and in "wrong" why, or NULL.
 */
static PQconninfoOption *
connstr_parse(const char *connstr, const char **wrong)
{
	char	   *message = NULL;
	PQconninfoOption *options = PQconninfoParse(connstr, &message);

	*wrong = options || message == NULL ? NULL : connstr_fault(connstr, message);
	PQfreemem(message);
	return options;
}

/*
 * What libpq said about a connect string. It quotes from it, and what it quotes
 * may be a password that stands where it should not, so that is passed on only
 * where no password can be. NULL if nothing can be said.
 */
static const char *
connstr_fault(const char *connstr, const char *message)
{
	static const char unknown_keyword[] = "invalid connection option \"";
	static const char unknown_parameter[] = "invalid URI query parameter: \"";
	const char *at;

	if (strncmp(message, "missing \"=\"", 11) == 0)
		return "A word in it has no \"=\" behind it. Values with spaces in them are quoted: password='one two'.";
	if (strncmp(message, "unterminated quoted string", 26) == 0)
		return "A quoted value in it has no end.";
	if (strncmp(message, "invalid percent-encoded token", 29) == 0)
		return "A \"%\" in it is not followed by two hexadecimal digits. The character itself is written as %25.";
	if (strncmp(message, unknown_keyword, strlen(unknown_keyword)) == 0)
	{
		char	   *keyword = pnstrdup(message + strlen(unknown_keyword),
									   strcspn(message + strlen(unknown_keyword), "\""));

		at = strstr(connstr, "pass");
		if (at == NULL || strstr(at, keyword) == NULL)
			return psprintf("There is no connection option \"%s\".", keyword);
		return "There is a word before a \"=\" that is no connection option.";
	}
	if (strncmp(message, unknown_parameter, strlen(unknown_parameter)) == 0)
	{
		char	   *keyword = pnstrdup(message + strlen(unknown_parameter),
									   strcspn(message + strlen(unknown_parameter), "\""));
		const char *pass;

		/*
		 * A password stands before the "@", or it is a parameter that may
		 * have been cut at a "&". Where a "%" is, words may be written in
		 * other ways.
		 */
		at = strchr(connstr, '?');
		pass = at ? strstr(at, "pass") : NULL;
		if (at && strpbrk(at, "@%") == NULL && (pass == NULL || strstr(pass, keyword) == NULL))
			return psprintf("There is no connection option \"%s\".", keyword);
		return "There is a parameter behind the \"?\" that is no connection option.";
	}
	return NULL;
}

/* As libpq reads numbers. */
static bool
integer_is_valid(const char *value)
{
	char	   *end;

	errno = 0;
	(void) strtoint(value, &end, 10);
	while (isspace((unsigned char) *end))
		end++;
	return errno == 0 && end != value && *end == '\0';
}

static const char *
option_lookup(const PQconninfoOption *options, const char *keyword)
{
	for (; options->keyword; options++)
	{
		if (strcmp(options->keyword, keyword) == 0)
			return options->val;
	}
	return NULL;
}

/*
 * The rules for connect strings that no superuser stands behind: they bring a
 * password, and use nothing else that the server's operating system user may
 * have: no files with secrets, no tickets.
 */
static void
connect_trust(ProxyTask *task, ProxyConn *conn, PQconninfoOption *options,
			  const char *user, const char *password)
{
	static const char *const forbidden[] = {
		"passfile", "service", "servicefile", "sslcert", "sslkey", "sslkeylogfile", "gssdelegation"
	};
	const ProxyLogin *login = task->call->login;

	if (login->distrust)
	{
		for (int i = 0; i < lengthof(forbidden); i++)
		{
			if (option_lookup(options, forbidden[i]) == NULL)
				continue;
			PQconninfoFree(options);
			ereport(ERROR,
					(errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
					 errmsg("connection option \"%s\" is not allowed here", forbidden[i]),
					 errdetail_internal("%s", login->distrust),
					 plproxy_error_partition(task)));
		}
	}
	/* a password beside the connect string's user says nothing about another */
	if (login->distrust_user && user == NULL)
		password = login->password;
	else if (login->distrust == NULL)
		return;
	conn->needs_password = true;
	if (password == NULL || *password == '\0')
	{
		PQconninfoFree(options);
		password_error(task, "Give the password in the user mapping or, unless that names another user, in the connect string.");
	}
}

/*
 * A connection is open: if it had to use its password, did it? A partition that
 * lets in whoever comes from our host would let in anybody who may define where
 * to connect.
 */
void
plproxy_connect_check(ProxyTask *task)
{
	ProxyConn  *conn = task->conn;
	const char *name = PQparameterStatus(conn->pg, "application_name");

	if (conn->needs_password && !PQconnectionUsedPassword(conn->pg))
		password_error(task, "Let the partition ask this user for a password.");

	/* any other name was chosen by the connect string, or a pooler */
	conn->shows_function = name && strcmp(name, task->call->func->application_name) == 0;
}

static void
password_error(ProxyTask *task, const char *hint)
{
	const ProxyLogin *login = task->call->login;

	ereport(ERROR,
			(errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
			 task->conn
			 ? errmsg("password was not used")
			 : errmsg("password is required"),
			 errdetail_internal("%s", login->distrust ? login->distrust : login->distrust_user),
			 errhint("%s Superusers can relax this by plproxy.password_required.", hint),
			 plproxy_error_partition(task)));
}
