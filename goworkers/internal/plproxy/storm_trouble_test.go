package plproxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"goworkers/internal/pgtest"
)

// trouble makes trouble, for so long. It runs in the goroutine of the test.
func (s *storm) trouble(r *rand.Rand, length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end) && !s.over.Load() && !s.t.Failed(); {
		s.one(r)
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
	}
}

// one makes one trouble of any kind.
func (s *storm) one(r *rand.Rand) {
	session := s.sessions[r.IntN(len(s.sessions))]
	link := s.links[r.IntN(len(s.links))]
	part := r.IntN(len(s.parts))
	moment := time.Duration(r.IntN(200)) * time.Millisecond
	switch n := r.IntN(100); {
	case n < 35:
		s.exec(fmt.Sprintf("select pg_cancel_backend(%d)", session.pid.Load()))
	case n < 37:
		s.exec(fmt.Sprintf("select pg_terminate_backend(%d)", session.pid.Load()))
	case n < 47:
		s.remotely(r, part, "pg_cancel_backend")
	case n < 53:
		s.remotely(r, part, "pg_terminate_backend")
	case n < 55:
		s.kill(r, part)
	case n < 57:
		s.servers[part/2].Restart(s.t)
	case n < 62:
		link.Break([]pgtest.Action{pgtest.Close, pgtest.Reset}[r.IntN(2)])
	case n < 66:
		link.Set(pgtest.Fault{Do: pgtest.Close, Way: pgtest.Way(r.IntN(2)), After: r.IntN(2000)})
		time.Sleep(moment)
		link.Heal()
	case n < 68:
		// longer than timeouts now and then
		link.Set(pgtest.Fault{Do: pgtest.Stall, Way: pgtest.Way(r.IntN(2)), After: r.IntN(2000)})
		time.Sleep(moment * time.Duration(1+r.IntN(20)))
		link.Heal()
	case n < 70:
		link.Set(pgtest.Fault{Refuse: true})
		time.Sleep(moment)
		link.Heal()
	case n < 74:
		link.Set(pgtest.Fault{Delay: time.Duration(r.IntN(20)) * time.Millisecond})
		time.Sleep(moment)
		link.Heal()
	case n < 86:
		s.configure(r)
	case n < 89:
		s.exec("update plproxy.cluster set version = version + 1")
	case n < 97:
		function := stormFunctions[r.IntN(len(stormFunctions))]
		s.exec("create or replace function public." + fmt.Sprintf(function, fmt.Sprintf("-- %d", r.Int())))
	default:
		user := []string{"postgres", "storm"}[r.IntN(2)]
		s.exec(fmt.Sprintf("alter user mapping for public server %s options (set user '%s')", s.foreign(r), user))
	}
}

// foreign is one of the clusters that are foreign servers.
func (s *storm) foreign(r *rand.Rand) string {
	for {
		if name := s.clusters[r.IntN(len(s.clusters))]; stormClusters[name] != nil {
			return name
		}
	}
}

// remotely does something to one of those that serve a session on a partition.
func (s *storm) remotely(r *rand.Rand, part int, function string) {
	for _, pid := range s.remotes(r, part) {
		s.parts[part].Exec(s.t, fmt.Sprintf("select %s(%s)", function, pid))
	}
}

// remotes is one process that serves a session on a partition, if there is one.
func (s *storm) remotes(r *rand.Rand, part int) []string {
	pids := s.parts[part].Rows(s.t, `select pid from pg_stat_activity where datname = current_database()
		and pid <> pg_backend_pid() and backend_type = 'client backend' order by pid`)
	if len(pids) == 0 {
		return nil
	}
	i := r.IntN(len(pids))
	return pids[i : i+1]
}

// kill kills one of them, which makes its server begin anew.
func (s *storm) kill(r *rand.Rand, part int) {
	for _, pid := range s.remotes(r, part) {
		number, err := strconv.Atoi(pid)
		if err != nil {
			s.t.Fatal(err)
		}
		// it may have ended meanwhile
		_ = syscall.Kill(number, syscall.SIGKILL)
		pgtest.Eventually(s.t, stormBound, "the killed process ends", func() bool { return !pgtest.Alive(number) })
		s.parts[part].WaitFor(s.t, "select not pg_is_in_recovery()")
	}
}

// configure changes a setting of a cluster, or of the wrapper.
func (s *storm) configure(r *rand.Rand) {
	setting := []string{
		"query_timeout '40ms'", "query_timeout '3s'", "query_timeout '3s'", "query_timeout '2999ms'",
		"statement_timeout '20ms'", "statement_timeout '0'", "statement_timeout '0'",
		"disable_binary 'on'", "disable_binary 'off'",
		"prepared_statements 'auto'", "prepared_statements 'on'", "prepared_statements 'off'",
	}[r.IntN(12)]
	if r.IntN(10) == 0 {
		s.exec("alter foreign data wrapper plproxy options (add keepalive_idle '100')")
		s.exec("alter foreign data wrapper plproxy options (drop keepalive_idle)")
		return
	}
	s.exec(fmt.Sprintf("alter server %s options (set %s)", s.foreign(r), setting))
}

