// SHOW CONFIG.

package pooler

import "slices"

func showConfig(p *Pooler, t *table) {
	t.columns = columns("key value default changeable")
	for _, r := range p.cfg.Rows() {
		changeable := "no"
		if r.Changeable {
			changeable = "yes"
		}
		t.add(r.Key, orNull(r.Key, r.Value), orNull(r.Key, r.Default), changeable)
	}
}

// nullSettings have NULL where others have an empty value.
var nullSettings = []string{
	"auth_dbname", "auth_file", "auth_ident_file", "auth_ldap_options", "auth_user", "client_tls13_ciphers", "conffile",
	"server_tls13_ciphers", "user",
}

func orNull(key, value string) any {
	if value == "" && slices.Contains(nullSettings, key) {
		return nil
	}
	return value
}
