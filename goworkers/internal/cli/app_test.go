package cli

// The command line as a user meets it: what is printed where, and the exit
// code.

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeBinary()
		os.Exit(code)
	}))
}

// oneMain: a process has one command line, and the flag library keeps some of it in
// variables of its own.
var oneMain sync.Mutex

// run calls the program like a shell does.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	oneMain.Lock()
	defer oneMain.Unlock()
	var out, err bytes.Buffer
	code = Main(args, &out, &err)
	return code, out.String(), err.String()
}

func TestProgramAnswersToItsNames(t *testing.T) {
	for _, tc := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"version command", []string{"skytools", "version"}, 0, "skytools version 4.0\n", ""},
		{"version switch", []string{"/usr/bin/skytools", "-V"}, 0, "skytools version 4.0\n", ""},
		{"no command", []string{"skytools"}, 2, "", "skytools: no command given; skytools -h lists the commands\n"},
		{"unknown command", []string{"skytools", "fly"}, 2, "", "skytools: unknown command \"fly\"; skytools -h lists the commands\n"},
		{"unknown switch", []string{"skytools", "--fly"}, 2, "", "skytools: flag provided but not defined: -fly; -h lists the options\n"},
		{"name of a script without a command", []string{"/usr/bin/londiste.py", "x.ini"}, 2, "", "londiste: this version (4.0) has no command \"londiste\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, stdout, stderr := run(t, tc.args...)
			if code != tc.code || stdout != tc.stdout || stderr != tc.stderr {
				t.Errorf("got %d, %q, %q\nwant %d, %q, %q", code, stdout, stderr, tc.code, tc.stdout, tc.stderr)
			}
		})
	}
}

// Options stand where people write them: before the ini file, behind it, or both.
func TestOptionsStandAnywhere(t *testing.T) {
	ini := setupIni(t, "queue_mover", "src_db = host=127.0.0.1 port=1\ndst_db = host=127.0.0.1 port=1\nqueue_name = q\ndst_queue_name = r")
	for _, tc := range []struct {
		name   string
		args   []string
		stderr string // contained in it
	}{
		{"value behind the file", []string{"queue_mover", ini, "--set", "loop_delay=soon"}, `loop_delay = "soon" (from --set)`},
		{"value glued on", []string{"queue_mover", ini, "--set=loop_delay=soon"}, `loop_delay = "soon" (from --set)`},
		{"both sides", []string{"queue_mover", "-v", ini, "-q", "--set", "log_count=many"}, `log_count = "many" (from --set)`},
		{"through skytools", []string{"skytools", "queue_mover", ini, "-s"}, "no pidfile is configured"},
		{"a missing value", []string{"queue_mover", ini, "--set"}, "flag needs an argument: -set"},
		{"two files", []string{"queue_mover", ini, "-v", "b.ini"}, "too many arguments: [\"" + ini + "\" \"b.ini\"]; want one, the ini file"},
		{"a file behind --", []string{"queue_mover", "-q", "--", "-d.ini"}, "-d.ini: cannot read the configuration file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, stdout, stderr := run(t, tc.args...)
			if code != 2 || stdout != "" || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("got %d, %q, %q\nwant 2, %q", code, stdout, stderr, tc.stderr)
			}
		})
	}
}

func TestHelpListsEveryCommand(t *testing.T) {
	code, stdout, _ := run(t, "skytools", "-h")
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	for _, command := range commands() {
		if !strings.Contains(stdout, "   "+command.Name) {
			t.Errorf("help does not name %s", command.Name)
		}
		if command.Usage == "" {
			t.Errorf("%s has no usage line", command.Name)
		}
	}
}