// calm ends all trouble.
func (s *storm) calm() {
	for _, link := range s.links {
		link.Heal()
	}
	for name, options := range stormClusters {
		if options != nil {
			s.exec(fmt.Sprintf("alter user mapping for public server %s options (set user 'postgres')", name))
		}
		for _, option := range append(slices.Clone(stormBase), options...) {
			key, _, _ := strings.Cut(option, " ")
			if options != nil && slices.Contains([]string{"query_timeout", "statement_timeout", "disable_binary", "prepared_statements"}, key) {
				s.exec(fmt.Sprintf("alter server %s options (set %s)", name, option))
			}
		}
	}
}

// dropConnections changes each cluster, so that all sessions connect anew.
func (s *storm) dropConnections() {
	s.exec("update plproxy.cluster set version = version + 1")
	s.exec("alter foreign data wrapper plproxy options (add keepalive_idle '100')")
	s.exec("alter foreign data wrapper plproxy options (drop keepalive_idle)")
}

// quiet waits until nothing of the sessions' goes on on partitions.
func (s *storm) quiet() {
	for _, part := range s.parts {
		part.WaitFor(s.t, `select count(*) = 0 from pg_stat_activity where datname = current_database() and state <> 'idle'
			and backend_type = 'client backend' and pid <> pg_backend_pid()`)
	}
}

// compareRemote wants partitions to serve just the connections that sessions know of.
func (s *storm) compareRemote() {
	for i, part := range s.parts {
		want := 0
		for _, session := range s.sessions {
			rows, err := session.ask(fmt.Sprintf("select 'x' from public.plproxy_connections where dbname = '%s'", part.Name))
			if err != nil {
				s.t.Errorf("%s: %v", session.name, err)
			}
			want += len(rows)
		}
		part.WaitFor(s.t, fmt.Sprintf(`select count(*) = %d from pg_stat_activity where datname = current_database()
			and backend_type = 'client backend' and pid <> pg_backend_pid() -- partition %d`, want, i))
	}
}

// audit compares what stands on partitions with what the sessions were told.
func (s *storm) audit() {
	stands := make(map[string][]string)
	for i, part := range s.parts {
		for _, row := range part.Rows(s.t, "select id, n from public.item") {
			id, n, _ := strings.Cut(row, "|")
			stands[id] = append(stands[id], fmt.Sprintf("%d %s", i, n))
		}
	}
	local := s.rig.proxy.Rows(s.t, "select id from public.done")
	outcomes := make(map[string]int)
	for _, session := range s.sessions {
		for _, tx := range session.ledger {
			id := fmt.Sprint(tx.id)
			here := slices.Contains(local, id)
			there := stands[id]
			slices.Sort(there)
			outcomes[tx.outcome]++
			ok := false
			switch {
			case tx.outcome == "committed", tx.outcome == "unknown" && here:
				ok = here && slices.Equal(there, tx.puts)
			case tx.outcome == "aborted":
				ok = !here && len(there) == 0
			default:
				// some may stand: each login has a transaction of its own there
				ok = !slices.ContainsFunc(there, func(put string) bool { return !slices.Contains(tx.puts, put) })
			}
			if !ok {
				s.t.Errorf("%s: transaction %d is %s (%s): here %t, on partitions %v, put %v",
					session.name, tx.id, tx.outcome, tx.said, here, there, tx.puts)
			}
		}
	}
	s.t.Logf("tied transactions: %v", outcomes)
}

// readLogs wants no word in the servers' logs that nothing explains.
func (s *storm) readLogs() {
	explained := []string{"is left out: ", "terminating connection because of crash", "terminating connection due to",
		"the transaction fails here, but was committed", "is not a PostgreSQL backend process",
		// a cancel has hit what begins a transaction, in front of what ends it
		"there is no transaction in progress"}
	for i, server := range append([]*pgtest.PrivateServer{s.proxy}, s.servers[:]...) {
		for line := range strings.Lines(server.Log(s.t)) {
			bad := strings.Contains(line, "WARNING:  ") || strings.Contains(line, "PANIC:  ") || strings.Contains(line, "TRAP:") ||
				strings.Contains(line, "protocol") || i == 0 && strings.Contains(line, "was terminated by signal")
			if bad && !slices.ContainsFunc(explained, func(word string) bool { return strings.Contains(line, word) }) {
				s.t.Errorf("log of server %d: %s", i, line)
			}
		}
	}
}
