"""What psycopg 3 does with a pooler, for 010_pooler_drivers.t: pooler_psycopg3.py CASE..."""

import asyncio
import threading

import psycopg
from psycopg import errors
from psycopg.rows import dict_row

from pooler_clients import CLIENTS, DIRECT, POOLER, SERVERS, cancelled, main, on_all_servers, on_each_server, together

TEXTS = 12  # statements of a client: more than a server keeps


def connect(db="app", **kwargs):
    """A connection that prepares each statement before its first execution."""
    # 3.1 would tell a server DEALLOCATE of one statement, by a name of its own, when it has
    # more than prepared_max of them.
    kwargs.setdefault("autocommit", True)
    conn = psycopg.connect(POOLER, dbname=db, prepare_threshold=0, **kwargs)
    conn.prepared_max = 1000
    return conn


def value(conn, query, *args):
    return conn.execute(query, args).fetchone()[0]


def took(count, kind="%"):
    """Asserts that so many items of a kind came, none twice, and takes all out."""
    with connect() as conn:
        assert conn.execute("select count(*), count(distinct i) from item where v like %s", [kind]).fetchone() == (count, count)
        conn.execute("delete from item")


def text(i):
    """The i-th of TEXTS queries, and what it gives for the number x."""
    return f"select %s::int * 100 + {i}, pg_backend_pid()", lambda x: x * 100 + i


def prepared():
    with connect() as conn:
        for i in range(TEXTS):
            query, want = text(i)
            pids = []

            def work(pid):
                got, at = conn.execute(query, [len(pids)]).fetchone()
                assert (got, at) == (want(len(pids)), pid), (got, at)
                pids.append(at)
            on_each_server(connect, work) if i in (0, TEXTS - 1) else work(conn.execute("select pg_backend_pid()").fetchone()[0])
        assert len(conn._prepared._names) > TEXTS


def prepared_together():
    def work(n):
        at = set()
        with connect() as conn:
            for turn in range(40):
                query, want = text((turn * 5 + n) % TEXTS)
                got, pid = conn.execute(query, [turn + n]).fetchone()
                assert got == want(turn + n), (got, turn, n)
                at.add(pid)
        return at

    on_all_servers(work)


def many_types():
    with connect() as conn:
        for binary in (False, True):
            with conn.cursor(binary=binary, row_factory=dict_row) as cur:
                for v in (1, 2**40, 1.5, "ÿ€𝄞'\\", b"\0\xff", None, [1, None, 3]):
                    row = cur.execute("select %s as v", [v]).fetchone()
                    assert row == {"v": v}, (row, v)
        long = "é" * 500_000
        assert value(conn, "select %s || 'x'", long) == long + "x"


def failing():
    """Errors leave statements usable, also those whose Parse failed."""
    with connect() as conn:
        conn.execute("drop table if exists later")
        for _ in range(2):
            try:
                conn.execute("select count(*) from later where %s = 1", [1])
                raise AssertionError("no error")
            except errors.UndefinedTable:
                pass
        conn.execute("create table later (i int)")
        assert value(conn, "select count(*) from later where %s = 1", 1) == 0
        for i in range(TEXTS):
            query = f"select %s::int / %s::int + {i}"
            try:
                conn.execute(query, [1, 0])
                raise AssertionError("no error")
            except errors.DivisionByZero:
                pass
            assert value(conn, query, 8, 2) == 4 + i
        conn.execute("drop table later")


def rollback():
    """After ROLLBACK, psycopg says DEALLOCATE ALL, and prepares again."""
    def work(n):
        with connect(autocommit=False) as conn:
            for turn in range(12):
                for i in range(3):
                    query, want = text((turn + i) % TEXTS)
                    assert conn.execute(query, [n]).fetchone()[0] == want(n)
                try:
                    with conn.transaction():
                        conn.execute("insert into item values (%s, 'rolled back')", [n])
                        conn.execute("select 1 / %s", [0])
                except errors.DivisionByZero:
                    pass
                assert value(conn, "select count(*) from item where v = 'rolled back'") == 0
                conn.rollback()
    together(work)


def pipeline():
    def work(n):
        with connect() as conn:
            for turn in range(6):
                with conn.pipeline():
                    curs = [(conn.execute(text(i % TEXTS)[0], [n + i]), text(i % TEXTS)[1](n + i)) for i in range(turn, turn + 30)]
                    for cur, want in curs:
                        assert cur.fetchone()[0] == want
                # in one transaction: a sync in the middle does not let the server go
                with conn.pipeline() as p, conn.transaction():
                    first = conn.execute("select pg_backend_pid()")
                    p.sync()
                    second = conn.execute("select pg_backend_pid()")
                    assert first.fetchone() == second.fetchone()
            with conn.cursor() as cur:
                cur.executemany("insert into item values (%s, %s) returning i", [(n * 1000 + i, "piped") for i in range(100)], returning=True)
                seen = []
                while True:
                    seen.append(cur.fetchone()[0])
                    if not cur.nextset():
                        break
                assert seen == list(range(n * 1000, n * 1000 + 100)), seen
    together(work)
    took(CLIENTS * 100, "piped")


