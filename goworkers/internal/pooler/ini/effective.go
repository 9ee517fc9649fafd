package ini

// What the pooler acts on so far. A name that is missing here is read and checked, and
// a warning tells that it changes nothing when it is set to another value than its
// default: whoever makes a setting work adds its name.

// effective are settings of [pgbouncer].
var effective = []string{
	"conffile",
}

// effectiveDatabase are keys of [databases].
var effectiveDatabase = []string{}

// effectiveUser are keys of [users].
var effectiveUser = []string{}

// effectivePeer are keys of [peers].
var effectivePeer = []string{}
