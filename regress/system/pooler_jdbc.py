"""What the JDBC driver says to a pooler, message for message, for 010_pooler_drivers.t:
pooler_jdbc.py CASE...

As traced of pgjdbc 42.5 with its defaults: the first four executions of a
PreparedStatement use the unnamed statement, then it is S_1 and described no more; BEGIN
travels in front of the first statement; a fetch size makes a portal C_n that is read on
after Sync; a batch is described once and then bound many times before one Sync.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct

from pooler_clients import CLIENTS, main, on_all_servers, together


class ServerError(Exception):
    def __init__(self, body):
        self.fields = {f[:1].decode(): f[1:].decode() for f in body.split(b"\0") if f}
        super().__init__(self.fields)


class Driver:
    """A connection. Answers are (type, body); error() and Sync end at ReadyForQuery."""

    def __init__(self, db="app"):
        self.sock = socket.create_connection((os.environ["PGHOST"], int(os.environ["POOLER_PORT"])), 60)
        self.file = self.sock.makefile("rb")
        self.out, self.names, self.begin, self.parameters = b"", 0, None, {}
        self.sock.sendall(struct.pack("!ii", 8, 80877103))
        assert self.sock.recv(1) == b"N"
        user, password = os.environ["PGUSER"], os.environ["PGPASSWORD"]
        startup = "".join(w + "\0" for w in (
            "user", user, "database", db, "client_encoding", "UTF8", "DateStyle", "ISO", "TimeZone", "Etc/UTC",
            "extra_float_digits", "2")).encode() + b"\0"
        self.sock.sendall(struct.pack("!ii", len(startup) + 8, 196608) + startup)
        self.scram(password)
        while self.read()[0] != "Z":
            pass
        assert self.parameters["client_encoding"] == "UTF8" and self.parameters["TimeZone"] == "Etc/UTC"
        for setting in ("extra_float_digits = 3", "application_name = 'PostgreSQL JDBC Driver'"):
            self.parse("", "SET " + setting).bind("", "").execute("", 1)
            assert self.sync() == "1 2 C:SET Z", setting
        assert self.parameters["application_name"] == "PostgreSQL JDBC Driver"

    def scram(self, password):
        typ, body = self.read()
        assert typ == "R" and body[:4] == b"\0\0\0\12", body
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = "n=*,r=" + nonce
        initial = b"n,," + first.encode()
        self.message("p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(initial)) + initial).flush()
        server_first = self.read()[1][4:].decode()
        values = dict(part.split("=", 1) for part in server_first.split(","))
        assert values["r"].startswith(nonce)
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(values["s"]), int(values["i"]))
        final = "c=biws,r=" + values["r"]
        signed = ",".join((first, server_first, final)).encode()

        def mac(key, text):
            return hmac.new(key, text, "sha256").digest()
        client_key = mac(salted, b"Client Key")
        signature = mac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.message("p", (final + ",p=" + base64.b64encode(proof).decode()).encode()).flush()
        want = base64.b64encode(mac(mac(salted, b"Server Key"), signed)).decode()
        assert self.read()[1][4:].decode() == "v=" + want

    def message(self, typ, body=b""):
        self.out += typ.encode() + struct.pack("!i", len(body) + 4) + body
        return self

    def parse(self, name, query, *oids):
        return self.message("P", b"%s\0%s\0" % (name.encode(), query.encode()) + struct.pack("!h%dI" % len(oids), len(oids), *oids))

    def bind(self, portal, name, *values):
        body = b"%s\0%s\0" % (portal.encode(), name.encode()) + struct.pack("!hh", 0, len(values))
        for v in values:
            text = str(v).encode()
            body += struct.pack("!i", len(text)) + text
        return self.message("B", body + struct.pack("!h", 0))

    def describe(self, what, name):
        return self.message("D", what.encode() + name.encode() + b"\0")

    def execute(self, portal, limit):
        return self.message("E", portal.encode() + struct.pack("!bi", 0, limit))

    def close(self, what, name):
        return self.message("C", what.encode() + name.encode() + b"\0")

    def flush(self):
        self.sock.sendall(self.out)
        self.out = b""

    def read(self):
        head = self.file.read(5)
        assert len(head) == 5, "the pooler hung up"
        body = self.file.read(struct.unpack("!i", head[1:])[0] - 4)
        typ = head[:1].decode()
        if typ == "S":
            name, value = body.split(b"\0")[:2]
            self.parameters[name.decode()] = value.decode()
        elif typ == "E" and b"VFATAL\0" in body:
            raise ServerError(body)
        return typ, body

    def sync(self):
        """Sends all with a Sync; what is answered, in words. Rows are self.rows."""
        self.message("S").flush()
        words, self.rows = [], []
        while True:
            typ, body = self.read()
            if typ == "D":
                count, at = struct.unpack("!h", body[:2])[0], 2
                row = []
                for _ in range(count):
                    size = struct.unpack("!i", body[at:at + 4])[0]
                    row.append(body[at + 4:at + 4 + size].decode())
                    at += 4 + size
                self.rows.append(tuple(row))
            elif typ == "C":
                words.append("C:" + body[:-1].decode())
            elif typ == "E":
                words.append("E:" + ServerError(body).fields["C"])
            elif typ == "Z":
                self.status = body.decode()
                return " ".join(words + ["Z"])
            elif typ != "S":
                words.append(typ)

    def name(self, kind="S"):
        self.names += 1
        return "%s_%d" % (kind, self.names)

    def leave(self):
        self.message("X").flush()
        assert self.file.read() == b""
        self.sock.close()


INT4, VARCHAR = 23, 1043


class Prepared:
    """java.sql.PreparedStatement with prepareThreshold 5."""

    def __init__(self, driver, query, *oids):
        self.driver, self.query, self.oids, self.runs, self.named = driver, query, oids, 0, None

    def run(self, *values):
        """The words of the answer; the rows are the driver's."""
        d = self.driver
        self.runs += 1
        described = "T "
        if self.named:
            d.bind("", self.named, *values)
            words, described = "2 ", ""
        else:
            name = d.name() if self.runs == 5 else ""
            d.parse(name, self.query, *self.oids).bind("", name, *values).describe("P", "")
            words, self.named = "1 2 ", name or None
        d.execute("", 0)
        got = d.sync()
        assert got.startswith(words + described), (got, self.runs)
        return got[len(words + described):]


