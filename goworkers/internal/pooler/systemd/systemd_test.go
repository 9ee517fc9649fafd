package systemd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary the process that systemd starts.
const childEnv = "SYSTEMD_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// report is what the child found.
type report struct {
	Names       []string
	Addrs       []string
	Error       string
	Again       int      // sockets of a second call
	Environment []string // LISTEN_ variables that are left
	Flags       []string // what is wrong with a descriptor
	Open        int      // sockets that are open at the end
}

// child takes the sockets, accepts and greets one connection on each.
func child() {
	// Systemd sets it between fork and exec; here the process does it for itself.
	if os.Getenv("LISTEN_PID") == "self" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	var r report
	list, err := Listeners()
	if err != nil {
		r.Error = err.Error()
	}
	again, _ := Listeners()
	r.Again = len(again)
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "LISTEN_") {
			r.Environment = append(r.Environment, e)
		}
	}
	for _, l := range list {
		r.Names = append(r.Names, l.Name)
		switch a := l.Addr.(type) {
		case *unix.SockaddrInet4:
			r.Addrs = append(r.Addrs, fmt.Sprint("tcp4 ", a.Port))
		case *unix.SockaddrInet6:
			r.Addrs = append(r.Addrs, fmt.Sprint("tcp6 ", a.Port))
		case *unix.SockaddrUnix:
			r.Addrs = append(r.Addrs, "unix "+a.Name)
		}
		if fl, err := unix.FcntlInt(uintptr(l.FD), unix.F_GETFL, 0); err != nil || fl&unix.O_NONBLOCK == 0 {
			r.Flags = append(r.Flags, l.Name+" blocks")
			continue
		}
		if fl, err := unix.FcntlInt(uintptr(l.FD), unix.F_GETFD, 0); err != nil || fl&unix.FD_CLOEXEC == 0 {
			r.Flags = append(r.Flags, l.Name+" is left open on exec")
		}
		if _, _, err := unix.Accept(l.FD); err != unix.EAGAIN {
			r.Flags = append(r.Flags, fmt.Sprint(l.Name, " accepts nobody and says ", err))
		}
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, "socket:") {
			r.Open++
		}
	}
	json.NewEncoder(os.Stdout).Encode(r)
	for _, l := range list {
		poll := []unix.PollFd{{Fd: int32(l.FD), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(poll, -1); err != unix.EINTR {
				break
			}
		}
		if fd, _, err := unix.Accept(l.FD); err == nil {
			unix.Write(fd, []byte("hello from "+l.Name+"\n"))
			unix.Close(fd)
		}
	}
}

// passing starts the child with files as its sockets and returns its report; wait ends it.
func passing(t *testing.T, files []*os.File, env ...string) (r report, wait func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	// The race detector would have it wait for a second at its end.
	cmd.Env = append([]string{childEnv + "=1", "GORACE=atexit_sleep_ms=0"}, env...)
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if err := json.NewDecoder(out).Decode(&r); err != nil {
		t.Fatalf("the child's report: %v", err)
	}
	return r, func() {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func file(t *testing.T, s interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := s.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// As systemd hands them over.
	if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
		t.Fatal(err)
	}
	return f
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestPassedSocketsServe(t *testing.T) {
	tcp := listen(t, "tcp4", "127.0.0.1:0").(*net.TCPListener)
	path := filepath.Join(t.TempDir(), ".s.PGSQL.6432")
	local := listen(t, "unix", path).(*net.UnixListener)
	r, wait := passing(t, []*os.File{file(t, tcp), file(t, local)}, "LISTEN_PID=self", "LISTEN_FDS=2", "LISTEN_FDNAMES=front:local")
	want := report{Names: []string{"front", "local"}, Addrs: []string{fmt.Sprint("tcp4 ", tcp.Addr().(*net.TCPAddr).Port), "unix " + path}, Open: 2}
	if fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", want) {
		t.Fatalf("the child found\n%+v, want\n%+v", r, want)
	}
	for _, to := range []struct{ net.Addr }{{tcp.Addr()}, {local.Addr()}} {
		c, err := net.Dial(to.Network(), to.String())
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if err != nil || !strings.HasPrefix(line, "hello from ") {
			t.Fatalf("%s said %q, %v", to, line, err)
		}
	}
	wait()
}

func TestSocketsWithoutNames(t *testing.T) {
	tcp := listen(t, "tcp4", "127.0.0.1:0").(*net.TCPListener)
	r, _ := passing(t, []*os.File{file(t, tcp)}, "LISTEN_PID=self", "LISTEN_FDS=1")
	if r.Error != "" || len(r.Names) != 1 || r.Names[0] != "LISTEN_FD_3" {
		t.Fatalf("%+v", r)
	}
}

func TestNothingIsTakenThatIsForNobodyHere(t *testing.T) {
	tcp := listen(t, "tcp4", "127.0.0.1:0").(*net.TCPListener)
	for name, env := range map[string][]string{
		"no variables":        nil,
		"for another process": {"LISTEN_PID=1", "LISTEN_FDS=1"},
		"no sockets":          {"LISTEN_PID=self", "LISTEN_FDS=0"},
	} {
		t.Run(name, func(t *testing.T) {
			r, wait := passing(t, []*os.File{file(t, tcp)}, env...)
			// The one that is open is not ours to close.
			if want := (report{Open: 1}); fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", want) {
				t.Errorf("the child found %+v, want %+v", r, want)
			}
			wait()
		})
	}
}

