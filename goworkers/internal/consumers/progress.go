package consumers

// How far a run is: in the log now and then, and on a terminal.

import (
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"goworkers/batch"
)

// progress tells how far a run is.
type progress struct {
	job     *batch.Job
	out     io.Writer     // a terminal, or nil
	period  time.Duration // between lines in the log
	started time.Time

	logged, shown time.Time
}

// showPeriod is how often the line on the terminal changes.
const showPeriod = 200 * time.Millisecond

func (p *progress) tell(rows, modified int64, source rowSource) {
	now := time.Now()
	took := now.Sub(p.started).Seconds()
	rate := 0.0
	if took > 0 {
		rate = float64(rows) / took
	}
	part := source.part()
	if p.logged.IsZero() {
		p.logged = p.started
	}
	if p.period > 0 && now.Sub(p.logged) >= p.period {
		p.logged = now
		fields := logrus.Fields{"rows": rows, "modified": modified, "rate": fmt.Sprintf("%.0f/s", rate)}
		if total := source.total(); total > 0 {
			fields["total"] = total
		}
		if part > 0 {
			fields["eta"] = eta(took, part)
		}
		p.job.Log.WithFields(fields).Info("progress")
	}
	if p.out == nil || now.Sub(p.shown) < showPeriod {
		return
	}
	p.shown = now
	line := fmt.Sprintf("%d rows", rows)
	if total := source.total(); total > 0 {
		line = fmt.Sprintf("%d of %d rows", rows, total)
	}
	line += fmt.Sprintf(", %d modified, %.0f rows/s", modified, rate)
	if part > 0 {
		line += fmt.Sprintf(", %.0f %%, %s left", 100*part, eta(took, part))
	}
	// The cursor stays at the line's start, so that the log writes over it.
	fmt.Fprintf(p.out, "\x1b[K%s\r", line)
}

// over clears the line.
func (p *progress) over() {
	if p.out != nil && !p.shown.IsZero() {
		fmt.Fprint(p.out, "\x1b[K")
	}
}

// eta is the time that a part of the work lets expect for the rest.
func eta(took, part float64) time.Duration {
	return time.Duration(took * (1 - part) / part * float64(time.Second)).Round(time.Second)
}
