package pgwire

// Bodies: what we build pgx's codec reads, what is malformed is refused, and every
// decoder is fuzzed; what decodes encodes to the same bytes.

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestPgxReadsWhatServersSend(t *testing.T) {
	report := &Report{
		Severity: "FEHLER", SeverityV: "ERROR", Code: "22012", Message: "m", Detail: "d", Hint: "h", Position: "1",
		IPosition: "2", IQuery: "q", Where: "w", Schema: "s", Table: "t", Column: "c", DataType: "y", Constraint: "n",
		File: "f", Line: "3", Routine: "r",
	}
	key := NewCancelKey()
	var stream []byte
	stream = AppendAuthentication(stream, AuthOK, nil)
	stream = AppendParameterStatus(stream, "TimeZone", "UTC")
	stream = AppendBackendKeyData(stream, key[:])
	stream = AppendReadyForQuery(stream, TxFailed)
	stream = AppendErrorResponse(stream, report)
	stream = AppendNoticeResponse(stream, &Report{Severity: SeverityNotice, Code: "00000", Message: "hello"})
	stream = AppendFatal(stream, CodeProtocolViolation, "no\x00where")
	stream = AppendRowDescription(stream, []Column{{"a", OIDText}, {"b", OIDInt8}, {"c", OIDInt4}})
	stream = AppendDataRow(stream, [][]byte{nil, {}, []byte("xyz")})
	stream = AppendCommandComplete(stream, "SHOW")
	stream = AppendEmptyQueryResponse(stream)
	want := []pgproto3.BackendMessage{
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"},
		nil, // the key: compared below
		&pgproto3.ReadyForQuery{TxStatus: 'E'},
		&pgproto3.ErrorResponse{
			Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "22012", Message: "m", Detail: "d", Hint: "h", Position: 1,
			InternalPosition: 2, InternalQuery: "q", Where: "w", SchemaName: "s", TableName: "t", ColumnName: "c",
			DataTypeName: "y", ConstraintName: "n", File: "f", Line: 3, Routine: "r",
		},
		&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "hello"},
		&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "no"},
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{
			{Name: []byte("a"), DataTypeOID: OIDText, DataTypeSize: -1, TypeModifier: -1},
			{Name: []byte("b"), DataTypeOID: OIDInt8, DataTypeSize: 8, TypeModifier: -1},
			{Name: []byte("c"), DataTypeOID: OIDInt4, DataTypeSize: 4, TypeModifier: -1},
		}},
		&pgproto3.DataRow{Values: [][]byte{nil, {}, []byte("xyz")}},
		&pgproto3.CommandComplete{CommandTag: []byte("SHOW")},
		&pgproto3.EmptyQueryResponse{},
	}
	front := pgproto3.NewFrontend(bytes.NewReader(stream), nil)
	for i, w := range want {
		got, err := front.Receive()
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if k, ok := got.(*pgproto3.BackendKeyData); ok {
			if sent, err := k.Encode(nil); err != nil || !bytes.Equal(sent[HeaderSize:], key[:]) {
				t.Errorf("key came as %x, %v; sent %x", sent, err, key)
			}
			continue
		}
		if !reflect.DeepEqual(got, w) {
			t.Errorf("message %d: got %#v, want %#v", i, got, w)
		}
	}
}

