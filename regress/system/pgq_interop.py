"""Jobs on PgQ's Python framework, for 009_pgq_interop.t: pgq_interop.py KIND [options] INI.

Each event that a job handles becomes a row of table seen, in the transaction that
finishes the batch, or on the target that the job tracks. An event of type "again" is put
aside when it comes for the first time.
"""

import sys

import pgq
import skytools


def note(job, curs, ev):
    curs.execute(
        "insert into seen (job, worker, ev_id, ev_type, ev_data, retry) values (%s, %s, %s, %s, %s, %s)",
        [job.job_name, job.cf.get("subconsumer_name", ""), ev.id, ev.type, ev.data, ev.retry])
    assert ev["ev_extra1"] == ev.extra1 and ev.ev_time is not None and ev.txid > 0


class Retrying:
    def process_event(self, db, ev):
        note(self, db.cursor(), ev)
        if ev.type == "again" and not ev.retry:
            ev.tag_retry(0)
        else:
            ev.tag_done()


class Plain(Retrying, pgq.Consumer):
    pass


class Coop(Retrying, pgq.CoopConsumer):
    pass


class Applying:
    def process_remote_batch(self, db, batch_id, ev_list, dst_db):
        for ev in ev_list:
            note(self, dst_db.cursor(), ev)
            ev.tag_done()


class Remote(Applying, pgq.RemoteConsumer):
    pass


class Serial(Applying, pgq.SerialConsumer):
    pass


class Local(pgq.LocalConsumer):
    def process_local_event(self, db, batch_id, ev):
        note(self, db.cursor(), ev)


class Produce(skytools.DBScript):
    def work(self):
        db = self.get_database("db")
        curs = db.cursor()
        pgq.insert_event(curs, "work", "py", "one", "public.t", None, None, None)
        pgq.bulk_insert_events(curs, [["2026-01-01", "py", "bulk %d" % i, "public.t"] for i in range(100)],
                               ["time", "type", "data", "extra1"], "work")
        db.commit()
        return 0


def main(kind, args):
    if kind in ("remote", "serial"):
        job = {"remote": Remote, "serial": Serial}[kind](kind, "db", "target", args)
    elif kind in ("plain", "coop", "local"):
        job = {"plain": Plain, "coop": Coop, "local": Local}[kind](kind, "db", args)
    elif kind == "status":
        job = pgq.PGQStatus(args)
    else:
        job = Produce(kind, args)
    job.start()


main(sys.argv[1], sys.argv[2:])
