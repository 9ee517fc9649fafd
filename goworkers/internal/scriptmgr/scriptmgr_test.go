package scriptmgr

// What needs no jobs; those run in the tests of the command.

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A job runs as the user that is named, where that can be done, and is refused with a
// word where it cannot.
func TestJobsRunAsTheirUser(t *testing.T) {
	self, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	for _, owner := range []*user.User{nil, self, nobody} {
		cmd := exec.Command("sh", "-c", `echo "$(id -u) $(id -g) $HOME"`)
		cmd.Env = os.Environ()
		home, _ := os.UserHomeDir()
		want := self.Uid + " " + self.Gid + " " + home
		if owner == nobody {
			want = nobody.Uid + " " + nobody.Gid + " " + nobody.HomeDir
		}
		err := become(cmd, owner)
		if owner == nobody && os.Geteuid() != 0 {
			if err == nil || !strings.Contains(err.Error(), "it runs as user nobody, and only root can start it") {
				t.Errorf("without root: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd.Dir = "/"
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("ran as %s, %v; want %s", out, err, want)
		}
	}
}

func TestHome(t *testing.T) {
	t.Setenv("HOME", "/home/op")
	root, err := user.Lookup("root")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path  string
		owner *user.User
		want  string
	}{
		{"/a/~", nil, "/a/~"}, {"~", nil, "/home/op"}, {"~/a", nil, "/home/op/a"}, {"~/a", root, root.HomeDir + "/a"}, {"~root/a", nil, root.HomeDir + "/a"}, {"", root, ""},
	} {
		if got, err := home(tc.path, tc.owner); err != nil || got != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.path, got, err, tc.want)
		}
	}
	if _, err := home("~no-such-user/a", nil); err == nil {
		t.Error("a user that there is not has a home")
	}
}

func TestLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for _, tc := range []struct{ text, want string }{
		{"", ""}, {"one", "one"}, {"one\n", "one"}, {"one\ntwo\n\n", "two"}, {"one\ntwo", "two"},
		{strings.Repeat("x", 3*tailSize) + "\nlast\n", "last"}, {strings.Repeat("x", 2*tailSize), strings.Repeat("x", tailSize)},
	} {
		if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		if line, written, err := lastLine(path); err != nil || line != tc.want || !written.Equal(at) {
			t.Errorf("%.20q: %.20q, %s, %v", tc.text, line, written, err)
		}
	}
}
