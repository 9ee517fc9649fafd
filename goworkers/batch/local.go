package batch

// The consumer that keeps its place in a local file.
//
//	source  next_batch          the same batch comes until it is finished
//	file    was it noted before? then only finish
//	source  read the events --> handler
//	file    note the batch's last tick, and the events to put aside
//	source  finish_batch; put aside what the note says, in the same transaction
//
// What the handler does is no part of a transaction: when it dies between its work and
// the note, the batch comes once more.

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"goworkers/pgq"
)

// LocalConfig holds the keys of a consumer that keeps its place in a local file.
type LocalConfig struct {
	ConsumerConfig
	// TrackingFile is the file. Default: job_name.tick beside the ini file.
	TrackingFile string `ini:"local_tracking_file" default:"%(config_dir)s/%(job_name)s.tick" path:"true" help:"file that keeps this consumer's place on the queue; its directory must be writable"`
}

// LocalConsumer is a Worker that reads a queue and works on the machine it runs on, on
// files or caches. It keeps the last tick that it has done in a file beside them, so
// that both can be restored together. The file decides: where the queue has the consumer
// at another place, as after a restore, it is moved to that of the file.
//
// Its handler's transaction is the one that events are read through, in the queue's
// database; nothing can be written there. What the handler does happens at least once
// for each event: a batch comes again when the process dies in it.
type LocalConsumer struct {
	*source
	file    trackingFile
	handler Handler
	settled bool // file and queue were compared in this process
}

// NewLocalConsumer makes a consumer. Its first round registers it on the queue, if it is
// not registered: at the file's place, or without a file to get the events from then on.
func NewLocalConsumer(job *Job, cfg LocalConfig, handler Handler) (*LocalConsumer, error) {
	switch {
	case cfg.TrackingFile == "":
		return nil, Usagef("%s: local_tracking_file is empty", job.Service)
	case cfg.Slots > 0 || cfg.Workers > 1:
		return nil, Usagef("%s: consumer_slots and consumer_workers do not go together with local_tracking_file: it holds one place", job.Service)
	}
	s, err := newSource(job, cfg.ConsumerConfig)
	if err != nil {
		return nil, err
	}
	return &LocalConsumer{
		source: s, handler: handler,
		file: trackingFile{path: cfg.TrackingFile, queue: s.cfg.QueueName, consumer: s.cfg.ConsumerName},
	}, nil
}

// Work does one batch, if there is one.
func (c *LocalConsumer) Work(ctx context.Context) (more bool, err error) {
	started := time.Now()
	at, err := c.place()
	if err != nil {
		return false, err
	}
	if err := c.settle(ctx, at); err != nil {
		return false, err
	}
	src, next, err := c.next(ctx)
	if pgq.IsNotSubscribed(err) && at != nil { // somebody has unregistered it: the file knows its place
		c.registered, c.settled = false, false
		return true, nil
	}
	if next == nil || err != nil {
		return false, err
	}
	b := c.newBatch(next)
	switch {
	case at == nil || at.Tick == next.PrevTick:
		err := inTx(ctx, src, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(reader pgx.Tx) error {
			if err := c.handle(ctx, reader, reader, b, c.handler); err != nil {
				return err
			}
			return c.explainFile(c.file.write(next.Tick, b.aside))
		})
		if err != nil {
			return false, err
		}
	case at.Tick == next.Tick:
		c.log.WithField("batch_id", b.ID).Info("batch was done before, only to be finished")
		b.aside = at.events()
	default:
		c.settled = false
		return true, nil
	}
	if err := c.finishNoted(ctx, src, b.ID, b.aside); err != nil {
		return false, err
	}
	c.done(b, started)
	return true, nil
}

// place reads the file; nil when there is none.
func (c *LocalConsumer) place() (*localPlace, error) {
	if err := c.job.lockFile(c.file.path + ".lock"); err != nil {
		return nil, c.explainFile(err)
	}
	at, err := c.file.read()
	return at, c.explainFile(err)
}

// settle moves the consumer on the queue to the file's place, if it has another one.
func (c *LocalConsumer) settle(ctx context.Context, at *localPlace) error {
	if c.settled {
		return nil
	}
	src, err := c.ready(ctx)
	if err != nil {
		return err
	}
	if at != nil {
		infos, err := pgq.ConsumerInfo(ctx, src, c.cfg.QueueName, c.cfg.ConsumerName)
		if err != nil {
			return c.explain(err)
		}
		for _, info := range infos { // there is one
			if is(info.LastTick, at.Tick) || info.CurrentBatch != nil && is(info.NextTick, at.Tick) {
				c.settled = true
				return nil
			}
		}
		if err := c.moveTo(ctx, src, at); err != nil {
			return err
		}
		c.log.WithField("tick_id", at.Tick).Warn("the queue had the consumer at another place: it was moved to that of local_tracking_file")
	}
	c.settled = true
	return nil
}

func is(tick *int64, wanted int64) bool { return tick != nil && *tick == wanted }

func (c *LocalConsumer) moveTo(ctx context.Context, src *pgx.Conn, at *localPlace) error {
	_, err := pgq.RegisterConsumerAt(ctx, src, c.cfg.QueueName, c.cfg.ConsumerName, at.Tick)
	if err == nil || IsConnectionLost(err) {
		return err
	}
	return c.explainFile(fmt.Errorf("%w; if the queue does not have tick %d any more, events may be missing here: "+
		"bring the local data up to date and remove the file, to go on from where the queue has the consumer", c.explain(err), at.Tick))
}

