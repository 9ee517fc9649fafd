package cli

// What the commands of all consumers have in common: besides running, they can do
// what only changes the consumer's place.

import (
	"github.com/urfave/cli/v2"

	"goworkers/batch"
)

// consumerJob is a consumer as a command.
type consumerJob struct {
	service, usage, description string
	// rewinds says that its target knows its place, too.
	rewinds bool
	// start gives an empty configuration, and what makes the worker from it when it
	// is filled.
	start func() (batch.Config, func(job *batch.Job) (batch.Worker, error))
}

func (j consumerJob) command() *cli.Command {
	command := workerCommand(j.service, j.usage, j.description, j.run)
	command.Flags = append(command.Flags,
		&cli.BoolFlag{Name: "register", Usage: "only register on the queue, to get what comes from now on"},
		&cli.BoolFlag{Name: "unregister", Usage: "only take the registration off the queue"})
	if j.rewinds {
		command.Flags = append(command.Flags,
			&cli.BoolFlag{Name: "rewind", Usage: "only go back on the queue to where the target is, after the target was restored"},
			&cli.BoolFlag{Name: "reset", Usage: "only make the target forget its place, after the queue was made anew"})
	}
	return command
}

func (j consumerJob) run(c *cli.Context, opt batch.Options) error {
	var places []batch.Place
	for _, place := range []batch.Place{batch.PlaceRegister, batch.PlaceUnregister, batch.PlaceRewind, batch.PlaceReset} {
		if c.Bool(string(place)) {
			places = append(places, place)
		}
	}
	var err error
	if opt.Place, err = batch.OnePlace(places); err != nil {
		return err
	}
	cfg, newWorker := j.start()
	return batch.RunWorker(c.Context, j.service, cfg, opt, newWorker)
}