func TestSocketsThatCannotServeAreRefused(t *testing.T) {
	tcp := listen(t, "tcp4", "127.0.0.1:0").(*net.TCPListener)
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	conn, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	pipe, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	for _, tc := range []struct {
		name  string
		files []*os.File
		fds   string
		want  string
		open  int
	}{
		{"datagram socket", []*os.File{file(t, tcp), file(t, udp)}, "2", "socket 2 (b) from systemd: not a listening stream socket; the socket unit wants ListenStream= and Accept=no", 0},
		{"connection", []*os.File{file(t, conn.(*net.TCPConn)), file(t, tcp)}, "2", "socket 1 (a) from systemd: not a listening stream socket; the socket unit wants ListenStream= and Accept=no", 0},
		{"pipe", []*os.File{pipe}, "1", "socket 1 (a) from systemd: socket operation on non-socket", 0},
		{"no number", []*os.File{file(t, tcp)}, "x", `systemd passes LISTEN_FDS="x", which is not a number of sockets`, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, wait := passing(t, tc.files, "LISTEN_PID=self", "LISTEN_FDS="+tc.fds, "LISTEN_FDNAMES=a:b")
			if !strings.HasPrefix(r.Error, tc.want) {
				t.Errorf("error %q, want %q", r.Error, tc.want)
			}
			if r.Open != tc.open || len(r.Names) != 0 || len(r.Environment) != 0 {
				t.Errorf("left behind: %+v", r)
			}
			wait()
		})
	}
}

// manager is the socket that systemd would hear on.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	t.Setenv("NOTIFY_SOCKET", name)
	return c
}

func hear(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotifyReachesTheManager(t *testing.T) {
	for name, address := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@systemd-test-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			c := manager(t, address)
			for _, tc := range []struct {
				lines []string
				want  string
			}{
				{[]string{Ready, Status("1 xacts/s\n2 queries/s")}, "READY=1\nSTATUS=1 xacts/s 2 queries/s"},
				{[]string{MainPID(4711), Ready}, "MAINPID=4711\nREADY=1"},
				{[]string{Watchdog}, "WATCHDOG=1"},
				{[]string{Stopping}, "STOPPING=1"},
			} {
				if sent, err := Notify(tc.lines...); !sent || err != nil {
					t.Fatalf("%q: %v, %v", tc.lines, sent, err)
				}
				if got := hear(t, c); got != tc.want {
					t.Errorf("the manager heard %q, want %q", got, tc.want)
				}
			}
		})
	}
}

func TestReloadingCarriesTheTime(t *testing.T) {
	c := manager(t, filepath.Join(t.TempDir(), "notify"))
	clock := func() int64 {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			t.Fatal(err)
		}
		return ts.Nano() / 1000
	}
	before := clock()
	if sent, err := Notify(Reloading(), Status("reload")); !sent || err != nil {
		t.Fatal(sent, err)
	}
	after := clock()
	lines := strings.Split(hear(t, c), "\n")
	if len(lines) != 3 || lines[0] != "RELOADING=1" || lines[2] != "STATUS=reload" {
		t.Fatalf("the manager heard %q", lines)
	}
	usec, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "MONOTONIC_USEC="), 10, 64)
	if err != nil || usec < before || usec > after {
		t.Errorf("%q is not between %d and %d", lines[1], before, after)
	}
}

func TestWithoutAManagerNothingIsSaid(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if sent, err := Notify(Ready); sent || err != nil {
		t.Errorf("no manager: %v, %v", sent, err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if sent, err := Notify(Ready); sent || err == nil || !strings.HasPrefix(err.Error(), "tell systemd through NOTIFY_SOCKET: ") {
		t.Errorf("a manager that is gone: %v, %v", sent, err)
	}
}

func TestWatchdogInterval(t *testing.T) {
	for _, tc := range []struct {
		usec, pid string
		want      time.Duration
		bad       bool
	}{
		{"", "", 0, false},
		{"20000000", "", 20 * time.Second, false},
		{"1500", strconv.Itoa(os.Getpid()), 1500 * time.Microsecond, false},
		{"1500", "1", 0, false},
		{"soon", "", 0, true},
		{"-1", "", 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", tc.usec)
		t.Setenv("WATCHDOG_PID", tc.pid)
		if got, err := WatchdogInterval(); got != tc.want || (err != nil) != tc.bad {
			t.Errorf("usec=%q pid=%q: %v, %v", tc.usec, tc.pid, got, err)
		}
	}
}
