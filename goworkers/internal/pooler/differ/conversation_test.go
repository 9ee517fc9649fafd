package differ

// Conversations: what their files hold.
//
// The first line, "# ...", says what is compared. Lines before "---" are the configuration,
// one fact each; # starts a comment:
//
//	needs 1.21                  the oldest PgBouncer that behaves so
//	set pool_mode = session     a setting
//	database other = port=1     an entry of [databases]; $server stands for the server's address and
//	                            database, $port for its port, $silent for
//	                            a port of $address where nobody answers. The entry db is there unless it is given
//	users u = pool_mode=session an entry of [users]
//	secret u [text]             a line of auth_file; postgres, admin and stats are there anyway
//	hba host all all ... trust  a line of $dir/hba.txt, $dir being the product's folder
//	hide column ...             result columns whose values vary
//	differs PRODUCT: reason     a difference that is meant; the product is the reason's subject
//
// Lines after it are steps. c is a client, any word:
//
//	c connect [unix]            open a connection; the first step of c does it anyway
//	c login user=u password=p   whole login, database db; its ParameterStatus are left out
//	c> MESSAGE                  send (message_test.go), after what was gathered by
//	c+ MESSAGE                  gather
//	c split N                   the next send is two writes, the second when N bytes have been read
//	c< until TYPE               read messages up to one of that name; "Close" is the end
//	c< byte                     read one byte
//	c< nothing [N]              nothing comes for 150 (N) ms
//	c close                     close, without a Terminate
//	                            {id} in a word is a number that other plays do not have, {number of c}
//	                            the id that the console calls c by
//	wait DATABASE column=value  until the console's SHOW POOLS has a row like that
//	wait "SHOW ..." column=...  the same of another command
//	config set k = v            change the file: a line of the configuration, as above
//	signal NAME                 send HUP, USR1, ... to the product
//	exit                        until the product has ended
//
// "c< until" takes words after the type: xN reads up to the Nth such message, only=a,b
// shows these columns of rows, only= shows that there are rows, sorted puts them in
// order, brief leaves ParameterStatus and BackendKeyData out. When all steps are done, every
// client that is still there stops sending; what comes before the end of its connection is
// in the trace too.

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type conversation struct {
	name    string
	title   string
	needs   version
	config  config
	hidden  map[string]bool
	differs map[string][]string // reasons by product
	steps   []step
}

// config is what a configuration file is made of. The last of two lines of one key counts.
type config struct {
	settings, databases, users, secrets []entry
	hba                                 []string
}

type entry struct{ key, value string }

type step struct {
	line   int
	text   string
	client string // empty: not a client's
	verb   string // ">", "+", "<" or a word
	words  []word
}

// version of PgBouncer.
type version struct{ major, minor int }

func (v version) less(o version) bool {
	return v.major < o.major || v.major == o.major && v.minor < o.minor
}

func parseVersion(text string) (version, error) {
	major, minor, ok := strings.Cut(text, ".")
	minor, _, _ = strings.Cut(minor, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	if !ok || err1 != nil || err2 != nil {
		return version{}, fmt.Errorf("%q is no version of the form 1.21", text)
	}
	return version{a, b}, nil
}

// loadConversation reads a file.
func loadConversation(path string) (*conversation, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parseConversation(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.name = strings.TrimSuffix(filepath.Base(path), ".txt")
	return c, nil
}

func parseConversation(text string) (*conversation, error) {
	c := &conversation{hidden: map[string]bool{}, differs: map[string][]string{}}
	first, _, _ := strings.Cut(text, "\n")
	c.title, _ = strings.CutPrefix(first, "# ")
	if c.title == first {
		return nil, fmt.Errorf("line 1: want: # what is compared")
	}
	head := true
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var err error
		switch {
		case line == "---":
			head = false
		case head:
			err = c.headLine(line)
		default:
			var s step
			s, err = parseStep(line)
			s.line = n
			c.steps = append(c.steps, s)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if len(c.steps) == 0 {
		return nil, fmt.Errorf("no steps; they stand after a line ---")
	}
	return c, nil
}

func (c *conversation) headLine(line string) (err error) {
	what, rest, _ := strings.Cut(line, " ")
	switch what {
	case "needs":
		c.needs, err = parseVersion(rest)
	case "hide":
		for _, column := range strings.Fields(rest) {
			c.hidden[column] = true
		}
	case "differs":
		product, reason, ok := strings.Cut(rest, ": ")
		if !ok || reason == "" {
			return fmt.Errorf("want: differs PRODUCT: reason")
		}
		c.differs[product] = append(c.differs[product], reason)
	default:
		return c.config.add(line)
	}
	return err
}

// add takes a line of the configuration.
func (c *config) add(line string) error {
	what, rest, _ := strings.Cut(line, " ")
	if what == "secret" {
		user, secret, _ := strings.Cut(rest, " ")
		put(&c.secrets, user, secret)
		return nil
	}
	if what == "hba" {
		c.hba = append(c.hba, rest)
		return nil
	}
	key, value, ok := strings.Cut(rest, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok {
		return fmt.Errorf("want: %s KEY = VALUE", what)
	}
	switch what {
	case "set":
		put(&c.settings, key, value)
	case "database":
		put(&c.databases, key, value)
	case "users":
		put(&c.users, key, value)
	default:
		return fmt.Errorf("unknown word %q", what)
	}
	return nil
}

// put sets a key, in place when it is there. The value "-" stands for an entry that is
// not in the file.
func put(entries *[]entry, key, value string) {
	for i, e := range *entries {
		if e.key == key {
			(*entries)[i].value = value
			return
		}
	}
	*entries = append(*entries, entry{key, value})
}

// copy is one that changes leave the original alone.
func (c config) copy() config {
	return config{slices.Clone(c.settings), slices.Clone(c.databases), slices.Clone(c.users), slices.Clone(c.secrets), slices.Clone(c.hba)}
}

var (
	stepPattern = regexp.MustCompile(`^([A-Za-z]\w*)([>+<]) *(.*)$`)
	ownSteps    = map[string]bool{"wait": true, "config": true, "signal": true, "exit": true}
)

func parseStep(line string) (step, error) {
	s := step{text: line}
	var rest string
	if m := stepPattern.FindStringSubmatch(line); m != nil {
		s.client, s.verb, rest = m[1], m[2], m[3]
	} else {
		first, after, _ := strings.Cut(line, " ")
		if ownSteps[first] {
			s.verb, rest = first, after
		} else {
			s.client = first
			s.verb, rest, _ = strings.Cut(after, " ")
		}
	}
	var err error
	if s.words, err = splitWords(rest); err != nil {
		return s, err
	}
	switch s.verb {
	case ">", "+", "<", "connect", "login", "split", "close", "wait", "config", "signal", "exit":
		return s, nil
	}
	return s, fmt.Errorf("unknown step %q", line)
}
