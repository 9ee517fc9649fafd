package shell

// The table of commands, and how a statement finds its command. Other families
// (londiste, nodes of cascaded queues) are further entries here.

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// kind is what a word of a command names; completion offers what there is of it.
type kind int

const (
	anything kind = iota
	queueName
	consumerName
	tableName
	sequenceName
	extensionName
	batchOrConsumer
)

// command is one command. Behind the verb stand the argument and any of the options,
// each a keyword and its value, in any order.
type command struct {
	verb     string // its first words
	arg      kind
	argName  string // of the argument for people; "" when it takes none
	optional bool   // it may be left out
	star     bool   // it may be * for all
	options  []option
	flags    []string // keywords without a value, several words with spaces
	settings []string // names of the NAME = VALUE pairs it takes
	set      bool     // the pairs stand behind the word set
	help     string
	run      func(ctx context.Context, s *Session, a *arguments) error
}

type option struct {
	word     string
	kind     kind
	name     string // of the value for people
	required bool
}

// arguments are those of a command as the user gave them.
type arguments struct {
	arg     string
	options map[string]string
	flags   map[string]bool
	set     []pair
}

type pair struct{ name, value string }

var (
	onQueue   = option{word: "on", kind: queueName, name: "QUEUE"}
	fromQueue = option{word: "from", kind: queueName, name: "QUEUE"}
)

var commands []command

func init() { // not in the declaration, since help and completion read the table
	commands = []command{
		{verb: "connect", settings: []string{"dbname", "host", "port", "user", "password", "queue"},
			help: "go to another database or queue", run: connect},
		{verb: "install", arg: extensionName, argName: "EXTENSION", help: "create an extension: pgq, pgq_ext, pgq_coop", run: install},

		{verb: "show queue", arg: queueName, argName: "QUEUE", optional: true, star: true, help: "queues and their consumers", run: showQueue},
		{verb: "create queue", arg: queueName, argName: "QUEUE", help: "make a queue", run: createQueue},
		{verb: "alter queue", arg: queueName, argName: "QUEUE", star: true, set: true, settings: queueSettings,
			help: "set parameters; none is no value", run: alterQueue},
		{verb: "drop queue", arg: queueName, argName: "QUEUE", flags: []string{"force"}, help: "drop a queue; force: with its consumers", run: dropQueue},

		{verb: "show consumer", arg: consumerName, argName: "CONSUMER", optional: true, star: true, options: []option{onQueue},
			help: "where consumers stand", run: showConsumer},
		{verb: "register consumer", arg: consumerName, argName: "CONSUMER", options: []option{
			onQueue, {word: "at", name: "TICK"}, {word: "copy", kind: consumerName, name: "CONSUMER"}, {word: "slots", name: "N"}, {word: "key", name: "FIELD"}},
			help: "register a consumer, or move it: to a tick, to where another is", run: registerConsumer},
		{verb: "unregister consumer", arg: consumerName, argName: "CONSUMER", star: true, options: []option{fromQueue},
			help: "remove consumers", run: unregisterConsumer},
		{verb: "alter consumer", arg: consumerName, argName: "CONSUMER", options: []option{onQueue}, set: true, settings: consumerSettings,
			help: "set parameters of a consumer", run: alterConsumer},
		{verb: "pause consumer", arg: consumerName, argName: "CONSUMER", options: []option{onQueue}, help: "give it no batches", run: pauseConsumer},
		{verb: "resume consumer", arg: consumerName, argName: "CONSUMER", options: []option{onQueue}, help: "give it batches again", run: resumeConsumer},
		{verb: "seek consumer", arg: consumerName, argName: "CONSUMER", options: []option{{word: "to", name: "'TIME'", required: true}, onQueue},
			help: "move it to a time", run: seekConsumer},
		{verb: "register subconsumer", arg: anything, argName: "SUBCONSUMER", options: []option{
			{word: "for", kind: consumerName, name: "CONSUMER", required: true}, onQueue}, help: "add a worker of pgq_coop", run: registerSubconsumer},
		{verb: "unregister subconsumer", arg: anything, argName: "SUBCONSUMER", star: true, options: []option{
			{word: "for", kind: consumerName, name: "CONSUMER", required: true}, fromQueue}, flags: []string{"close batch", "close"},
			help: "remove workers; close batch: also one with an open batch, which goes to the others", run: unregisterSubconsumer},

		{verb: "show batch", arg: batchOrConsumer, argName: "BATCH|CONSUMER", options: []option{onQueue}, help: "an open batch and its first events", run: showBatch},
		{verb: "show blockers", help: "what keeps queues from rotating", run: showBlockers},
		{verb: "show table", arg: tableName, argName: "TABLE", help: "columns and triggers of a table", run: showTable},
		{verb: "show sequence", arg: sequenceName, argName: "SEQUENCE", help: "state of a sequence", run: showSequence},
		{verb: "show version", help: "versions of program, server and extensions", run: showVersion},
		{verb: "show help", help: "this list", run: showHelp},
		{verb: "help", help: "this list", run: showHelp},
		{verb: `\?`, run: showHelp},
		{verb: "exit", help: "end; also quit, \\q and Ctrl-D", run: exit},
		{verb: "quit", run: exit},
		{verb: `\q`, run: exit},
	}
}

