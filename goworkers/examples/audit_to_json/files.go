package main

// The files. Lines of a batch stand together at the end of a file, so that what a program
// that died has written of it is found when the file is opened.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/pgq"
)

// openMax is how many days have open files; events come late only now and then.
const openMax = 3

type files struct {
	dir   string
	batch int64
	days  map[string]*day
}

type day struct {
	*os.File
	has map[int64]bool // events of the batch that are in the file
}

// begin is called when a batch comes, perhaps once more.
func (f *files) begin(batch int64) {
	if batch == f.batch {
		return
	}
	f.batch = batch
	for _, day := range f.days {
		clear(day.has)
	}
}

func (f *files) write(_ context.Context, _ pgx.Tx, ev *pgq.Event, c *pgq.Change) error {
	day, err := f.open(ev.Time.UTC().Format(time.DateOnly))
	if err != nil || day.has[ev.ID] {
		return err
	}
	line, err := json.Marshal(entry{ev.ID, f.batch, ev.Time.UTC(), string(c.Op), c.Table, c.Row, c.Old})
	if err != nil {
		return err
	}
	day.has[ev.ID] = true
	_, err = day.Write(append(line, '\n'))
	return err
}

// end makes sure that the files are on disk. After an error they are read again, since
// their last line may be cut off.
func (f *files) end(err error) error {
	for _, day := range f.days {
		err = errors.Join(err, day.Sync())
	}
	if err != nil || len(f.days) > openMax {
		for name, day := range f.days {
			err = errors.Join(err, day.Close())
			delete(f.days, name)
		}
	}
	return err
}

// open opens the file of a day, and finds out what it has of the batch.
func (f *files) open(name string) (*day, error) {
	if day := f.days[name]; day != nil {
		return day, nil
	}
	file, err := os.OpenFile(filepath.Join(f.dir, name+".json"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	opened := &day{File: file, has: map[int64]bool{}}
	f.days[name] = opened // so that it is closed
	whole := int64(0)
	for lines := bufio.NewReader(file); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return opened, file.Truncate(whole) // a line that was cut off is written again
		}
		if err != nil {
			return nil, err
		}
		whole += int64(len(line))
		var e struct{ Event, Batch int64 }
		if json.Unmarshal(line, &e) == nil && e.Batch == f.batch {
			opened.has[e.Event] = true
		}
	}
}
