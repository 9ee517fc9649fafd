// Package batch is the framework of batch jobs: a program gives it one
// function that does a round of work, and it gives the program everything
// around that.
//
// A job is one process with one section of an ini file. Launch reads the
// section, takes the pid file, goes into the background when asked to, opens
// the log and calls the job. Job.Run is the main loop: work as long as there
// is something to do, sleep loop_delay when there is not, and after an error
// log it once, drop all connections, pause for longer and longer and go on.
// Work must therefore be safe to repeat: whatever it did not commit is done
// again.
//
// The environment goes before the ini file, the command line before both; running.md
// tells operators of that, of logs, errors and reloads, and of systemd and its watchdog.
//
// SIGINT ends the job after the current round, SIGTERM cancels the round and
// ends the job, SIGHUP reads the ini file again between two rounds. A crash
// between two commits leaves only a pid file, which the next start recognises
// as stale.
//
// A job that reads a queue is a consumer. The program gives a Handler; taking batches,
// reading events, positions and finishing are done around it. Which one to make is a
// question of where the effects are, since the position is kept with them:
//
//	NewConsumer         in the queue's own database; each event takes effect once
//	NewRemoteConsumer   in another database, which notes the batch in pgq_ext; once
//	NewSerialConsumer   the same, with the tick, so that it finds its place in a copy
//	                    of the queue and stops when source and target do not fit; once
//	NewLocalConsumer    on this machine, with the tick in a file; at least once
//	NewCoopConsumer     as NewConsumer, by several workers that share the batches
//	                    without order between them (pgq_coop); once
//
// Whatever stops when, a batch that was not done comes again, and one that was done is
// only finished. Effects elsewhere, like a mail that is sent, happen at least once.
//
// A handler puts events aside with Batch.Retry and gives them up with Batch.Fail, while
// the others are done. An event that is retried comes with a later batch, behind those
// that followed it.
//
// Of a batch no more than pgq_lazy_fetch events and pgq_lazy_bytes bytes are in memory,
// but at least one event.
//
// A consumer whose queue has queue_notify set listens to its ticks and takes a batch at
// once; it polls every 10 s all the same, since word may be lost, and asks then whether
// the setting still holds. With pgq_keep_lag or pgq_batch_collect_*, through a connection
// pooler and on schemas before 4.0 it polls every loop_delay. examples/user_report is
// such a program.
//
// Several workers can share a consumer (consumer_slots, consumer_workers): each has
// batches of its own, and events with the same key stay in order; see parallel.go and
// examples/account_ledger.
//
// Handle makes a Handler of a function for single events: it decodes each into a struct,
// and what the function returns (nil, Retry, DeadLetter, another error) decides.
// README.md beside this file shows it, and which consumer is for what.
//
// The smallest program:
//
//	type config struct {
//		batch.JobConfig
//		DB batch.ConnString `ini:"db" required:"true" help:"database to clean"`
//	}
//
//	func main() {
//		var cfg config
//		batch.Main("cleaner", &cfg, func(job *batch.Job) (batch.Worker, error) {
//			return batch.WorkerFunc(func(ctx context.Context) (bool, error) {
//				db, err := job.DB(ctx, "db", cfg.DB)
//				if err != nil {
//					return false, err
//				}
//				tag, err := db.Exec(ctx, "select cleanup.step()")
//				job.Stats.Add("count", int(tag.RowsAffected()))
//				return false, err
//			}), nil
//		})
//	}
package batch