// find looks for the command that a statement is. ok is false when it is SQL, or
// begins like a command and is not one yet.
func find(statement string) (c *command, args []string, ok bool) {
	list := words(stripComment(statement))
	for i := range commands {
		verb := strings.Fields(commands[i].verb)
		if len(list) >= len(verb) && slices.EqualFunc(list[:len(verb)], verb, strings.EqualFold) {
			return &commands[i], list[len(verb):], true
		}
	}
	return nil, nil, false
}

// stripComment removes comments that stand before a statement or behind it in its
// line, and the ; that a terminal's user is used to.
func stripComment(statement string) string {
	var b strings.Builder
	last := 0
	l := lexer{text: statement}
	for l.next() {
		if l.kind == tokenEnd {
			continue
		}
		begin := l.pos - len(l.token)
		if begin > last {
			b.WriteByte(' ')
		}
		b.WriteString(l.token)
		last = l.pos
	}
	return b.String()
}

// command reads the arguments and runs the command.
func (s *Session) command(ctx context.Context, c *command, list []string) error {
	a, err := c.parse(list)
	if err != nil {
		return err
	}
	return c.run(ctx, s, a)
}

func (c *command) parse(list []string) (*arguments, error) {
	a := &arguments{options: map[string]string{}, flags: map[string]bool{}}
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s; usage: %s", fmt.Sprintf(format, args...), c.usage())
	}
	i := 0
	if c.argName != "" {
		switch {
		case len(list) > 0 && !(c.optional && c.keyword(list[0])):
			a.arg = list[0]
			i = 1
		case !c.optional:
			return nil, wrong("%s is missing", c.argName)
		}
		if a.arg == "*" && !c.star {
			return nil, wrong("this works on one at a time")
		}
	}
	for i < len(list) {
		if n := c.flag(list[i:], a); n > 0 {
			i += n
			continue
		}
		if j := slices.IndexFunc(c.options, func(o option) bool { return strings.EqualFold(o.word, list[i]) }); j >= 0 {
			if i+1 == len(list) {
				return nil, wrong("%s is missing behind %s", c.options[j].name, list[i])
			}
			a.options[c.options[j].word] = list[i+1]
			i += 2
			continue
		}
		if c.settings != nil && (!c.set || strings.EqualFold(list[i], "set")) {
			if c.set {
				i++
			}
			set, err := c.pairs(list[i:])
			if err != nil {
				return nil, wrong("%s", err)
			}
			a.set = set
			break
		}
		return nil, wrong("%q is not understood", list[i])
	}
	for _, o := range c.options {
		if _, given := a.options[o.word]; o.required && !given {
			return nil, wrong("%s %s is missing", o.word, o.name)
		}
	}
	if c.set && len(a.set) == 0 {
		return nil, wrong("set NAME = VALUE is missing")
	}
	return a, nil
}

// keyword tells whether a word is one of the command's own, and no argument.
func (c *command) keyword(word string) bool {
	return slices.ContainsFunc(c.options, func(o option) bool { return strings.EqualFold(o.word, word) })
}

// flag reads a flag, and returns how many words it has; 0 when there is none.
func (c *command) flag(list []string, a *arguments) int {
	for _, flag := range c.flags {
		if f := strings.Fields(flag); len(list) >= len(f) && slices.EqualFunc(list[:len(f)], f, strings.EqualFold) {
			a.flags[f[0]] = true
			return len(f)
		}
	}
	return 0
}

// pairs reads NAME = VALUE, with commas between or not.
func (c *command) pairs(list []string) (set []pair, err error) {
	for len(list) > 0 {
		if list[0] == "," {
			list = list[1:]
			continue
		}
		if len(list) < 3 || list[1] != "=" {
			return nil, fmt.Errorf("NAME = VALUE is expected at %q", list[0])
		}
		name := strings.ToLower(list[0])
		if !slices.Contains(c.settings, name) {
			if name = strings.TrimPrefix(name, "queue_"); !slices.Contains(c.settings, name) {
				return nil, fmt.Errorf("%q is none of %s", list[0], strings.Join(c.settings, ", "))
			}
		}
		set = append(set, pair{name, list[2]})
		list = list[3:]
	}
	return set, nil
}

// usage is the command's form.
func (c *command) usage() string {
	line := c.verb
	if c.argName != "" {
		arg := c.argName
		if c.star {
			arg += "|*"
		}
		if c.optional {
			arg = "[" + arg + "]"
		}
		line += " " + arg
	}
	for _, o := range c.options {
		part := o.word + " " + o.name
		if !o.required {
			part = "[" + part + "]"
		}
		line += " " + part
	}
	if len(c.flags) > 0 {
		line += " [" + c.flags[0] + "]"
	}
	switch {
	case c.set:
		line += " set NAME = VALUE, …"
	case c.settings != nil:
		line += " NAME=VALUE …"
	}
	return line
}

func showHelp(_ context.Context, s *Session, _ *arguments) error {
	var b strings.Builder
	b.WriteString("Commands; one ends with its line or with a ;\n\n")
	for _, c := range commands {
		if c.help != "" {
			fmt.Fprintf(&b, "  %s\n      %s\n", c.usage(), c.help)
		}
	}
	b.WriteString("\nEverything else is SQL and ends with a ;\nWithout \"on QUEUE\" the queue of the prompt is meant: connect queue=NAME.\n")
	_, err := io.WriteString(s.cfg.Out, b.String())
	return err
}

func exit(_ context.Context, s *Session, _ *arguments) error {
	s.ended = true
	return nil
}
