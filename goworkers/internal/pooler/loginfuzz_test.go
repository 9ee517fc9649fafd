package pooler

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"goworkers/pgwire"
)

// loginSeeds are logins as clients make them, but for the secret.
func loginSeeds() [][]byte {
	who := func(user, db string, more ...string) []byte {
		list := []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: db}}
		for i := 0; i < len(more); i += 2 {
			list = append(list, pgwire.Param{Name: more[i], Value: more[i+1]})
		}
		return pgwire.AppendStartup(nil, list)
	}
	newer := who("plain", "d", "_pq_.option", "x")
	newer[7] = 2
	hello := make(chan []byte, 1)
	ours, theirs := net.Pipe()
	go func() {
		b := make([]byte, 4096)
		n, _ := theirs.Read(b)
		theirs.Close()
		hello <- b[:n]
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = tls.Client(ours, &tls.Config{ServerName: "localhost", NextProtos: []string{"postgresql"}}).HandshakeContext(ctx)
	clientHello := <-hello

	seeds := [][]byte{
		nil, who("nobody", "d"), who("plain", "nowhere"), who("boss", "pgbouncer"), newer, clientHello,
		append(pgwire.AppendSSLRequest(nil), clientHello...), pgwire.AppendSSLRequest(nil), pgwire.AppendGSSENCRequest(nil),
		append(pgwire.AppendGSSENCRequest(nil), who("plain", "d")...), pgwire.AppendCancelRequest(nil, []byte("01234567")),
		who("plain", "d", "replication", "true"), who("plain", "d", "options", `-c search_path=a\ b --intervalstyle=x`), who("plain", "d", "work_mem", "1"),
		pgwire.AppendTerminate(who("plain", "d")), pgwire.AppendQuery(who("plain", "d"), "select 1"), pgwire.AppendQuery(who("boss", "pgbouncer"), "show users"),
	}
	proof := strings.Repeat("A", 43) + "="
	for _, user := range []string{"plain", "md5", "scram", "cert", "boss", "nobody"} {
		seeds = append(seeds,
			pgwire.AppendPassword(who(user, "d"), "wrong"), pgwire.AppendPassword(who(user, "d"), ""),
			pgwire.AppendPassword(who(user, "d"), "md5"+strings.Repeat("0", 32)), pgwire.AppendPassword(who(user, "pgbouncer"), "wrong"),
			pgwire.AppendSASLResponse(pgwire.AppendSASLInitialResponse(who(user, "d"), pgwire.MechanismSCRAM, []byte("n,,n=,r=nonce")), []byte("c=biws,r=nonce,p="+proof)),
			pgwire.AppendSASLInitialResponse(who(user, "d"), "SCRAM-SHA-256-PLUS", []byte("p=tls-server-end-point,,n=,r=nonce")))
	}
	return seeds
}

// Bytes of a login, mutated: the pooler neither falls nor hangs over them, and lets
// nobody in, since nobody knows the secret.
func FuzzLogin(f *testing.F) {
	random := make([]byte, 16)
	rand.Read(random)
	secret := hex.EncodeToString(random)
	dir := f.TempDir()
	verifier, err := pgwire.BuildSCRAMSecret(secret, nil, 1)
	if err != nil {
		f.Fatal(err)
	}
	users, hba := filepath.Join(dir, "users.txt"), filepath.Join(dir, "hba.conf")
	for path, text := range map[string]string{
		users: authLine("plain", secret) + authLine("md5", pgwire.MD5Secret("md5", secret)) + authLine("scram", verifier.Text()) + authLine("cert", "") + authLine("boss", secret),
		hba: "host all plain all password\nhost all md5 all md5\nhost all scram all scram-sha-256\nhostssl all cert all cert\nhost pgbouncer boss all md5\n" +
			"host replication plain all scram-sha-256\nhost all nobody all trust\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	papers := newPapers(f)
	var ports []int
	for _, auth := range []string{"plain", "md5", "scram-sha-256", "cert", "hba\nauth_hba_file = " + hba, "md5\nauth_user = boss"} {
		p, port := unstarted(f, papers.settings("prefer", "auth_type = "+auth, "auth_file = "+users, "admin_users = boss", "client_login_timeout = 10",
			"scram_iterations = 1", "server_login_retry = 0"))
		done := make(chan error, 1)
		go func() { done <- p.Run() }()
		f.Cleanup(func() {
			p.Stop()
			if err := <-done; err != nil {
				f.Error(err)
			}
		})
		ports = append(ports, port)
	}
	for i, seed := range loginSeeds() {
		f.Add(uint8(i), uint8(0), seed)
		f.Add(uint8(i+1), uint8(9), seed)
	}
	in := pgwire.AppendAuthentication(nil, pgwire.AuthOK, nil)
	f.Fuzz(func(t *testing.T, which, pause uint8, data []byte) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[int(which)%len(ports)]))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		// In two parts: what a client has said before may be answered first.
		first := min(int(pause), len(data))
		conn.Write(data[:first])
		conn.Write(data[first:])
		conn.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Fatalf("the pooler does not end the connection; it has said %q", answer)
		}
		if bytes.Contains(answer, in) {
			t.Fatalf("let in: %q", answer)
		}
		if bytes.Contains(answer, []byte(secret)) {
			t.Fatalf("told the secret: %q", answer)
		}
	})
}
