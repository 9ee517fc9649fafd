// Poolerbench makes the load that pgbench cannot, for scripts/bench/drivers/pooler.
//
//	poolerbench idle ADDRESS USER DATABASE CLIENTS [tls]
//	    logs CLIENTS in, has each do a query, prints "ready" and keeps them until its
//	    standard input ends. ADDRESS is host:port, or the path of a unix socket.
//	poolerbench copy-out ADDRESS USER DATABASE QUERY
//	poolerbench copy-in ADDRESS USER DATABASE QUERY MB
//	    does a COPY to or from the client, of MB million bytes of one column in rows of 1 kB
//	    when they come from it, and prints the million bytes a second. The client does as
//	    little as it can, so that it is the others that are measured.
//	poolerbench certificate DIR
//	    writes a self-signed server.crt and server.key for localhost.
//
// Logins want no password: what is measured is what comes after them.
package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"goworkers/pgwire"
)

const (
	atOnce     = 32               // logins under way at a time
	loginLimit = 60 * time.Second // of one login with its query
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "poolerbench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "certificate":
		return certificate(args[1])
	case len(args) == 5 && args[0] == "idle", len(args) == 6 && args[0] == "idle" && args[5] == "tls":
		n, err := strconv.Atoi(args[4])
		if err != nil || n < 1 {
			return fmt.Errorf("no number of clients: %q", args[4])
		}
		return idle(target{address: args[1], user: args[2], database: args[3], tls: len(args) == 6}, n)
	case len(args) == 5 && args[0] == "copy-out":
		return copyRows(target{address: args[1], user: args[2], database: args[3]}, args[4], 0)
	case len(args) == 6 && args[0] == "copy-in":
		mb, err := strconv.Atoi(args[5])
		if err != nil || mb < 1 {
			return fmt.Errorf("no number of megabytes: %q", args[5])
		}
		return copyRows(target{address: args[1], user: args[2], database: args[3]}, args[4], mb*1e6)
	}
	return errors.New("wants idle ADDRESS USER DATABASE CLIENTS [tls], copy-out ADDRESS USER DATABASE QUERY, " +
		"copy-in ADDRESS USER DATABASE QUERY MB, or certificate DIR")
}

// target is where a client connects to.
type target struct {
	address, user, database string
	tls                     bool
}

// idle keeps n clients until standard input ends.
func idle(t target, n int) error {
	conns := make([]net.Conn, n)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	var next atomic.Int64
	var all sync.WaitGroup
	failures := make(chan error, atOnce)
	for range atOnce {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				var err error
				if conns[i], err = t.login(); err != nil {
					failures <- fmt.Errorf("client %d of %d: %w", i+1, n, err)
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// login makes one client, which has done a query when it returns.
func (t target) login() (conn net.Conn, err error) {
	network := "tcp"
	if strings.HasPrefix(t.address, "/") {
		network = "unix"
	}
	if conn, err = net.DialTimeout(network, t.address, loginLimit); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(loginLimit)); err != nil {
		return nil, err
	}
	if t.tls {
		if _, err := conn.Write(pgwire.AppendSSLRequest(nil)); err != nil {
			return nil, err
		}
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return nil, err
		}
		if answer[0] != 'S' {
			return nil, fmt.Errorf("TLS is answered with %q", answer[0])
		}
		// The certificate is our own of a minute ago.
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if err := secure.Handshake(); err != nil {
			return nil, err
		}
		conn = secure
	}
	// Small: there are many. What it has read in advance is nothing when the query is done.
	in := bufio.NewReaderSize(conn, 512)
	startup := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: t.user}, {Name: "database", Value: t.database}})
	for _, message := range [][]byte{startup, pgwire.AppendQuery(nil, "select 1")} {
		if _, err := conn.Write(message); err != nil {
			return nil, err
		}
		if _, err := until(pgwire.MsgReadyForQuery, in); err != nil {
			return nil, err
		}
	}
	return conn, conn.SetDeadline(time.Time{})
}

// until reads up to a message of type end, and tells how many bytes of CopyData came
// before.
func until(end byte, in *bufio.Reader) (copied int, err error) {
	for {
		head, err := in.Peek(pgwire.HeaderSize)
		if err != nil {
			return copied, err
		}
		typ, size, _, err := pgwire.ParseHeader(head)
		if err != nil {
			return copied, err
		}
		if typ != pgwire.MsgErrorResponse && typ != pgwire.MsgAuthentication {
			if _, err := in.Discard(size); err != nil {
				return copied, err
			}
			switch typ {
			case end:
				return copied, nil
			case pgwire.MsgCopyData:
				copied += size - pgwire.HeaderSize
			}
			continue
		}
		if size > 1<<20 {
			return copied, fmt.Errorf("a message of %d bytes", size)
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(in, message); err != nil {
			return copied, err
		}
		body := message[pgwire.HeaderSize:]
		if typ == pgwire.MsgErrorResponse {
			report, err := pgwire.ParseReport(body)
			if err != nil {
				return copied, err
			}
			return copied, report
		}
		code, _, err := pgwire.ParseAuthentication(body)
		if err != nil {
			return copied, err
		}
		if code != pgwire.AuthOK {
			return copied, fmt.Errorf("a password is asked for: %v", code)
		}
	}
}

// copyRows does a COPY: from the server, or of so many bytes to it.
func copyRows(t target, query string, send int) error {
	conn, err := t.login()
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 256<<10)
	began := time.Now()
	if _, err := conn.Write(pgwire.AppendQuery(nil, query)); err != nil {
		return err
	}
	if send > 0 {
		if _, err := until(pgwire.MsgCopyInResponse, in); err != nil {
			return err
		}
		if err := sendRows(conn, send); err != nil {
			return err
		}
	}
	copied, err := until(pgwire.MsgReadyForQuery, in)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%.3f\n", float64(max(copied, send))/1e6/time.Since(began).Seconds())
	return err
}

// sendRows sends so many bytes in messages of 8 kB, as psql does.
func sendRows(conn net.Conn, bytes int) error {
	row := strings.Repeat("x", 999) + "\n"
	const rows = 8
	message := pgwire.AppendMessage(nil, pgwire.MsgCopyData, []byte(strings.Repeat(row, rows)))
	at := 32 // messages in a write
	many := []byte(strings.Repeat(string(message), at))
	for left := bytes / (rows * len(row)); left > 0; left -= at {
		at = min(at, left)
		if _, err := conn.Write(many[:at*len(message)]); err != nil {
			return err
		}
	}
	_, err := conn.Write(pgwire.AppendHeader(nil, pgwire.MsgCopyDone, 0))
	return err
}

// certificate writes a key and its own certificate, good for a day.
func certificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for _, file := range []struct {
		name, kind string
		der        []byte
	}{{"server.crt", "CERTIFICATE", cert}, {"server.key", "PRIVATE KEY", private}} {
		block := pem.EncodeToMemory(&pem.Block{Type: file.kind, Bytes: file.der})
		if err := os.WriteFile(filepath.Join(dir, file.name), block, 0o600); err != nil {
			return err
		}
	}
	return nil
}