func TestPgxReadsWhatClientsSend(t *testing.T) {
	var stream []byte
	stream = AppendQuery(stream, "select 1")
	stream = AppendParse(stream, []byte("s"), []byte("select $1"), []byte{0, 1, 0, 0, 0, 23})
	stream = AppendParse(stream, nil, []byte("select 2"), nil)
	stream = append(AppendBindHead(stream, []byte("p"), []byte("s"), 11), 0, 0, 0, 1, 0, 0, 0, 1, '7', 0, 0)
	stream = AppendDescribe(stream, TargetStatement, []byte("s"))
	stream = AppendExecute(stream, []byte("p"), 10)
	stream = AppendClose(stream, TargetPortal, []byte("p"))
	stream = AppendFlush(stream)
	stream = AppendSync(stream)
	stream = AppendTerminate(stream)
	want := []pgproto3.FrontendMessage{
		&pgproto3.Query{String: "select 1"},
		&pgproto3.Parse{Name: "s", Query: "select $1", ParameterOIDs: []uint32{23}},
		&pgproto3.Parse{Query: "select 2"},
		&pgproto3.Bind{DestinationPortal: "p", PreparedStatement: "s", Parameters: [][]byte{[]byte("7")}, ResultFormatCodes: []int16{}},
		&pgproto3.Describe{ObjectType: 'S', Name: "s"},
		&pgproto3.Execute{Portal: "p", MaxRows: 10},
		&pgproto3.Close{ObjectType: 'P', Name: "p"},
		&pgproto3.Flush{},
		&pgproto3.Sync{},
		&pgproto3.Terminate{},
	}
	back := pgproto3.NewBackend(bytes.NewReader(stream), nil)
	for i, w := range want {
		got, err := back.Receive()
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if !reflect.DeepEqual(got, w) {
			t.Errorf("message %d: got %#v, want %#v", i, got, w)
		}
	}
}

func TestMalformedBodiesAreRefused(t *testing.T) {
	type decoder struct {
		name string
		run  func(string) error
		bad  []string
	}
	for _, d := range []decoder{
		{"ParameterStatus", func(s string) error { _, _, err := ParseParameterStatus([]byte(s)); return err },
			[]string{"", "a", "a\x00", "a\x00b", "a\x00b\x00c"}},
		{"BackendKeyData", func(s string) error { _, err := ParseBackendKeyData([]byte(s)); return err },
			[]string{"", "1234567", strings.Repeat("x", 261)}},
		{"ReadyForQuery", func(s string) error { _, err := ParseReadyForQuery([]byte(s)); return err },
			[]string{"", "x", "II"}},
		{"RowDescription", func(s string) error { _, err := ParseRowDescription([]byte(s)); return err },
			[]string{"", "\x00\x01", "\xff\xff" + strings.Repeat("\x00", 19), "\x00\x00x", "\x00\x01a" + strings.Repeat("\x00", 18) + "x" + "y"}},
		{"DataRow", func(s string) error { _, err := ParseDataRow(nil, []byte(s)); return err },
			[]string{"", "\x00\x01", "\x00\x01\x00\x00\x00\x02x", "\x00\x01\xff\xff\xff\xfe", "\x00\x01\x7f\xff\xff\xffx", "\x00\x00x", "\xff\xff\x00\x00\x00\x00"}},
		{"CommandComplete", func(s string) error { _, err := ParseCommandComplete([]byte(s)); return err },
			[]string{"", "SHOW", "SHOW\x00x"}},
		{"Query", func(s string) error { _, err := ParseQuery([]byte(s)); return err },
			[]string{"", "select", "select\x00x"}},
		{"Parse", func(s string) error { _, err := ParseParse([]byte(s)); return err },
			[]string{"", "a\x00", "a\x00b\x00", "a\x00b\x00\x00", "a\x00b\x00\x00\x01", "a\x00b\x00\x00\x00x", "a\x00b\x00\xff\xff\x00\x00\x00\x17"}},
		{"Target", func(s string) error { _, _, err := ParseTarget([]byte(s)); return err },
			[]string{"", "S", "Sx", "Sx\x00y", "Xx\x00"}},
		{"Execute", func(s string) error { _, _, err := ParseExecute([]byte(s)); return err },
			[]string{"", "p\x00", "p\x00\x00\x00\x00", "p\x00\x00\x00\x00\x00\x00"}},
		{"Report", func(s string) error { _, err := ParseReport([]byte(s)); return err },
			[]string{"", "S", "SERROR\x00", "SERROR\x00\x00x", "Sx\x00M"}},
		{"Authentication", func(s string) error { _, _, err := ParseAuthentication([]byte(s)); return err },
			[]string{"", "\x00\x00\x00", "\x00\x00\x00\x00x", "\x00\x00\x00\x05abc", "\x00\x00\x00\x05abcde"}},
		{"SASLMechanisms", func(s string) error { _, err := ParseSASLMechanisms([]byte(s)); return err },
			[]string{"", "a", "a\x00", "a\x00\x00x"}},
		{"Password", func(s string) error { _, err := ParsePassword([]byte(s)); return err },
			[]string{"", "a", "a\x00b"}},
		{"SASLInitialResponse", func(s string) error { _, _, err := ParseSASLInitialResponse([]byte(s)); return err },
			[]string{"", "a\x00", "a\x00\x00\x00\x00\x02x", "a\x00\x00\x00\x00\x00x", "a\x00\xff\xff\xff\xfe"}},
		{"NegotiateProtocolVersion", func(s string) error { _, _, err := ParseNegotiateProtocolVersion([]byte(s)); return err },
			[]string{"", "\x00\x03\x00\x00\x00\x00\x00\x01", "\x00\x03\x00\x00\x00\x00\x00\x00x"}},
	} {
		for _, s := range d.bad {
			if err := d.run(s); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s of %q: %v", d.name, s, err)
			}
		}
	}
}

