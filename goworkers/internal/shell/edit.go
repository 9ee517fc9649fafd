package shell

// Reading from a terminal: editing, history, completion.

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/peterh/liner"
	"golang.org/x/sys/unix"
)

// editor reads lines from the process's terminal.
type editor struct {
	session *Session
	line    *liner.State
	history history
}

// input chooses how to read.
func (s *Session) input() (in reader, interactive bool, err error) {
	if file, ok := s.cfg.In.(*os.File); !ok || file != os.Stdin || !isTerminal(os.Stdin) || !isTerminal(os.Stdout) {
		return lines{bufio.NewReader(s.cfg.In)}, false, nil
	}
	e := &editor{session: s, line: liner.NewLiner(), history: history{s.cfg.History}}
	e.line.SetCtrlCAborts(true)
	e.line.SetTabCompletionStyle(liner.TabPrints)
	e.line.SetWordCompleter(s.complete)
	kept, err := e.history.load()
	if err != nil {
		fmt.Fprintf(s.cfg.Err, "%v\n", err) // one can work without
	}
	for _, line := range kept {
		e.line.AppendHistory(line)
	}
	fmt.Fprintf(s.cfg.Out, "%s %s; show help lists the commands, exit ends\n", s.cfg.Program, s.cfg.Version)
	return e, true, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// read reads a line. A terminal that is too narrow for editing, or has no size, sends
// Ctrl-C as a signal and drops the line itself; the line that follows comes with
// errInterrupted then.
func (e *editor) read(prompt string) (string, error) {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	over, watched := make(chan struct{}), make(chan struct{})
	interrupted := false
	go func() {
		defer close(watched)
		for {
			select {
			case <-interrupts:
				interrupted = true
				fmt.Fprintf(e.session.cfg.Out, "\n%s", e.session.prompt(false))
			case <-over:
				return
			}
		}
	}()
	line, err := e.line.Prompt(prompt)
	signal.Stop(interrupts)
	close(over)
	<-watched
	if errors.Is(err, liner.ErrPromptAborted) || err == nil && interrupted {
		err = errInterrupted
	}
	return line, err
}

func (e *editor) keep(statement string) {
	if _, _, ours := find(statement); !ours {
		statement += ";"
	}
	line, err := e.history.add(statement)
	if err != nil {
		fmt.Fprintf(e.session.cfg.Err, "%v\n", err)
		e.history.path = "" // told once
	}
	if line != "" {
		e.line.AppendHistory(line)
	}
}

// close gives the terminal back as it was.
func (e *editor) close() { e.line.Close() }
