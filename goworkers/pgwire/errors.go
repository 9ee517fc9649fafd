package pgwire

// ErrorResponse and NoticeResponse.
// Manual: "Error and Notice Message Fields", protocol-error-fields.html.

import (
	"fmt"
)

// Severities that a middleman sends.
const (
	SeverityError  = "ERROR"
	SeverityFatal  = "FATAL"
	SeverityNotice = "NOTICE"
)

// CodeProtocolViolation is the SQLSTATE for what has no better one.
const CodeProtocolViolation = "08P01"

// Report is the content of an ErrorResponse or a NoticeResponse. Empty fields are not
// sent. As an error it reads like psql prints it.
type Report struct {
	Severity   string // S, may be translated
	SeverityV  string // V, never translated; only PostgreSQL itself sends it
	Code       string // C, the SQLSTATE
	Message    string // M
	Detail     string // D
	Hint       string // H
	Position   string // P
	IPosition  string // p
	IQuery     string // q
	Where      string // W
	Schema     string // s
	Table      string // t
	Column     string // c
	DataType   string // d
	Constraint string // n
	File       string // F
	Line       string // L
	Routine    string // R
}

func (r *Report) Error() string {
	return fmt.Sprintf("%s: %s (SQLSTATE %s)", r.Severity, r.Message, r.Code)
}

// field returns the member for a field type; nil for a type that we do not know.
func (r *Report) field(typ byte) *string {
	switch typ {
	case 'S':
		return &r.Severity
	case 'V':
		return &r.SeverityV
	case 'C':
		return &r.Code
	case 'M':
		return &r.Message
	case 'D':
		return &r.Detail
	case 'H':
		return &r.Hint
	case 'P':
		return &r.Position
	case 'p':
		return &r.IPosition
	case 'q':
		return &r.IQuery
	case 'W':
		return &r.Where
	case 's':
		return &r.Schema
	case 't':
		return &r.Table
	case 'c':
		return &r.Column
	case 'd':
		return &r.DataType
	case 'n':
		return &r.Constraint
	case 'F':
		return &r.File
	case 'L':
		return &r.Line
	case 'R':
		return &r.Routine
	}
	return nil
}

// reportOrder is the order in which the server sends the fields.
const reportOrder = "SVCMDHPpqWstcdnFLR"

// ParseReport decodes the body of an ErrorResponse or a NoticeResponse. Field types
// that it does not know are passed over, as the manual demands. A report without
// severity, SQLSTATE or message is taken as it is: a reader of errors must not fail
// on them.
func ParseReport(body []byte) (*Report, error) {
	rep := new(Report)
	r := reader{buf: body}
	for {
		typ := r.byte()
		if r.bad {
			return nil, fmt.Errorf("%w: ErrorResponse lacks the terminator", ErrMalformed)
		}
		if typ == 0 {
			break
		}
		value := r.cstring()
		if f := rep.field(typ); f != nil {
			*f = string(value)
		}
	}
	if err := r.done("ErrorResponse"); err != nil {
		return nil, err
	}
	return rep, nil
}

// AppendErrorResponse appends an ErrorResponse.
func AppendErrorResponse(dst []byte, rep *Report) []byte {
	return appendReport(dst, MsgErrorResponse, rep)
}

// AppendNoticeResponse appends a NoticeResponse.
func AppendNoticeResponse(dst []byte, rep *Report) []byte {
	return appendReport(dst, MsgNoticeResponse, rep)
}

// AppendFatal appends the ErrorResponse that a middleman sends before it closes: as
// PgBouncer's, it has only severity, SQLSTATE and message.
func AppendFatal(dst []byte, code, message string) []byte {
	return AppendErrorResponse(dst, &Report{Severity: SeverityFatal, Code: code, Message: message})
}

func appendReport(dst []byte, typ byte, rep *Report) []byte {
	dst, mark := beginMessage(dst, typ)
	for i := 0; i < len(reportOrder); i++ {
		value := *rep.field(reportOrder[i])
		if value == "" {
			continue
		}
		dst = append(dst, reportOrder[i])
		dst = appendCString(dst, value)
	}
	dst = append(dst, 0)
	return endMessage(dst, mark)
}
