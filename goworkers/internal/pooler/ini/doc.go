// Package ini reads the pooler's configuration: PgBouncer's ini file and its auth_file.
//
// The model: the file is lines; Load turns them into a Config, which has every setting
// as a typed field of Settings, and the entries of [databases], [users] and [peers].
// One table (table.go) knows each key's name, default, bounds, meaning and whether it
// can change while the pooler runs; parsing, SHOW CONFIG, SET, and the sample that
// --ini prints are all made from it. A Config is not safe for concurrent use.
//
// Nothing is passed over in silence. Every error found is reported, each on one line
// with file, line, section, key, what is wrong and what to do. Secrets are of type
// pgwire.Secret and never stand in an error, a warning or SHOW CONFIG.
package ini
