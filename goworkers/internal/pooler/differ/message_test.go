package differ

// The notation of what clients send.
//
//	Startup user=u database=d options="-c a=b"     Startup/3.2 ... asks for another protocol
//	SSLRequest   GSSENCRequest   CancelRequest c   (the key that c was given; or hex)
//	Query "sql"   Parse name "sql" oid...   Bind portal name value...   Describe S name   Describe P portal
//	Execute portal rows   Close S name   Close P portal   Sync   Flush   Terminate
//	CopyData "x"   CopyDone   CopyFail "why"   FunctionCall oid value...   Password "x"
//	SASLInitialResponse mechanism "data"   SASLResponse "data"
//	message T "body"...   header T size   bytes 0x00 "text"...
//
// A word with blanks stands in double quotes, with Go's escapes, and may be followed by
// *N: N times. NULL is a value that is null. Values go as text; the words params=binary
// and results=binary after Bind's names are format codes for all.

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"goworkers/pgwire"
)

// word is a part of a step.
type word struct {
	text   string
	quoted bool // some of it
}

func splitWords(line string) ([]word, error) {
	var words []word
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		var w word
		for line != "" && line[0] != ' ' {
			if line[0] != '"' {
				end := strings.IndexAny(line, ` "`)
				if end < 0 {
					end = len(line)
				}
				w.text += line[:end]
				line = line[end:]
				continue
			}
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("a quote that does not end: %s", line)
			}
			line = line[len(quoted):]
			text, _ := strconv.Unquote(quoted)
			if rest, ok := strings.CutPrefix(line, "*"); ok {
				digits, after, _ := strings.Cut(rest, " ")
				n, err := strconv.Atoi(digits)
				if err != nil {
					return nil, fmt.Errorf("want a number after *: %s", line)
				}
				text, line = strings.Repeat(text, n), after
				if after != "" {
					line = " " + after
				}
			}
			w.text, w.quoted = w.text+text, true
		}
		words = append(words, w)
	}
	return words, nil
}

// args hands out the words of a message.
type args struct {
	words []word
	err   error
}

func (a *args) next() word {
	if len(a.words) == 0 {
		a.fail("a word is missing")
		return word{}
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *args) fail(format string, values ...any) {
	if a.err == nil {
		a.err = fmt.Errorf(format, values...)
	}
}

func (a *args) text() string  { return a.next().text }
func (a *args) bytes() []byte { return []byte(a.text()) }

func (a *args) number() int {
	w := a.text()
	n, err := strconv.Atoi(w)
	if err != nil {
		a.fail("%q is no number", w)
	}
	return n
}

func (a *args) kind() byte {
	w := a.text()
	if len(w) != 1 {
		a.fail("%q is no letter", w)
		return '?'
	}
	return w[0]
}

// formats is the format codes that "NAME=binary" asks for.
func (a *args) formats(name string) []byte {
	if len(a.words) > 0 && a.words[0].text == name+"=binary" {
		a.words = a.words[1:]
		return []byte{0, 1, 0, 1}
	}
	return []byte{0, 0}
}

// values are the rest, as Bind and FunctionCall send them.
func (a *args) values() []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(len(a.words)))
	for len(a.words) > 0 {
		w := a.next()
		if w.text == "NULL" && !w.quoted {
			out = binary.BigEndian.AppendUint32(out, 0xffffffff)
			continue
		}
		value := []byte(w.text)
		if digits, ok := strings.CutPrefix(w.text, "0x"); ok && !w.quoted {
			var err error
			if value, err = hex.DecodeString(digits); err != nil {
				a.fail("%s: %v", w.text, err)
			}
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(value))), value...)
	}
	return out
}

// raw are the rest, hex and text, one after the other.
func (a *args) raw() []byte {
	var out []byte
	for len(a.words) > 0 {
		w := a.next()
		digits, ok := strings.CutPrefix(w.text, "0x")
		if !ok || w.quoted {
			out = append(out, w.text...)
			continue
		}
		value, err := hex.DecodeString(digits)
		if err != nil {
			a.fail("%s: %v", w.text, err)
		}
		out = append(out, value...)
	}
	return out
}

