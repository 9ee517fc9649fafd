package cli

// The commands that run a statement for each event.

import (
	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/consumers"
)

func newSimpleConsumer() *cli.Command {
	return consumerJob{
		service: consumers.SimpleConsumerService,
		usage:   "run a statement for each event that a trigger wrote, at least once",
		description: `Reads queue_name in src_db and runs dst_query in dst_db for each event of a row
(types I:, U: and D:, as pgq.logutriga writes them). %(name)s in it is the row's
column of that name, %(pgq.ev_id)s and the like are fields of the event. The values
go as parameters: no quotes around them. Each event is committed by itself, and may
come again after a crash: what the statement calls has to ignore what it has done.

   [simple_consumer]
   job_name      = job_to_be_done
   src_db        = dbname=sourcedb
   dst_db        = dbname=targetdb
   pgq_queue_name = event_queue
   dst_query     =
       SELECT * FROM function_to_be_run(%(username)s, %(email)s);

   logfile       = ~/log/%(job_name)s.log
   pidfile       = ~/pid/%(job_name)s.pid

   simple_consumer -d consumer.ini`,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.SimpleConsumerConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewSimpleConsumer(job, *cfg) }
		},
	}.command()
}

func newSimpleSerialConsumer() *cli.Command {
	return consumerJob{
		service: consumers.SimpleSerialConsumerService,
		usage:   "run a statement for each event, once",
		description: `Reads queue_name in src_db and runs dst_query in dst_db for each event, whatever
its type. A batch is one transaction there, in which pgq_ext also notes the place: so
each event takes effect once. %(name)s in the statement is the column of that name,
%(pgq.ev_data)s and the like are fields of the event. The values go as parameters:
no quotes around them.

   [simple_serial_consumer]
   job_name = logins_to_report
   src_db = dbname=sourcedb
   dst_db = dbname=targetdb
   pgq_queue_name = event_queue
   dst_query =
       SELECT * FROM report.note_login(%(username)s, %(pgq.ev_time)s);
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   simple_serial_consumer -d consumer.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.SimpleSerialConsumerConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewSimpleSerialConsumer(job, *cfg) }
		},
	}.command()
}

func newSimpleLocalConsumer() *cli.Command {
	return consumerJob{
		service: consumers.SimpleLocalConsumerService,
		usage:   "run a statement for each event that a trigger wrote, with the place in a file",
		description: `Does what simple_consumer does, but keeps its place on the queue in
local_tracking_file. The file decides: where the queue has the consumer at another
place, as after a restore of either, the consumer is moved to that of the file.

   [simple_local_consumer]
   job_name = cache_refresh
   src_db = dbname=sourcedb
   dst_db = dbname=localdb
   pgq_queue_name = event_queue
   dst_query =
       SELECT cache.refresh(%(username)s);
   local_tracking_file = ~/state/%(job_name)s.tick
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   simple_local_consumer -d consumer.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.SimpleLocalConsumerConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewSimpleLocalConsumer(job, *cfg) }
		},
	}.command()
}