def prepared():
    """S_1 from the fifth execution on, wherever it is executed."""
    def work(n):
        d, at = Driver(), set()
        statements = [Prepared(d, "select $1::int * %d, pg_backend_pid()" % k, INT4) for k in range(8)]
        for turn in range(12):
            for k, st in enumerate(statements):
                assert st.run(turn + n) == "C:SELECT 1 Z"
                assert d.rows[0][0] == str((turn + n) * k), d.rows
                at.add(d.rows[0][1])
        assert statements[7].named == "S_8"
        d.leave()
        return at
    on_all_servers(work)


def fetch_size():
    """BEGIN in the batch of the first Execute, and a portal that is read on after Sync."""
    def work(n):
        d = Driver()
        begin = commit = ""
        for turn in range(6):
            if turn == 1:
                begin, commit = d.name(), d.name()
            if turn < 2:
                d.parse(begin, "BEGIN")
            d.bind("", begin).execute("", 0)
            portal = d.name("C")
            d.parse("", "select g, 'row ' || g from generate_series($1, 10 + $1) g", INT4).bind(portal, "", n)
            got = d.describe("P", portal).execute(portal, 4).sync()
            assert got == ("1 " if turn < 2 else "") + "2 C:BEGIN 1 2 T s Z" and d.status == "T", got
            rows = d.rows
            # another statement, while the portal is open
            assert d.parse("", "select 1").bind("", "").describe("P", "").execute("", 0).sync() == "1 2 T C:SELECT 1 Z"
            for want in ("s Z", "C:SELECT 3 Z"):
                assert d.execute(portal, 4).sync() == want
                rows += d.rows
            assert rows == [(str(g), "row %d" % g) for g in range(n, n + 11)], rows
            d.close("P", portal)
            if turn < 2:
                d.parse(commit, "COMMIT")
            got = d.bind("", commit).execute("", 1).sync()
            assert got == "3 " + ("1 " if turn < 2 else "") + "2 C:COMMIT Z" and d.status == "I", got
        d.leave()
    together(work)