// encode appends the message that words describe. key gives the cancel key of a client.
func encode(dst []byte, words []word, key func(client string) ([]byte, error)) ([]byte, error) {
	a := &args{words: words}
	what := a.text()
	switch {
	case what == "Startup" || strings.HasPrefix(what, "Startup/"):
		dst = a.startup(dst, what)
	case what == "SSLRequest":
		dst = pgwire.AppendSSLRequest(dst)
	case what == "GSSENCRequest":
		dst = pgwire.AppendGSSENCRequest(dst)
	case what == "CancelRequest":
		dst = a.cancel(dst, key)
	case what == "bytes":
		dst = append(dst, a.raw()...)
	default:
		dst = a.message(dst, what)
	}
	if a.err == nil && len(a.words) > 0 {
		a.fail("too many words: %q", a.words[0].text)
	}
	if a.err != nil {
		return dst, fmt.Errorf("%s: %w", what, a.err)
	}
	return dst, nil
}

func (a *args) message(dst []byte, what string) []byte {
	switch what {
	case "Query":
		return pgwire.AppendQuery(dst, a.text())
	case "Parse":
		name, query := a.bytes(), a.bytes()
		types := binary.BigEndian.AppendUint16(nil, uint16(len(a.words)))
		for len(a.words) > 0 {
			types = binary.BigEndian.AppendUint32(types, uint32(a.number()))
		}
		return pgwire.AppendParse(dst, name, query, types)
	case "Bind":
		portal, statement := a.bytes(), a.bytes()
		params, results := a.formats("params"), a.formats("results")
		rest := append(append(params, a.values()...), results...)
		return append(pgwire.AppendBindHead(dst, portal, statement, len(rest)), rest...)
	case "Describe":
		return pgwire.AppendDescribe(dst, a.kind(), a.bytes())
	case "Close":
		return pgwire.AppendClose(dst, a.kind(), a.bytes())
	case "Execute":
		return pgwire.AppendExecute(dst, a.bytes(), uint32(a.number()))
	case "Sync":
		return pgwire.AppendSync(dst)
	case "Flush":
		return pgwire.AppendFlush(dst)
	case "Terminate":
		return pgwire.AppendTerminate(dst)
	case "CopyData":
		return pgwire.AppendMessage(dst, pgwire.MsgCopyData, a.bytes())
	case "CopyDone":
		return pgwire.AppendMessage(dst, pgwire.MsgCopyDone, nil)
	case "CopyFail":
		return pgwire.AppendMessage(dst, pgwire.MsgCopyFail, append(a.bytes(), 0))
	case "FunctionCall":
		body := binary.BigEndian.AppendUint32(nil, uint32(a.number()))
		body = append(append(body, 0, 0), a.values()...)
		return pgwire.AppendMessage(dst, pgwire.MsgFunctionCall, append(body, 0, 0))
	case "Password":
		return pgwire.AppendPassword(dst, a.text())
	case "SASLInitialResponse":
		return pgwire.AppendSASLInitialResponse(dst, a.text(), a.bytes())
	case "SASLResponse":
		return pgwire.AppendSASLResponse(dst, a.bytes())
	case "message":
		return pgwire.AppendMessage(dst, a.kind(), a.raw())
	case "header":
		dst = append(dst, a.kind())
		return binary.BigEndian.AppendUint32(dst, uint32(a.number()))
	}
	a.fail("unknown message")
	return dst
}

func (a *args) startup(dst []byte, what string) []byte {
	mark := len(dst)
	var params []pgwire.Param
	for len(a.words) > 0 {
		w := a.text()
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			a.fail("want NAME=VALUE instead of %q", w)
		}
		params = append(params, pgwire.Param{Name: name, Value: value})
	}
	dst = pgwire.AppendStartup(dst, params)
	if _, text, ok := strings.Cut(what, "/"); ok {
		v, err := parseVersion(text)
		if err != nil {
			a.fail("%v", err)
		}
		binary.BigEndian.PutUint32(dst[mark+4:], uint32(v.major)<<16|uint32(v.minor))
	}
	return dst
}

func (a *args) cancel(dst []byte, key func(string) ([]byte, error)) []byte {
	w := a.text()
	var k []byte
	var err error
	if digits, ok := strings.CutPrefix(w, "0x"); ok {
		k, err = hex.DecodeString(digits)
	} else {
		k, err = key(w)
	}
	if err != nil {
		a.fail("%v", err)
	}
	return pgwire.AppendCancelRequest(dst, k)
}
