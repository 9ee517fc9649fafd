package pooler

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"goworkers/internal/pooler/ini"
)

func TestFaultsOfTheStartNameFileSectionAndKey(t *testing.T) {
	for _, tc := range []struct{ name, setting string }{
		{"logfile in no folder", "logfile = /nonexistent/pooler.log"},
		{"metrics on an address of another host", "metrics_listen = 192.0.2.1:9"},
		{"unix socket in no folder", "unix_socket_dir = /nonexistent"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "pooler.ini")
			text := "[pgbouncer]\nlisten_addr =\nunix_socket_dir = " + dir + "\n" + tc.setting + "\n"
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, _, err := ini.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(cfg, Options{Log: io.Discard})
			if err == nil {
				_ = p.Close()
				t.Fatal("it starts")
			}
			key, value, _ := strings.Cut(tc.setting, " = ")
			for _, want := range []string{"pooler.ini: [pgbouncer] ", key, value} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}