def batch():
    """executeBatch: described once, bound many times, one Sync; then ROLLBACK or COMMIT."""
    def work(n):
        d = Driver()
        begin, insert, end = d.name(), d.name(), {"ROLLBACK": d.name(), "COMMIT": d.name()}
        d.parse(begin, "BEGIN").bind("", begin).execute("", 0)
        d.parse(insert, "insert into item values ($1, $2)", INT4, VARCHAR).describe("S", insert)
        assert d.sync() == "1 2 C:BEGIN 1 t n Z"
        known = set()
        for turn in range(6):
            if turn:
                d.bind("", begin).execute("", 0)
            for i in range(50):
                d.bind("", insert, n * 1000 + turn * 50 + i, "batch").describe("P", "").execute("", 1)
            assert d.sync() == "2 C:BEGIN " * bool(turn) + "2 n C:INSERT 0 1 " * 50 + "Z" and d.status == "T"
            how = "COMMIT" if turn % 2 else "ROLLBACK"
            if how not in known:
                d.parse(end[how], how)
            assert d.bind("", end[how]).execute("", 1).sync() == "1 " * (how not in known) + "2 C:%s Z" % how
            known.add(how)
        d.leave()
    together(work)
    d = Driver()
    assert Prepared(d, "select count(*), count(distinct i) from item where v = $1", VARCHAR).run("batch") == "C:SELECT 1 Z"
    assert d.rows == [(str(CLIENTS * 150),) * 2], d.rows
    assert d.parse("", "delete from item").bind("", "").describe("P", "").execute("", 0).sync() == "1 2 n C:DELETE %d Z" % (CLIENTS * 150)
    d.leave()


def errors():
    """An error behind BEGIN in one batch; a batch in which one row is wrong; savepoints."""
    def work(n):
        d = Driver()
        begin, rollback, insert = d.name(), d.name(), d.name()
        assert d.parse(begin, "BEGIN").bind("", begin).execute("", 0).parse("", "select 1/0").bind("", "").describe("P", "") \
            .execute("", 0).sync() == "1 2 C:BEGIN 1 E:22012 Z" and d.status == "E"
        assert d.bind("", begin).execute("", 0).sync() == "E:25P02 Z"
        assert d.parse(rollback, "ROLLBACK").bind("", rollback).execute("", 1).sync() == "1 2 C:ROLLBACK Z" and d.status == "I"
        # without a transaction: what is in front of the error goes with it
        d.parse(insert, "insert into item values ($1, $2)", INT4, VARCHAR).describe("S", insert)
        assert d.sync() == "1 t n Z"
        for i in (1, 2, -1, 3):
            d.bind("", insert, i, "wrong").describe("P", "").execute("", 1)
        assert d.sync() == "2 n C:INSERT 0 1 2 n C:INSERT 0 1 2 n E:23514 Z" and d.status == "I"
        # autosave=always
        d.bind("", begin).execute("", 0).parse("", "SAVEPOINT PGJDBC_AUTOSAVE").bind("", "").execute("", 1)
        assert d.bind("", insert, -1, "x").execute("", 1).sync() == "2 C:BEGIN 1 2 C:SAVEPOINT 2 E:23514 Z"
        assert d.parse("", "ROLLBACK TO SAVEPOINT PGJDBC_AUTOSAVE").bind("", "").execute("", 1).sync() == "1 2 C:ROLLBACK Z"
        assert d.bind("", rollback).execute("", 1).sync() == "2 C:ROLLBACK Z"
        # a statement that fails to be prepared is closed and gets another name
        bad = d.name()
        assert d.parse(bad, "select nosuch").bind("", bad).execute("", 0).sync() == "E:42703 Z"
        assert d.close("S", bad).parse(d.name(), "select 7").bind("", "S_%d" % d.names).execute("", 0).sync() == "3 1 2 C:SELECT 1 Z"
        d.leave()
    together(work)
    d = Driver()
    assert Prepared(d, "select count(*) from item").run() == "C:SELECT 1 Z" and d.rows == [("0",)], d.rows
    d.leave()


def metadata():
    """getMetaData describes a statement without running it; close() goes with the next batch."""
    def work(n):
        d = Driver()
        for turn in range(12):
            assert d.parse("", "select $1 || 'x'", VARCHAR).describe("S", "").sync() == "3 " * bool(turn) + "1 t T Z"
            name = d.name()
            d.parse(name, "select $1::int + %d" % turn, INT4).describe("S", name).bind("", name, n).describe("P", "").execute("", 0)
            assert d.sync() == "1 t T 2 T C:SELECT 1 Z" and d.rows == [(str(n + turn),)], d.rows
            d.close("S", name)
        assert d.parse("", "select 1").bind("", "").execute("", 0).sync() == "3 1 2 C:SELECT 1 Z"
        d.leave()
    together(work)


main(globals())
