package ini

// auth_file: what its lines mean, and when it is read again.

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"goworkers/pgwire"
)

func TestAuthFileLines(t *testing.T) {
	const scram = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	users, warnings := ParseAuthFile("users.txt", strings.Join([]string{
		`; comment`,
		``,
		`"plain" "pass""word"`,
		`  "md5"	"md50123456789abcdef0123456789abcdef" extra ignored`,
		`"scram" "` + scram + `"`,
		`"unknown" ""`,
		`"a ""b""" "c d"`,
		`"almost md5" "md50123456789ABCDEF0123456789abcdef"`,
		`bare "x"`,
		`"only name"`,
		`"open" "x`,
		`"glued" "x"y`,
		`"" "x"`,
		`"` + strings.Repeat("n", 128) + `" "x"`,
		`"long" "` + strings.Repeat("s", pgwire.MaxSecretSize+1) + `"`,
		`"plain" "again"`,
		"\"crlf\" \"x\"\r",
	}, "\n"))
	for name, want := range map[string]struct {
		kind pgwire.SecretKind
		text string
	}{
		"plain":      {pgwire.SecretPlain, "again"},
		"md5":        {pgwire.SecretMD5, "md50123456789abcdef0123456789abcdef"},
		"scram":      {pgwire.SecretSCRAM, scram},
		"unknown":    {pgwire.SecretNone, ""},
		`a "b"`:      {pgwire.SecretPlain, "c d"},
		"almost md5": {pgwire.SecretPlain, "md50123456789ABCDEF0123456789abcdef"},
		"crlf":       {pgwire.SecretPlain, "x"},
	} {
		got, ok := users[name]
		if !ok || got.Kind() != want.kind || got.Reveal() != want.text {
			t.Errorf("%s: %v %s %q", name, ok, got, got.Reveal())
		}
	}
	if len(users) != 7 {
		t.Errorf("%d users", len(users))
	}
	var said []string
	for _, w := range warnings {
		said = append(said, w.String())
	}
	want := []string{
		`users.txt:9: not "name" "secret"; the line is left out`,
		`users.txt:10: not "name" "secret"; the line is left out`,
		`users.txt:11: not "name" "secret"; the line is left out`,
		`users.txt:12: not "name" "secret"; the line is left out`,
		`users.txt:13: name of 0 bytes, allowed are 1 to 127; the line is left out`,
		`users.txt:14: name of 128 bytes, allowed are 1 to 127; the line is left out`,
		`users.txt:15: secret of 65531 bytes, allowed are up to 65530; the line is left out`,
		`users.txt:16: user "plain" stands in line 3 too; this line counts`,
	}
	if strings.Join(said, "\n") != strings.Join(want, "\n") {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
}

func TestAuthFileIsReadAgainWhenItChanged(t *testing.T) {
	files(t, "users.txt", `"a" "1"`)
	a := NewAuthFile("users.txt")
	load := func(wantChanged bool, want string) {
		t.Helper()
		users, changed, _, err := a.Load()
		if err != nil || changed != wantChanged || changed && users["a"].Reveal() != want {
			t.Errorf("changed=%v err=%v secret %q", changed, err, users["a"].Reveal())
		}
	}
	load(true, "1")
	load(false, "")
	write(t, "new.txt", `"a" "2"`)
	if err := os.Rename("new.txt", "users.txt"); err != nil {
		t.Fatal(err)
	}
	load(true, "2")
	load(false, "")
	os.Remove("users.txt")
	if _, _, _, err := a.Load(); err == nil || !strings.Contains(err.Error(), "users.txt: no such file") {
		t.Errorf("missing file: %v", err)
	}
	write(t, "users.txt", `"a" "33"`)
	load(true, "33")
}

func FuzzParseAuthFile(f *testing.F) {
	f.Add("\"a\" \"b\"\n\"c\" \"\"\n;x\n\"d")
	f.Add("\"a\"\"\" \"md5\" x\n\"a\"\x00\"b\"")
	f.Fuzz(func(t *testing.T, text string) {
		users, _ := ParseAuthFile("f", text)
		for name, secret := range users {
			quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
			again, w := ParseAuthFile("f", quote(name)+" "+quote(secret.Reveal()))
			if got, ok := again[name]; !ok || !got.Equal(secret) || len(w) != 0 {
				t.Fatalf("user %q does not survive being written: %v", name, fmt.Sprint(again, w))
			}
		}
	})
}
