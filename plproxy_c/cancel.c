/*
 * cancel.c
 *	  Asks partitions to stop what they run for us, all of them at once and never
 *	  for longer than the caller allows.
 *
 * A cancel request travels on a connection of its own, and a host that vanished
 * or does not answer must hold up neither us nor the requests to others. So all
 * are begun before any is waited for. From libpq 17 on requests are asynchronous
 * (and encrypted as their connection is); before, PQcancel blocks, and a child
 * process each sends them.
 *
 * A request that was not seen through to its end could still arrive, and hit the
 * connection's next query. Such a connection is doomed.
 */
#include "postgres.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "plproxy.h"

/* A child that nobody waits for any more ends by itself after this time. */
#define CHILD_SECONDS 10

/* One request under way. */
typedef struct CancelRequest
{
	ProxyConn  *conn;
	bool		done;
	bool		accepted;		/* valid when done: the server has seen to it */
	pgsocket	socket;			/* valid until done */
	uint32		events;			/* what it is waited for */
#ifdef LIBPQ_HAS_ASYNC_CANCEL
	PGcancelConn *cancel;
#else
	pid_t		child;
#endif
} CancelRequest;

static void request_begin(CancelRequest *request);
static void request_step(CancelRequest *request);
static void request_end(CancelRequest *request);
static void requests_wait(CancelRequest *requests, int n, long timeout);

/*
 * Ask the servers of these connections to cancel what runs there, and see that
 * they have heard it until "give_up". Connections that could not be told are
 * doomed. A request of the user to stop, or the end of the backend, ends the
 * waiting too.
 */
void
plproxy_cancel(ProxyConn **conns, int n, TimestampTz give_up)
{
	CancelRequest *requests = palloc0(sizeof(CancelRequest) * Max(n, 1));
	int			pending = 0;

	for (int i = 0; i < n; i++)
	{
		requests[i].conn = conns[i];
		request_begin(&requests[i]);
		if (!requests[i].done)
			pending++;
	}

	while (pending > 0 && !QueryCancelPending && !ProcDiePending)
	{
		long		timeout = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), give_up);

		if (timeout <= 0)
			break;
		requests_wait(requests, n, timeout);
		pending = 0;
		for (int i = 0; i < n; i++)
		{
			if (!requests[i].done)
				pending++;
		}
	}

	for (int i = 0; i < n; i++)
	{
		request_end(&requests[i]);
		if (!requests[i].accepted)
			conns[i]->doomed = true;
	}
	pfree(requests);
}

/* Wait until something happens on any of the requests, and deal with it. */
static void
requests_wait(CancelRequest *requests, int n, long timeout)
{
	WaitEventSet *set = plproxy_wait_set(n);
	WaitEvent	event;

	for (int i = 0; i < n; i++)
	{
		if (!requests[i].done)
			AddWaitEventToSet(set, requests[i].events, requests[i].socket, NULL, &requests[i]);
	}
	if (WaitEventSetWait(set, timeout, &event, 1, plproxy_wait_event(WAIT_CANCEL)) == 1)
	{
		if (event.user_data)
			request_step(event.user_data);
		else
			ResetLatch(MyLatch);
	}
	FreeWaitEventSet(set);
}

#ifdef LIBPQ_HAS_ASYNC_CANCEL

static void
request_begin(CancelRequest *request)
{
	ReserveExternalFD();
	request->cancel = PQcancelCreate(request->conn->pg);
	request->done = request->cancel == NULL || !PQcancelStart(request->cancel);
	request->socket = PQcancelSocket(request->cancel);
	request->events = WL_SOCKET_WRITEABLE;
}

static void
request_step(CancelRequest *request)
{
	PostgresPollingStatusType poll = PQcancelPoll(request->cancel);

	request->done = poll == PGRES_POLLING_OK || poll == PGRES_POLLING_FAILED;
	request->accepted = poll == PGRES_POLLING_OK;
	request->socket = PQcancelSocket(request->cancel);
	request->events = poll == PGRES_POLLING_READING ? WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE;
}

static void
request_end(CancelRequest *request)
{
	PQcancelFinish(request->cancel);
	ReleaseExternalFD();
}

#else

/*
 * The child is a copy of this process, of which it uses nothing but PQcancel: no
 * signal handler of ours may run in it, and it leaves by _exit. It says through a
 * pipe that the server has seen to the request; the end of the pipe is its own.
 */
static void
request_begin(CancelRequest *request)
{
	PGcancel   *cancel = PQgetCancel(request->conn->pg);
	int			pipe_ends[2];
	sigset_t	all;
	sigset_t	old;

	request->done = true;
	request->socket = PGINVALID_SOCKET;
	ReserveExternalFD();
	if (cancel == NULL || pipe(pipe_ends) != 0)
	{
		PQfreeCancel(cancel);
		return;
	}

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	request->child = fork();
	if (request->child == 0)
	{
		char		message[256];

		signal(SIGALRM, SIG_DFL);
		sigdelset(&all, SIGALRM);
		sigprocmask(SIG_SETMASK, &all, NULL);
		alarm(CHILD_SECONDS);
		if (PQcancel(cancel, message, sizeof(message)) && write(pipe_ends[1], "+", 1) == 1)
			_exit(0);
		_exit(1);
	}
	sigprocmask(SIG_SETMASK, &old, NULL);
	PQfreeCancel(cancel);
	close(pipe_ends[1]);
	if (request->child < 0)
	{
		close(pipe_ends[0]);
		return;
	}
	request->done = false;
	request->socket = pipe_ends[0];
	request->events = WL_SOCKET_READABLE;
}

static void
request_step(CancelRequest *request)
{
	char		answer;

	request->done = true;
	request->accepted = read(request->socket, &answer, 1) == 1;
}

static void
request_end(CancelRequest *request)
{
	if (request->socket != PGINVALID_SOCKET)
	{
		/* one that has answered is about to end anyway */
		kill(request->child, SIGKILL);
		while (waitpid(request->child, NULL, 0) < 0 && errno == EINTR)
			;
		close(request->socket);
	}
	ReleaseExternalFD();
}

#endif