def pipeline_errors():
    """An error skips what is behind it up to the sync, and no more."""
    def work(n):
        with connect() as conn:
            for turn in range(10):
                bad = [("select 1 / %s", errors.DivisionByZero), ("select nosuch from item where i = %s", errors.UndefinedColumn),
                       ("insert into item values (-1, %s)", errors.CheckViolation)][(turn + n) % 3]
                with conn.pipeline() as p:
                    query, want = text((turn * 3 + n) % TEXTS)
                    before, skipped = conn.execute(query, [turn]), []
                    try:
                        conn.execute(bad[0], [0])
                        # of texts that the server has, and of one that it has not
                        skipped += [conn.execute(text(i % TEXTS)[0], [1]) for i in range(turn, turn + 6)]
                        skipped.append(conn.execute(f"select {turn * 100 + n}, %s", [1]))
                        p.sync()
                        skipped[-1].fetchone()
                        raise AssertionError("no error")
                    except bad[1]:
                        pass
                    # It tells of each that was skipped when it finds its answer.
                    while True:
                        try:
                            p.sync()
                            break
                        except errors.PipelineAborted:
                            pass
                    for cur in skipped:
                        try:
                            cur.fetchone()
                            raise AssertionError("a query behind an error ran")
                        except (errors.PipelineAborted, psycopg.ProgrammingError):
                            pass
                    # It may think that it has prepared what was skipped.
                    after = [(conn.execute(text(i % TEXTS)[0], [n]), text(i % TEXTS)[1](n)) for i in range(turn, turn + 8)]
                    again = conn.execute(f"select {turn * 100 + n}, %s", [7])
                    for cur, want_after in after:
                        assert cur.fetchone()[0] == want_after
                    assert again.fetchone() == (turn * 100 + n, 7)
                    p.sync()
                assert before.fetchone()[0] == want(turn)
    together(work)
    with connect() as conn:
        assert value(conn, "select count(*) from item") == 0


def pipeline_rollback():
    """DEALLOCATE ALL in a pipeline, with statements prepared behind it."""
    def work(n):
        with connect() as conn:
            for turn in range(8):
                with conn.pipeline():
                    conn.execute("begin")
                    conn.execute("insert into item values (%s, 'gone')", [n])
                    conn.execute(text(turn)[0], [n])
                    conn.execute("rollback")
                    curs = [(conn.execute(text((turn + i) % TEXTS)[0], [n]), text((turn + i) % TEXTS)[1](n)) for i in range(6)]
                    for cur, want in curs:
                        assert cur.fetchone()[0] == want
                    curs = [(conn.execute(text((turn + i) % TEXTS)[0], [n]), text((turn + i) % TEXTS)[1](n)) for i in range(6)]
                for cur, want in curs:
                    assert cur.fetchone()[0] == want
    together(work)
    with connect() as conn:
        assert value(conn, "select count(*) from item") == 0


def copy():
    def work(n):
        with connect() as conn, conn.cursor() as cur:
            rows = [(n * 10000 + i, "tab\tline\nä" * (i % 7)) for i in range(500)]
            with cur.copy("copy item from stdin") as c:
                for row in rows:
                    c.write_row(row)
            with cur.copy("copy (select i + 5000, v from item where i between %s and %s) to stdout (format binary)",
                          [n * 10000, n * 10000 + 499]) as c:
                data = b"".join(bytes(b) for b in c)
            with cur.copy("copy item from stdin (format binary)") as c:
                for at in range(0, len(data), 777):
                    c.write(data[at:at + 777])
            with cur.copy("copy (select i, v from item where i between %s and %s order by i) to stdout",
                          [n * 10000 + 5000, n * 10000 + 5499]) as c:
                c.set_types(["int4", "text"])
                assert list(c.rows()) == [(i + 5000, v) for i, v in rows]
            # the server says no, the client gives up
            try:
                with cur.copy("copy item from stdin") as c:
                    c.write("1\tgood\nbad\n" + "2\tmore\n" * 5000)
                raise AssertionError("no error")
            except errors.InvalidTextRepresentation:
                pass
            try:
                with cur.copy("copy item from stdin") as c:
                    c.write("3\tgood\n")
                    raise KeyError("stop")
            except (KeyError, errors.QueryCanceled):
                pass
            with cur.copy("copy (select repeat('x', 1000) from generate_series(1, 2000)) to stdout") as c:
                assert sum(len(line) for line in c) == 2_002_000
            query, want = text(n)
            assert cur.execute(query, [n]).fetchone()[0] == want(n)
    together(work)
    took(CLIENTS * 1000)


