package cli

// The commands table_dispatcher, cube_dispatcher, bulk_loader and queue_loader.

import (
	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/consumers"
)

func newTableDispatcher() *cli.Command {
	return consumerJob{
		service: consumers.TableDispatcherService,
		usage:   "write the rows of a queue's events into a table, or into parts of it by date",
		description: `Reads events with rows (pgq.logutriga, pgq.jsontriga) and inserts the rows into
dest_table of dst_db, or into a table for each day, month, year or hour of part_field.
What is missing is made. Each row comes once: the position is kept in dst_db by pgq_ext.

   [table_dispatcher]
   job_name = orders_by_day
   src_db = dbname=oltpdb
   dst_db = dbname=logdb
   pgq_queue_name = orders
   dest_table = public.orders
   fields = id, username, amount, ordered_at
   part_field = ordered_at
   part_method = daily
   part_template = create table _DEST_TABLE (like _PARENT including all);
       grant select on _DEST_TABLE to reporting;
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   table_dispatcher -d orders.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.TableDispatcherConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewTableDispatcher(job, *cfg) }
		},
	}.command()
}

func newCubeDispatcher() *cli.Command {
	return consumerJob{
		service: consumers.CubeDispatcherService,
		usage:   "keep the latest state of each row a day, in tables by date",
		description: `Reads events of pgq.logutriga or pgq.jsontriga and writes each row into the table of its own
name and the date of the batch: public.users_2026_11_30. Of a row that changed often on
one day the latest state stays (mode = keep_latest), or all states (keep_all). Tables
that are missing are made. Each state comes once: the position is kept in dst_db by
pgq_ext.

   [cube_dispatcher]
   job_name = users_cube
   src_db = dbname=oltpdb
   dst_db = dbname=cubedb
   pgq_queue_name = users
   mode = keep_latest
   dateformat = YYYY_MM_DD
   part_template = create table _DEST_TABLE (like _PARENT);
       alter table only _DEST_TABLE add primary key (_PKEY);
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   cube_dispatcher -d users.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.CubeDispatcherConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewCubeDispatcher(job, *cfg) }
		},
	}.command()
}

func newBulkLoader() *cli.Command {
	return consumerJob{
		service: consumers.BulkLoaderService,
		usage:   "keep copies of tables where single changes are slow, by changes in sets",
		description: `Reads events of pgq.logutriga or pgq.jsontriga and carries the changes out on tables of the same
names, or as remap_tables says: of the changes to a row the last counts, and a table's
changes go there together by COPY. Batches should be big (pgq_batch_collect_events, or
the queue's ticker_max_count). A change that finds no row is told in the log.

   [bulk_loader]
   job_name = stats_loader
   src_db = dbname=oltpdb
   dst_db = dbname=warehouse
   pgq_queue_name = stats
   remap_tables = public.orders:stats.orders
   load_method = 0
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   bulk_loader -d stats.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.BulkLoaderConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewBulkLoader(job, *cfg) }
		},
	}.command()
}

func newQueueLoader() *cli.Command {
	return consumerJob{
		service: consumers.QueueLoaderService,
		usage:   "load the rows of many tables' events, each table in a way of its own",
		description: `Reads events of pgq.logutriga or pgq.jsontriga and loads their rows into tables of the same
names, or as rename_tables says: as inserts, as latest states or as changes (row_mode),
into the table or into parts of it by time (table_mode). A section named after a table
of the source says for that table what differs.

   [queue_loader]
   job_name = warehouse_loader
   src_db = dbname=oltpdb
   dst_db = dbname=warehouse
   pgq_queue_name = changes
   row_mode = bulk
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   [public.page_views]
   row_mode = plain
   table_mode = split
   split_mode = by-date-field:viewed_at
   split_part = %(table_name)s_%(year)s_%(month)s

   queue_loader -d loader.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.QueueLoaderConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewQueueLoader(job, *cfg) }
		},
	}.command()
}