// Rewind moves the consumer on the queue to the file's place, as a round does by itself.
// It returns that tick, or nil when there is no file and nothing was done.
func (c *LocalConsumer) Rewind(ctx context.Context) (*int64, error) {
	at, err := c.place()
	if at == nil || err != nil {
		return nil, err
	}
	src, err := c.db(ctx)
	if err != nil {
		return nil, err
	}
	return &at.Tick, c.moveTo(ctx, src, at)
}

// Reset removes the file, so that the next batch is taken wherever the queue has it.
func (c *LocalConsumer) Reset(context.Context) error {
	if err := c.job.lockFile(c.file.path + ".lock"); err != nil {
		return c.explainFile(err)
	}
	return c.explainFile(c.file.remove())
}

// explainFile says which file an error is about.
func (c *LocalConsumer) explainFile(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s = %s: %w", c.job.Config.Key("local_tracking_file"), c.file.path, err)
}

// trackingFile is the file that keeps a consumer's place. It holds one JSON object; a
// bare number is the tick alone, as older programs wrote it.
type trackingFile struct {
	path, queue, consumer string
}

// localPlace is what the file holds.
type localPlace struct {
	Queue    string       `json:"queue"`
	Consumer string       `json:"consumer"`
	Tick     int64        `json:"tick_id"` // up to here everything is done, but for ...
	Aside    []asideEvent `json:"put_aside,omitempty"`
}

// asideEvent is a pgq.Aside.
type asideEvent struct {
	Event  int64  `json:"event_id"`
	Retry  *int64 `json:"retry_seconds"` // null: given up
	Reason string `json:"reason,omitempty"`
}

func (p *localPlace) events() []pgq.Aside {
	var list []pgq.Aside
	for _, e := range p.Aside {
		a := pgq.Aside{Event: e.Event, Dead: e.Retry == nil, Reason: e.Reason}
		if e.Retry != nil {
			a.After = time.Duration(*e.Retry) * time.Second
		}
		list = append(list, a)
	}
	return list
}

// read returns nil when there is no file. One that is no place of this consumer is
// misuse: to go on without it, or to replace it, might lose events.
func (f *trackingFile) read() (*localPlace, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the consumer's place: %w; make the file readable", baseError(err))
	}
	at := &localPlace{}
	if tick, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && tick > 0 {
		at.Tick = tick
		return at, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(at)
	if _, trailing := decoder.Token(); err != nil || trailing != io.EOF || at.Tick <= 0 || at.Queue == "" || at.Consumer == "" {
		return nil, Usagef("is no consumer's place, but begins with %.40q; restore the file, or remove it to go on from where the queue has the consumer", data)
	}
	if at.Queue != f.queue || at.Consumer != f.consumer {
		return nil, Usagef("is the place of consumer %q on queue %q, not of consumer %q on queue %q; "+
			"give each consumer a file of its own, or remove the file to go on from where the queue has the consumer", at.Consumer, at.Queue, f.consumer, f.queue)
	}
	return at, nil
}

// write replaces the file by one that says this, so that whatever stops when, the disk
// has the one or the other, whole.
func (f *trackingFile) write(tick int64, aside []pgq.Aside) error {
	at := localPlace{Queue: f.queue, Consumer: f.consumer, Tick: tick}
	for _, a := range aside {
		e := asideEvent{Event: a.Event, Reason: a.Reason}
		if !a.Dead {
			seconds := int64((a.After + time.Second - 1) / time.Second)
			e.Retry = &seconds
		}
		at.Aside = append(at.Aside, e)
	}
	data, err := json.Marshal(at)
	if err == nil {
		err = ReplaceFile(f.path, func(file io.Writer) error {
			_, err := file.Write(append(data, '\n'))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("note tick %d: %w; make room and its directory writable, or change the key", tick, baseError(err))
	}
	return nil
}

func (f *trackingFile) remove() error {
	err := os.Remove(f.path)
	if err == nil {
		err = syncDir(filepath.Dir(f.path))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the consumer's place: %w", baseError(err))
	}
	return nil
}

// ReplaceFile makes a file, in the place of one that may be there, with what fill writes:
// whole and on disk, or not at all. Until then it is PATH.new. When fill writes nothing no
// file is made, and one that is there stays. Only one process may be at a path.
func ReplaceFile(path string, fill func(io.Writer) error) (err error) {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name()) // it is of no use
		}
	}()
	buffered := bufio.NewWriter(file)
	err = fill(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err == nil {
		err = file.Sync()
	}
	info, statErr := file.Stat()
	if closeErr := file.Close(); err == nil {
		err = cmp.Or(closeErr, statErr)
	}
	switch {
	case err != nil:
		return err
	case info.Size() == 0:
		return os.Remove(file.Name())
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory outlive a crash of the machine.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// lockFile takes a file that other processes may not have, until the job is closed. The
// kernel gives it back when the process ends, however that is. The file stays: one that
// was removed and made again could be locked twice.
func (j *Job) lockFile(path string) error {
	if j.locks[path] != nil {
		return nil
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("lock the consumer's place: %w; make its directory, and make that writable, or change the key", baseError(err))
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			data, _ := io.ReadAll(io.LimitReader(file, 20)) // who it is, is only a help
			return fmt.Errorf("is in use by another process (pid %d); stop that one, or give each a file and a consumer_name of its own", parsePid(data))
		}
		return fmt.Errorf("lock the consumer's place: %w", err)
	}
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt(fmt.Appendln(nil, os.Getpid()), 0) // as above
	}
	if j.locks == nil {
		j.locks = map[string]*os.File{}
	}
	j.locks[path] = file
	return nil
}