def cursors():
    """Cursors on the server, one row at a time, two-phase commit."""
    def work(n):
        with connect(autocommit=False) as conn:
            with conn.cursor("c", scrollable=True) as cur:
                cur.itersize = 7
                cur.execute("select g from generate_series(%s::int, %s) g", [n, n + 99])
                assert [r[0] for r in cur] == list(range(n, n + 100))
                cur.scroll(10, mode="absolute")
                assert [cur.fetchone()[0]] + [r[0] for r in cur.fetchmany(2)] == [n + 10, n + 11, n + 12]
            conn.commit()
            with conn.cursor() as cur:
                assert sum(r[0] for r in cur.stream("select g from generate_series(1, %s) g", [300])) == 45150
            conn.rollback()
            xid = conn.xid(1, f"gid {n}", "drivers")
            conn.tpc_begin(xid)
            conn.execute("insert into item values (%s, 'two phases')", [n])
            conn.tpc_prepare()
            conn.tpc_rollback() if n % 2 else conn.tpc_commit()
            assert value(conn, "select count(*) from item where i = %s", n) == (n + 1) % 2
    together(work)
    with connect() as conn:
        conn.execute("delete from item")


def cancel():
    """cancel() meets the one query that it is for."""
    with psycopg.connect(DIRECT, autocommit=True) as direct, connect() as conn, connect() as other:
        for turn in range(6):
            # behind a Parse, within a pipeline, within a transaction
            def sleep():
                try:
                    if turn % 3 == 1:
                        with conn.pipeline():
                            conn.execute(f"select {turn}, %s", [turn])
                            conn.execute("select pg_sleep(600), 'victim'")
                    elif turn % 3 == 2:
                        with conn.transaction():
                            conn.execute("select pg_sleep(600), 'victim'")
                    else:
                        conn.execute("select pg_sleep(600), 'victim'")
                except errors.QueryCanceled:
                    return
                raise AssertionError("not cancelled")

            def work():
                for _ in range(20):
                    assert value(other, "select %s", turn) == turn
            cancelled(direct, sleep, conn.cancel, work)
            assert value(conn, "select %s + 1", turn) == turn + 1
            if turn % 3 == 0:
                conn.cancel()  # it has nothing to cancel
                assert value(other, "select 1 from pg_sleep(0.05)") == 1


def cancel_storm():
    """Cancels that come late meet nobody else."""
    with connect() as conn:
        done = threading.Event()

        def work(n):
            if n == 0:
                for _ in range(40):
                    conn.cancel()
                done.set()
                return
            with connect() as bystander:
                while not done.is_set():
                    if n == 1:
                        try:
                            conn.execute("select pg_sleep(0.002)")
                        except errors.QueryCanceled:
                            pass
                    else:
                        value(bystander, "select 1 from pg_sleep(0.003)")
        together(work, SERVERS + 3)
        assert value(conn, "select %s", 5) == 5


def settings():
    """What a client has set is set on each server."""
    latin = connect(client_encoding="latin1", application_name="it's é")
    plain = connect(application_name="plain")
    query = "select current_setting('client_encoding'), current_setting('application_name'), octet_length(%s), 'ß', current_setting('timezone')"

    def work(pid):
        assert plain.execute(query, ["ä"]).fetchone() == ("UTF8", "plain", 2, "ß", plain.info.timezone.key)
        got = latin.execute(query, ["ä"]).fetchone()
        assert got[0] == "LATIN1" and got[2:4] == (2, "ß") and got[4] == latin.info.timezone.key, got
        assert latin.info.encoding == "iso8859-1"
    on_each_server(connect, work)
    latin.execute("set application_name = 'renamed'")
    latin.execute("set timezone = 'Asia/Kolkata'")
    plain.execute("set client_encoding = 'latin9'")

    def changed(pid):
        assert plain.execute("select current_setting('client_encoding'), '€'").fetchone() == ("LATIN9", "€")
        got = latin.execute("select current_setting('application_name'), current_setting('timezone'), '2000-01-01 0:0+0'::timestamptz::text").fetchone()
        assert got == ("renamed", "Asia/Kolkata", "2000-01-01 05:30:00+05:30"), got
        assert str(latin.info.timezone) == "Asia/Kolkata"
    on_each_server(connect, changed)
    latin.close()
    plain.close()


def async_clients():
    async def one(n):
        async with await psycopg.AsyncConnection.connect(POOLER, dbname="app", prepare_threshold=0, autocommit=True) as conn:
            for turn in range(8):
                query, want = text((turn + n) % TEXTS)
                cur = await conn.execute(query, [turn])
                assert (await cur.fetchone())[0] == want(turn)
                async with conn.pipeline():
                    curs = [await conn.execute(text(i)[0], [n]) for i in range(TEXTS)]
                    for i, cur in enumerate(curs):
                        assert (await cur.fetchone())[0] == text(i)[1](n)

    async def run():
        await asyncio.gather(*(one(n) for n in range(2 * CLIENTS)))
    asyncio.run(run())


def notify():
    """LISTEN wants a session."""
    with connect("held") as ear, connect("app") as mouth:
        ear.execute("listen noise")
        mouth.execute("select pg_notify('noise', %s)", ["hé"])
        got = next(ear.notifies())
        assert (got.channel, got.payload) == ("noise", "hé"), got
        ear.execute("prepare by_hand as select 41 + $1")
        assert value(ear, "execute by_hand(1)") == 42


main(globals())