func TestBindNamesWaitsForBothNames(t *testing.T) {
	msg := append(AppendBindHead(nil, []byte("portal"), []byte("stmt"), 6), 0, 0, 0, 0, 0, 0)
	body := msg[HeaderSize:]
	const names = len("portal\x00stmt\x00")
	for i := range names {
		if _, _, _, ok := BindNames(body[:i]); ok {
			t.Errorf("names found in %d bytes", i)
		}
	}
	portal, stmt, head, ok := BindNames(body[:names])
	if string(portal) != "portal" || string(stmt) != "stmt" || head != names || !ok {
		t.Errorf("%q %q %d %v", portal, stmt, head, ok)
	}
	// Renamed, only names and length differ.
	renamed := append(AppendBindHead(nil, portal, []byte("other_name"), len(body)-head), body[head:]...)
	var b pgproto3.Bind
	if err := b.Decode(renamed[HeaderSize:]); err != nil || b.DestinationPortal != "portal" || b.PreparedStatement != "other_name" {
		t.Errorf("%v %v", b, err)
	}
	if _, size, _, _ := ParseHeader(renamed); size != len(renamed) {
		t.Errorf("length says %d of %d", size, len(renamed))
	}
}

func TestReportKeepsUnknownFieldsOut(t *testing.T) {
	rep, err := ParseReport([]byte("SERROR\x00?new\x00Mm\x00\x00"))
	if err != nil || *rep != (Report{Severity: "ERROR", Message: "m"}) {
		t.Errorf("%+v %v", rep, err)
	}
}

