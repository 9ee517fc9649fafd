// Package plproxy holds no program. Its tests show how the language plproxy
// stands what regress/plproxy cannot do to it: networks that break, stall and
// delay, hosts that vanish, servers that are killed.
package plproxy
