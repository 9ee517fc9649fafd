// Writing values and names into SQL text and COPY data. Where SQL takes parameters,
// parameters are better.

package pgq

import (
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// QuoteLiteral writes a value as a literal of SQL: null, '...', or E'...' when it has
// a backslash, so that it means the same whatever standard_conforming_strings is.
func QuoteLiteral(value pgtype.Text) string {
	if !value.Valid {
		return "null"
	}
	quoted := `'` + literal.Replace(value.String) + `'`
	if strings.Contains(value.String, `\`) {
		return `E` + quoted
	}
	return quoted
}

var literal = strings.NewReplacer(`'`, `''`, `\`, `\\`)

// QuoteCopy appends a value to dst as a field of COPY in text format; what parts
// fields and rows is up to the caller.
func QuoteCopy(dst []byte, value pgtype.Text) []byte {
	if !value.Valid {
		return append(dst, `\N`...)
	}
	from := 0 // what comes before is in dst
	for i := 0; i < len(value.String); i++ {
		var letter byte
		switch value.String[i] {
		case '\\':
			letter = '\\'
		case '\t':
			letter = 't'
		case '\n':
			letter = 'n'
		case '\r':
			letter = 'r'
		default:
			continue
		}
		dst = append(dst, value.String[from:i]...)
		dst = append(dst, '\\', letter)
		from = i + 1
	}
	return append(dst, value.String[from:]...)
}

// QuoteIdent writes a name for SQL, in quotes only if PostgreSQL 14 to 18 need them,
// so that what people read stays readable.
func QuoteIdent(name string) string {
	if isPlain(name) && !quotedWords[name] {
		return name
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

func isPlain(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || c == '_' || i > 0 && '0' <= c && c <= '9') {
			return false
		}
	}
	return name != ""
}

// QuoteFQIdent writes the name of a table, function or type for SQL. What stands
// before the first dot is the schema; without a dot it is public.
func QuoteFQIdent(name string) string {
	schema, rest, found := strings.Cut(name, ".")
	if !found {
		schema, rest = "public", name
	}
	return QuoteIdent(schema) + "." + QuoteIdent(rest)
}

// quotedWords are the key words that are no plain names, of PostgreSQL 14 to 18.
var quotedWords = wordSet(`
	all analyse analyze and any array as asc asymmetric authorization between bigint
	binary bit boolean both case cast char character check coalesce collate collation
	column concurrently constraint create cross current_catalog current_date current_role
	current_schema current_time current_timestamp current_user dec decimal default
	deferrable desc distinct do else end except exists extract false fetch float for
	foreign freeze from full grant greatest group grouping having ilike in initially inner
	inout int integer intersect interval into is isnull join json json_array json_arrayagg
	json_exists json_object json_objectagg json_query json_scalar json_serialize json_table
	json_value lateral leading least left like limit localtime localtimestamp merge_action
	national natural nchar none normalize not notnull null nullif numeric offset on only or
	order out outer overlaps overlay placing position precision primary real references
	returning right row select session_user setof similar smallint some substring symmetric
	system_user table tablesample then time timestamp to trailing treat trim true union
	unique user using values varchar variadic verbose when where window with xmlattributes
	xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot
	xmlserialize xmltable`)

func wordSet(words string) map[string]bool {
	set := make(map[string]bool)
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}