// FuzzServerMessage feeds a body to every decoder of messages from servers.
func FuzzServerMessage(f *testing.F) {
	f.Add([]byte("TimeZone\x00UTC\x00"))
	f.Add(AppendRowDescription(nil, []Column{{"a", OIDText}, {"b", OIDInt4}})[HeaderSize:])
	f.Add(AppendDataRow(nil, [][]byte{nil, {}, []byte("x")})[HeaderSize:])
	f.Add(AppendFatal(nil, "08P01", "m")[HeaderSize:])
	f.Add(AppendNegotiateProtocolVersion(nil, []string{"_pq_.a"})[HeaderSize:])
	f.Add(AppendSASLMechanisms(nil, "SCRAM-SHA-256", "X")[HeaderSize:])
	f.Add([]byte("\x00\x00\x00\x05salt"))
	f.Add([]byte("\x12\x34\x56\x78secr"))
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, err error, again []byte) {
			if err == nil && !bytes.Equal(again[HeaderSize:], b) {
				t.Fatalf("%s: %q read, %q written", what, b, again[HeaderSize:])
			}
		}
		name, value, err := ParseParameterStatus(b)
		same("ParameterStatus", err, AppendParameterStatus(nil, string(name), string(value)))
		key, err := ParseBackendKeyData(b)
		same("BackendKeyData", err, AppendBackendKeyData(nil, key))
		state, err := ParseReadyForQuery(b)
		same("ReadyForQuery", err, AppendReadyForQuery(nil, state))
		tag, err := ParseCommandComplete(b)
		same("CommandComplete", err, AppendCommandComplete(nil, string(tag)))
		row, err := ParseDataRow(nil, b)
		same("DataRow", err, AppendDataRow(nil, row))
		if len(row) > len(b) {
			t.Fatalf("%d values from %d bytes", len(row), len(b))
		}
		if columns, err := ParseRowDescription(b); err == nil && len(columns)*19 > len(b) {
			t.Fatalf("%d columns from %d bytes", len(columns), len(b))
		}
		if _, options, err := ParseNegotiateProtocolVersion(b); err == nil && len(options) > len(b) {
			t.Fatalf("%d options from %d bytes", len(options), len(b))
		}
		if rep, err := ParseReport(b); err == nil {
			again, err := ParseReport(AppendErrorResponse(nil, rep)[HeaderSize:])
			if err != nil || *again != *rep {
				t.Fatalf("%+v read, %+v again, %v", rep, again, err)
			}
		}
		code, data, err := ParseAuthentication(b)
		same("Authentication", err, AppendAuthentication(nil, code, data))
		if err == nil && code == AuthSASL {
			if m, err := ParseSASLMechanisms(data); err == nil {
				same("SASL mechanisms", err, AppendSASLMechanisms(nil, m...))
			}
		}
	})
}

// FuzzClientMessage feeds a body to every decoder of messages from clients.
func FuzzClientMessage(f *testing.F) {
	f.Add([]byte("select 1\x00"))
	f.Add([]byte("s\x00select $1\x00\x00\x01\x00\x00\x00\x17"))
	f.Add([]byte("p\x00s\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("Ss\x00"))
	f.Add([]byte("p\x00\x00\x00\x00\x0a"))
	f.Add(AppendSASLInitialResponse(nil, MechanismSCRAM, []byte("n,,n=,r=x"))[HeaderSize:])
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, err error, again []byte) {
			if err == nil && !bytes.Equal(again[HeaderSize:], b) {
				t.Fatalf("%s: %q read, %q written", what, b, again[HeaderSize:])
			}
		}
		sql, err := ParseQuery(b)
		same("Query", err, AppendQuery(nil, string(sql)))
		p, err := ParseParse(b)
		same("Parse", err, AppendParse(nil, p.Name, p.Query, p.Types))
		kind, name, err := ParseTarget(b)
		same("Target", err, AppendDescribe(nil, kind, name))
		portal, rows, err := ParseExecute(b)
		same("Execute", err, AppendExecute(nil, portal, rows))
		password, err := ParsePassword(b)
		same("Password", err, AppendPassword(nil, password))
		if portal, stmt, head, ok := BindNames(b); ok {
			same("Bind", nil, append(AppendBindHead(nil, portal, stmt, len(b)-head), b[head:]...))
		}
		if mechanism, data, err := ParseSASLInitialResponse(b); err == nil && data != nil {
			same("SASLInitialResponse", err, AppendSASLInitialResponse(nil, mechanism, data))
		}
	})
}

func TestAppendHeaderFitsTheLargestMessage(t *testing.T) {
	h := AppendHeader(nil, MsgCopyData, math.MaxInt32-HeaderSize)
	if _, size, ok, err := ParseHeader(h); !ok || err != nil || size != math.MaxInt32 {
		t.Errorf("size %d ok %v err %v", size, ok, err)
	}
	if !slices.Equal(h, []byte{'d', 0x7f, 0xff, 0xff, 0xfe}) {
		t.Errorf("%x", h)
	}
}
