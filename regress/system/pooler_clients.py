"""What the clients of 010_pooler_drivers.t share: PROGRAM CASE... runs functions of PROGRAM.

PGHOST, PGUSER and PGPASSWORD are the pooler's; POOLER_PORT is its port, and PGPORT the
server's own. Database "app" is pooled by transaction over SERVERS servers, which keep
fewer prepared statements than a client has; "held" is the same database by session.
"""

import concurrent.futures
import os
import sys

SERVERS = 3
CLIENTS = 10
POOLER = "host=%s port=%s user=%s password=%s" % tuple(
    os.environ[v] for v in ("PGHOST", "POOLER_PORT", "PGUSER", "PGPASSWORD"))
DIRECT = "host=%s port=%s user=postgres dbname=app" % (os.environ["PGHOST"], os.environ["PGPORT"])


def together(work, clients=CLIENTS):
    """Runs work(i) for each of clients in a thread of its own; their first failure is ours."""
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return list(pool.map(work, range(clients)))


def on_each_server(connect, work):
    """Calls work(pid) once for each server of the pool, which is then the only free one.

    connect() gives a connection to the pool in autocommit mode.
    """
    holders = [connect() for _ in range(SERVERS)]

    def hold(holder):
        cur = holder.cursor()
        cur.execute("begin")
        cur.execute("select pg_backend_pid()")
        return cur.fetchone()[0]

    pids = [hold(h) for h in holders]
    assert len(set(pids)) == SERVERS, pids
    for holder, pid in zip(holders, pids):
        holder.cursor().execute("commit")
        work(pid)
        again = hold(holder)
        assert again == pid, (again, pid)
    for holder in holders:
        holder.cursor().execute("rollback")
        holder.close()


def wait_for_sleep(direct, mark, count=1):
    """Waits until count queries that have mark in their text sleep on the server."""
    cur = direct.cursor()
    for _ in range(3000):
        cur.execute("select count(*) from pg_stat_activity where wait_event = 'PgSleep' and query like %s", ["%" + mark + "%"])
        if cur.fetchone()[0] == count:
            return
        cur.execute("select pg_sleep(0.01)")
    raise AssertionError("nobody sleeps in %s" % mark)


def cancelled(direct, victim, cancel, meanwhile):
    """Calls cancel() while victim(), which sleeps in "victim", runs; whatever victim raises is ours.

    meanwhile() is what others do until then.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(victim)
        wait_for_sleep(direct, "victim")
        cancel()
        meanwhile()
        running.result()


def on_all_servers(work):
    """Runs work(i) for each of CLIENTS, which gives the servers it met: they met several, and no more than there are."""
    assert 2 <= len(set().union(*together(work))) <= SERVERS


def main(cases):
    for name in sys.argv[1:]:
        cases[name]()
