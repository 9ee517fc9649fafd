package cli

// The command data_maintainer.

import (
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"goworkers/batch"
	"goworkers/internal/consumers"
)

func newDataMaintainer() *cli.Command {
	return workerCommand(consumers.DataMaintainerService,
		"run a statement for each row of a list, in small commits",
		`Reads rows, as a rule keys, from a query in dbread or from a CSV file, and runs
sql_modify in dbwrite for each, with a commit for each row, or for each fetch_count
rows with autocommit = 0. %(name)s in it is the column of that name; the values go as
parameters: no quotes around them. A run that is stopped (-s) ends between two
commits, and what was committed stays. The next run begins with a new list: so write
the condition of the list into sql_modify, too.

   [data_maintainer]
   job_name = remove_expired
   dbread = dbname=reportdb
   sql_get_pk_list =
       select username from user_service where expires < now()
   dbwrite = dbname=userdb
   sql_modify =
       delete from user_service where username = %(username)s and expires < now()
   autocommit = 0
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   data_maintainer -d maintainer.ini`,
		func(c *cli.Context, opt batch.Options) error {
			var cfg consumers.DataMaintainerConfig
			return batch.RunWorker(c.Context, consumers.DataMaintainerService, &cfg, opt, func(job *batch.Job) (batch.Worker, error) {
				if console, ok := opt.Stderr.(*os.File); ok && !opt.Daemon && !opt.Quiet && isTerminal(console) {
					cfg.Progress = console
				}
				return consumers.NewDataMaintainer(job, cfg)
			})
		})
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
