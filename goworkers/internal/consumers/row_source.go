package consumers

// Where a data maintainer has its rows from: a query's cursor, or a file.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/batch"
)

// rowSource gives rows as texts; a nil value is NULL.
type rowSource interface {
	names() []string
	// next gives up to n rows; none when there are no more.
	next(ctx context.Context, n int) ([][][]byte, error)
	// total is how many rows there are, and part which part of them was given when
	// that is known, from 0 to 1. They are 0 when they are not known.
	total() int64
	part() float64
	// close may be called twice.
	close() error
}

func (m *DataMaintainer) open(ctx context.Context) (rowSource, error) {
	if m.cfg.FileRead != "" {
		return m.openFile()
	}
	return m.openCursor(ctx)
}

// cursorRows are the rows of a query.
type cursorRows struct {
	conn    *pgx.Conn
	columns []string
	count   int64
	given   int64
	closed  bool
	hold    bool
}

const rowCursor = "data_maintainer"

func (m *DataMaintainer) openCursor(ctx context.Context) (rowSource, error) {
	conn, err := m.job.DB(ctx, "dbread", m.cfg.DBRead)
	if err != nil {
		return nil, err
	}
	const key = "sql_get_pk_list"
	text := strings.TrimRight(m.cfg.SQLGetPKList, "; \n\t")
	description, err := conn.PgConn().Prepare(ctx, "", text, nil)
	if err != nil {
		var server *pgconn.PgError
		if errors.As(err, &server) && !batch.IsConnectionLost(err) {
			err = batch.SetupError(fmt.Errorf("%s: the server refuses the query: %w", m.job.Config.Key(key), err))
		}
		return nil, err
	}
	c := &cursorRows{conn: conn, hold: m.cfg.WithHold}
	for _, field := range description.Fields {
		c.columns = append(c.columns, field.Name)
	}
	if c.hold {
		// The server writes the list down and ends the transaction; that list can be
		// counted.
		if _, err = c.exec(ctx, "declare "+rowCursor+" scroll cursor with hold for "+text); err == nil {
			var moved *pgconn.Result
			if moved, err = c.exec(ctx, "move forward all in "+rowCursor); err == nil {
				c.count = moved.CommandTag.RowsAffected()
				_, err = c.exec(ctx, "move absolute 0 in "+rowCursor)
			}
		}
	} else if _, err = c.exec(ctx, "begin"); err == nil {
		_, err = c.exec(ctx, "declare "+rowCursor+" no scroll cursor for "+text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.job.Config.Key(key), err)
	}
	return c, nil
}

// exec runs one statement in the simple protocol, whose values are texts.
func (c *cursorRows) exec(ctx context.Context, sql string) (*pgconn.Result, error) {
	results, err := c.conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	return results[0], nil
}

func (c *cursorRows) names() []string { return c.columns }

func (c *cursorRows) next(ctx context.Context, n int) ([][][]byte, error) {
	result, err := c.exec(ctx, fmt.Sprintf("fetch %d from %s", n, rowCursor))
	if err != nil {
		return nil, fmt.Errorf("read rows of sql_get_pk_list: %w", err)
	}
	c.given += int64(len(result.Rows))
	return result.Rows, nil
}

func (c *cursorRows) total() int64 { return c.count }

func (c *cursorRows) part() float64 {
	if c.count == 0 {
		return 0
	}
	return float64(c.given) / float64(c.count)
}

// close gives the list back. When the job ends early, its connection does that.
func (c *cursorRows) close() error {
	if c.closed || c.conn.IsClosed() {
		return nil
	}
	c.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), crashTimeout)
	defer cancel()
	sql := "close " + rowCursor
	if !c.hold {
		sql = "rollback"
	}
	_, err := c.exec(ctx, sql)
	return err
}

// fileRows are the rows of a CSV file.
type fileRows struct {
	*csvFile
	path string
	file *os.File
	size int64

	fault error // of the line that is read next
}

func (m *DataMaintainer) openFile() (rowSource, error) {
	delimiter, _ := csvByte(m.cfg.CSVDelimiter) // valid, see Validate
	quote, _ := csvByte(m.cfg.CSVQuoteChar)
	file, err := os.Open(m.cfg.FileRead)
	if err != nil {
		return nil, batch.SetupError(fmt.Errorf("%s: %w", m.job.Config.Key("fileread"), err))
	}
	f := &fileRows{path: m.cfg.FileRead, file: file}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		f.size = info.Size()
	}
	if f.csvFile, err = newCSV(file, delimiter, quote, m.cfg.CSVEmptyNull); err != nil {
		file.Close()
		return nil, batch.SetupError(fmt.Errorf("%s: %s: %w", m.job.Config.Key("fileread"), f.path, err))
	}
	for range m.cfg.SkipRows {
		if _, err := f.row(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			file.Close()
			return nil, fmt.Errorf("%s: %s: %w", m.job.Config.Key("fileread"), f.path, err)
		}
	}
	return f, nil
}

func (f *fileRows) names() []string { return f.csvFile.names }

func (f *fileRows) next(_ context.Context, n int) (rows [][][]byte, err error) {
	for len(rows) < n && f.fault == nil {
		row, err := f.row()
		if err != nil {
			f.fault = err
			break
		}
		rows = append(rows, row)
	}
	if len(rows) > 0 || errors.Is(f.fault, io.EOF) { // rows before a fault come first
		return rows, nil
	}
	return nil, fmt.Errorf("fileread: %s: %w", f.path, f.fault)
}

func (f *fileRows) total() int64 { return 0 }

func (f *fileRows) part() float64 {
	at, err := f.file.Seek(0, io.SeekCurrent)
	if err != nil || f.size == 0 {
		return 0
	}
	return float64(at-int64(f.in.Buffered())) / float64(f.size)
}

func (f *fileRows) close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}
