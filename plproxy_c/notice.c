/*
 * notice.c
 *	  Notices and warnings from partitions.
 *
 * They come in while libpq is at work, where an error must not be thrown, so they
 * are kept with their connection (malloced) and reported when libpq has returned.
 */
#include "postgres.h"

#include "plproxy.h"

typedef struct ProxyNotice
{
	struct ProxyNotice *next;
	int			level;
	int			sqlstate;
	char	   *message;
	char	   *detail;			/* NULL if there is none; so hint, context */
	char	   *hint;
	char	   *context;
} ProxyNotice;

static char *notice_field(const PGresult *result, int field);
static void notice_free(ProxyNotice *notice);
static int	notice_level(const char *severity);

/*
 * Keep a notice. libpq calls this, so nothing here may throw an error. When
 * memory is short a notice is lost.
 */
void
plproxy_notice_receive(void *arg, const PGresult *result)
{
	ProxyConn  *conn = arg;
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	ProxyNotice *notice;
	ProxyNotice **last;

	if (conn->state == CONN_IDLE)
	{
		/* FATAL, or the warning of a crash: the server is going away */
		if (severity == NULL || strcmp(severity, "FATAL") == 0 ||
			(sqlstate && strncmp(sqlstate, "57P", 3) == 0))
			conn->doomed = true;
		return;
	}

	notice = calloc(1, sizeof(ProxyNotice));
	if (notice == NULL)
		return;
	notice->level = notice_level(severity);
	notice->sqlstate = sqlstate && strlen(sqlstate) == 5
		? MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4])
		: ERRCODE_WARNING;
	notice->message = notice_field(result, PG_DIAG_MESSAGE_PRIMARY);
	notice->detail = notice_field(result, PG_DIAG_MESSAGE_DETAIL);
	notice->hint = notice_field(result, PG_DIAG_MESSAGE_HINT);
	notice->context = notice_field(result, PG_DIAG_CONTEXT);
	if (notice->message == NULL)
	{
		notice_free(notice);
		return;
	}
	for (last = &conn->notices; *last; last = &(*last)->next)
		;
	*last = notice;
}

static char *
notice_field(const PGresult *result, int field)
{
	const char *value = PQresultErrorField(result, field);

	return value ? strdup(value) : NULL;
}

static int
notice_level(const char *severity)
{
	if (severity == NULL)
		return NOTICE;
	if (strcmp(severity, "WARNING") == 0)
		return WARNING;
	if (strcmp(severity, "INFO") == 0)
		return INFO;
	if (strcmp(severity, "DEBUG") == 0)
		return DEBUG1;
	return NOTICE;
}

/* Report the notices that came in, or drop them. */
void
plproxy_notice_report(ProxyConn *conn, bool report)
{
	while (conn->notices)
	{
		ProxyNotice *notice = conn->notices;

		conn->notices = notice->next;
		if (!report)
		{
			notice_free(notice);
			continue;
		}
		PG_TRY();
		{
			ereport(notice->level,
					((errcode) (notice->sqlstate),
					 errmsg_internal("%s", plproxy_error_text(notice->message)),
					 notice->detail ? errdetail_internal("%s", plproxy_error_text(notice->detail)) : 0,
					 notice->hint ? errhint("%s", plproxy_error_text(notice->hint)) : 0,
					 notice->context ? errcontext("%s", plproxy_error_text(notice->context)) : 0,
					 plproxy_error_context(conn->task)));
		}
		PG_FINALLY();
		{
			notice_free(notice);
		}
		PG_END_TRY();
	}
}

static void
notice_free(ProxyNotice *notice)
{
	free(notice->message);
	free(notice->detail);
	free(notice->hint);
	free(notice->context);
	free(notice);
}
