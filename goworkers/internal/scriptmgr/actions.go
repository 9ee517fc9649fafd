package scriptmgr

// What can be done with jobs. Each function does it with all that it is given, and
// returns the faults of all.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"goworkers/batch"
)

const (
	// startLimit is how long a program may take to go into the background, and pidLimit
	// how long to write its pid file then.
	startLimit = time.Minute
	pidLimit   = 5 * time.Second
	// outputLimit is how long the output of a program is waited for that is in the
	// background and keeps its terminal.
	outputLimit = 2 * time.Second
	pollPeriod  = 20 * time.Millisecond
)

// Start starts the jobs that do not run. A disabled one is a fault if named is set,
// else it is left out.
func (m *Manager) Start(ctx context.Context, jobs []*Job, named bool) error {
	return m.each(jobs, "start", func(j *Job) error {
		pid, err := batch.RunningPid(j.pidfile)
		switch {
		case err != nil:
			return err
		case pid != 0:
			m.say(j, fmt.Sprintf("runs already, pid %d", pid))
			return nil
		case j.Disabled && named:
			return fmt.Errorf("it is disabled; take disabled out of [%s] in %s", j.Service, m.opt.Path)
		case j.Disabled:
			return nil
		}
		if pid, err = m.start(ctx, j); err != nil {
			return err
		}
		m.say(j, fmt.Sprintf("started, pid %d", pid))
		return nil
	})
}

// Stop asks the jobs to end after their current work, all at once, and waits for them.
// It returns those that do not run any more.
func (m *Manager) Stop(ctx context.Context, jobs []*Job) (stopped []*Job, err error) {
	pids := map[*Job]int{}
	var ending []*Job
	asked := m.each(jobs, "stop", func(j *Job) error {
		pid, err := batch.SignalRunning(j.pidfile, syscall.SIGINT)
		switch {
		case errors.Is(err, batch.ErrNotRunning):
			m.say(j, "does not run")
			stopped = append(stopped, j)
			return nil
		case err == nil:
			pids[j] = pid
			ending = append(ending, j)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(ctx, m.cfg.StopTimeout)
	defer cancel()
	ended := m.each(ending, "stop", func(j *Job) error {
		if !eventually(ctx, func() bool { now, err := batch.RunningPid(j.pidfile); return err == nil && now != pids[j] }) {
			return fmt.Errorf("process %d is still at its work; it ends after that, or at once with -k", pids[j])
		}
		m.say(j, "stopped")
		stopped = append(stopped, j)
		return nil
	})
	return stopped, errors.Join(asked, ended)
}

// Restart stops jobs and starts those again that have ended. A disabled one stays as
// it is.
func (m *Manager) Restart(ctx context.Context, jobs []*Job, named bool) error {
	enabled := slices.DeleteFunc(slices.Clone(jobs), func(j *Job) bool { return j.Disabled && !named })
	stopped, err := m.Stop(ctx, enabled)
	return errors.Join(err, m.Start(ctx, stopped, named))
}

// Reload has jobs read their ini files again.
func (m *Manager) Reload(jobs []*Job, named bool) error {
	return m.each(jobs, "reload", func(j *Job) error {
		pid, err := batch.SignalRunning(j.pidfile, syscall.SIGHUP)
		switch {
		case errors.Is(err, batch.ErrNotRunning) && !named:
			m.say(j, "does not run")
			return nil
		case err != nil:
			return err
		}
		m.say(j, fmt.Sprintf("reads its ini file again, pid %d", pid))
		return nil
	})
}

// each does something with each job and names those in the errors.
func (m *Manager) each(jobs []*Job, what string, do func(j *Job) error) error {
	var faults []error
	for _, j := range jobs {
		err := j.fault
		if err == nil {
			err = do(j)
		}
		if err != nil {
			err = fmt.Errorf("%s job %s (%s): %w", what, j.Name, j.Config, err)
			m.log.Error(err.Error())
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// eventually waits until done says true; false means that ctx has ended before.
func eventually(ctx context.Context, done func() bool) bool {
	tick := time.NewTicker(pollPeriod)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return done()
		case <-tick.C:
		}
	}
	return true
}

// start starts a job's program, which goes into the background, and returns its pid.
func (m *Manager) start(ctx context.Context, j *Job) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cmd, err := m.command(ctx, j)
	if err != nil {
		return 0, err
	}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = outputLimit
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("%s did not go into the background within %s; it has to know -d", cmd.Path, startLimit)
	case errors.Is(err, exec.ErrWaitDelay): // it is in the background all the same
	case err != nil && output.Len() > 0:
		return 0, errors.New(strings.ReplaceAll(strings.TrimSpace(output.String()), "\n", "; "))
	case err != nil:
		return 0, fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	ctx, cancel = context.WithTimeout(ctx, pidLimit)
	defer cancel()
	if !eventually(ctx, func() bool { pid, err = batch.RunningPid(j.pidfile); return pid != 0 || err != nil }) {
		err = fmt.Errorf("it is not in its pidfile %s; it has ended, see its log %s", j.pidfile, j.logfile)
	}
	return pid, err
}

// command is a job's program with its arguments.
func (m *Manager) command(ctx context.Context, j *Job) (*exec.Cmd, error) {
	args := append(strings.Fields(j.how.Args), "-d", j.Config)
	program := m.opt.Program
	script, err := home(j.how.Script, j.how.owner)
	if err != nil {
		return nil, fmt.Errorf("%s: [%s] script: %q %w", m.opt.Path, j.Service, j.how.Script, err)
	}
	name := strings.TrimSuffix(filepath.Base(script), ".py")
	switch own := m.opt.Commands[name]; {
	case script == "":
		args = append([]string{m.opt.Commands[j.Service]}, args...)
	case own != "" && !strings.Contains(script, "/"):
		args = append([]string{own}, args...)
	default:
		if program, err = exec.LookPath(script); err != nil {
			return nil, fmt.Errorf("%s: [%s] script: %w; give the path of a program", m.opt.Path, j.Service, err)
		}
	}
	cmd := exec.CommandContext(ctx, program, args...)
	if cmd.Dir, err = home(j.how.Cwd, j.how.owner); err != nil {
		return nil, fmt.Errorf("%s: [%s] cwd: %q %w", m.opt.Path, j.Service, j.how.Cwd, err)
	}
	// The service manager of ours is none of the job's.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}, name)
	})
	return cmd, become(cmd, j.how.owner)
}

// become has the command run as another user; nil is ourselves.
func become(cmd *exec.Cmd, owner *user.User) error {
	if owner == nil || owner.Uid == strconv.Itoa(os.Geteuid()) {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("it runs as user %s, and only root can start it; run scriptmgr as root or as %[1]s", owner.Username)
	}
	credential := &syscall.Credential{}
	ids, err := owner.GroupIds()
	if err != nil {
		return fmt.Errorf("find the groups of user %s: %w", owner.Username, err)
	}
	for _, id := range append([]string{owner.Uid, owner.Gid}, ids...) {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return fmt.Errorf("find user %s: %w", owner.Username, err)
		}
		credential.Groups = append(credential.Groups, uint32(n))
	}
	credential.Uid, credential.Gid, credential.Groups = credential.Groups[0], credential.Groups[1], credential.Groups[2:]
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	cmd.Env = append(cmd.Env, "HOME="+owner.HomeDir, "USER="+owner.Username, "LOGNAME="+owner.Username)
	return nil
}
