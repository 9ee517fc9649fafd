"""What psycopg2 does with a pooler, for 010_pooler_drivers.t: pooler_psycopg2.py CASE..."""

import datetime
import io
import select

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from psycopg2 import errors

from pooler_clients import CLIENTS, DIRECT, POOLER, cancelled, main, on_all_servers, on_each_server, together


def connect(db="app", **kwargs):
    conn = psycopg2.connect(POOLER, dbname=db, **kwargs)
    conn.autocommit = True
    return conn


def value(conn, query, *args):
    cur = conn.cursor()
    cur.execute(query, args)
    return cur.fetchone()[0]


def queries():
    def work(n):
        conn = connect()
        at = set()
        for turn in range(30):
            for v in (n, "ÿ€𝄞'\\", None, [1, 2], datetime.date(2000, 2, n + 1), psycopg2.Binary(b"\0\xff")):
                got = value(conn, "select %s", v)
                assert (bytes(got) if isinstance(got, memoryview) else got) == (b"\0\xff" if isinstance(v, psycopg2.extensions.Binary) else v)
            cur = conn.cursor()
            cur.execute("select 'first'; select %s, pg_backend_pid()", [turn])
            got, pid = cur.fetchone()
            assert got == turn
            at.add(pid)
        conn.close()
        return at
    on_all_servers(work)


def transactions():
    def work(n):
        conn = connect()
        conn.autocommit = False
        for turn in range(10):
            with conn, conn.cursor() as cur:
                cur.execute("select pg_backend_pid()")
                pid = cur.fetchone()
                psycopg2.extras.execute_values(cur, "insert into item values %s", [(n, str(turn))] * 3)
                cur.execute("savepoint s")
                try:
                    cur.execute("insert into item values (-1, 'refused')")
                    raise AssertionError("no error")
                except errors.CheckViolation:
                    cur.execute("rollback to s")
                cur.execute("select pg_backend_pid()")
                assert cur.fetchone() == pid
            try:
                with conn, conn.cursor() as cur:
                    cur.execute("delete from item")
                    raise KeyError("stop")
            except KeyError:
                pass
        # two phases
        conn.tpc_begin(conn.xid(2, "psycopg2 %d" % n, "drivers"))
        conn.cursor().execute("insert into item values (%s, 'two phases')", [n])
        conn.tpc_prepare()
        conn.tpc_commit()
        conn.close()
    together(work)
    conn = connect()
    assert value(conn, "select count(*) from item") == CLIENTS * 31
    conn.cursor().execute("delete from item")


def cursors():
    """Cursors on the server and large objects, whose functions libpq calls without SQL."""
    def work(n):
        conn = connect()
        conn.autocommit = False
        with conn.cursor("c", scrollable=True) as cur:
            cur.itersize = 11
            cur.execute("select g from generate_series(%s, %s) g", [n, n + 99])
            assert [r[0] for r in cur] == list(range(n, n + 100))
            cur.scroll(5, mode="absolute")
            assert cur.fetchmany(2) == [(n + 5,), (n + 6,)]
        conn.commit()
        data = bytes(range(256)) * 700
        large = conn.lobject(0, "wb")
        large.write(data)
        oid = large.oid
        conn.commit()
        large = conn.lobject(oid, "rb")
        assert large.read() == data
        large.seek(256 * 500 + 7)
        assert large.read(3) == b"\7\10\11"
        conn.rollback()
        conn.lobject(oid, "wb").unlink()
        conn.commit()
        conn.close()
    together(work)


def copy():
    def work(n):
        conn = connect()
        cur = conn.cursor()
        rows = "".join("%d\trow %d é\n" % (n * 1000 + i, i) for i in range(1000))
        cur.copy_from(io.StringIO(rows), "item", columns=("i", "v"))
        out = io.StringIO()
        cur.copy_expert("copy (select * from item where i / 1000 = %d order by i) to stdout" % n, out)
        assert out.getvalue() == rows
        for broken in (io.StringIO("1\tgood\nbad\n" + "2\tmore\n" * 20000), Broken()):
            try:
                cur.copy_expert("copy item from stdin", broken)
                raise AssertionError("no error")
            except (errors.InvalidTextRepresentation, errors.QueryCanceled):
                pass
        assert value(conn, "select %s", n) == n
        conn.close()
    together(work)
    conn = connect()
    assert value(conn, "select count(*) from item") == CLIENTS * 1000
    conn.cursor().execute("delete from item")


class Broken:
    """A file that cannot be read to its end."""
    left = 20

    def read(self, size):
        self.left -= 1
        if self.left == 0:
            raise OSError("worn out")
        return "4\tgood\n"

    def readline(self, size=-1):
        return self.read(size)


def cancel():
    direct, conn, other = psycopg2.connect(DIRECT), connect(), connect()
    direct.autocommit = True
    for turn in range(4):
        conn.autocommit = turn % 2 == 0

        def sleep():
            try:
                value(conn, "select 1 from pg_sleep(600) -- victim")
            except errors.QueryCanceled:
                return
            raise AssertionError("not cancelled")

        def work():
            for i in range(20):
                assert value(other, "select %s", i) == i
        cancelled(direct, sleep, conn.cancel, work)
        conn.rollback()
        assert value(conn, "select %s", turn) == turn
        conn.rollback()


def settings():
    conn, plain = connect(application_name="it's mine"), connect(application_name="plain")
    conn.set_client_encoding("LATIN1")
    conn.cursor().execute("set datestyle = 'german'")

    def work(pid):
        query = "select current_setting('client_encoding'), current_setting('application_name'), %s, '2000-02-03'::date::text"
        for c, want in ((plain, ("UTF8", "plain", "ü", "2000-02-03")), (conn, ("LATIN1", "it's mine", "ü", "03.02.2000"))):
            cur = c.cursor()
            cur.execute(query, ["ü"])
            got = cur.fetchone()
            assert got == want, got
    on_each_server(connect, work)
    assert conn.get_parameter_status("application_name") == "it's mine" and conn.encoding == "LATIN1"


def async_clients():
    """Connections that are polled."""
    conns = [psycopg2.connect(POOLER, dbname="app", async_=True) for _ in range(CLIENTS)]
    todo, cursors = {c: 0 for c in conns}, {}
    while todo:
        wait = {}
        for c in list(todo):
            state = c.poll()
            while state == psycopg2.extensions.POLL_OK and c in todo:
                if todo[c]:
                    assert cursors[c].fetchone() == (todo[c],)
                if todo[c] == 10:
                    c.close()
                    del todo[c]
                    break
                todo[c] += 1
                cursors[c] = c.cursor()
                cursors[c].execute("select %s", [todo[c]])
                state = c.poll()
            if c in todo:
                wait[c] = state
        if wait:
            select.select([c for c in wait if wait[c] == psycopg2.extensions.POLL_READ],
                          [c for c in wait if wait[c] == psycopg2.extensions.POLL_WRITE], [], 60)


def notify():
    ear, mouth = connect("held"), connect("app")
    ear.cursor().execute("listen noise")
    mouth.cursor().execute("notify noise, 'hé'")
    while not ear.notifies:
        assert select.select([ear], [], [], 60)[0]
        ear.poll()
    assert (ear.notifies[0].channel, ear.notifies[0].payload) == ("noise", "hé")
    cur = ear.cursor()
    cur.execute("create temporary table mine as select 7 as i")
    assert value(ear, "select i from mine") == 7


main(globals())
