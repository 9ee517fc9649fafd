// Cipher suites: OpenSSL's names and cipher strings for the suites that Go has.

package tlsconn

import (
	"crypto/tls"
	"slices"
	"strings"
)

// suites are those of crypto/tls for TLS 1.2 and before, by OpenSSL's names.
var suites = []struct {
	id   uint16
	name string
}{
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-ECDSA-AES128-GCM-SHA256"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-ECDSA-AES256-GCM-SHA384"},
	{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-ECDSA-CHACHA20-POLY1305"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384"},
	{tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, "ECDHE-ECDSA-AES128-SHA"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, "ECDHE-ECDSA-AES256-SHA"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, "ECDHE-RSA-AES128-SHA"},
	{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "ECDHE-RSA-AES256-SHA"},
	{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256, "ECDHE-ECDSA-AES128-SHA256"},
	{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256, "ECDHE-RSA-AES128-SHA256"},
	{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, "AES128-GCM-SHA256"},
	{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, "AES256-GCM-SHA384"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA256, "AES128-SHA256"},
	{tls.TLS_RSA_WITH_AES_128_CBC_SHA, "AES128-SHA"},
	{tls.TLS_RSA_WITH_AES_256_CBC_SHA, "AES256-SHA"},
	{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, "ECDHE-RSA-DES-CBC3-SHA"},
	{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, "DES-CBC3-SHA"},
	{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA, "ECDHE-ECDSA-RC4-SHA"},
	{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, "ECDHE-RSA-RC4-SHA"},
	{tls.TLS_RSA_WITH_RC4_128_SHA, "RC4-SHA"},
}

// suiteName is OpenSSL's name of a suite. Those of TLS 1.3 have one name everywhere.
func suiteName(id uint16) string {
	for _, s := range suites {
		if s.id == id {
			return s.name
		}
	}
	return tls.CipherSuiteName(id)
}

// safe tells whether Go uses a suite without being asked for it by name.
func safe(id uint16) bool {
	return slices.ContainsFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.ID == id })
}

// inClass tells whether a suite belongs to one of the groups that OpenSSL's cipher
// strings name (ciphers(1)).
func inClass(name, class string) bool {
	has := func(s string) bool { return strings.Contains("-"+name+"-", "-"+s+"-") }
	ecdhe := strings.HasPrefix(name, "ECDHE-")
	aead := has("GCM") || has("POLY1305")
	weak := has("RC4") || has("CBC3")
	switch class {
	case "ALL":
		return true
	case "DEFAULT", "HIGH":
		return !weak
	case "MEDIUM":
		return weak
	case "ECDHE", "EECDH", "kECDHE", "kEECDH", "ECDH":
		return ecdhe
	case "RSA", "kRSA":
		return !ecdhe
	case "aRSA":
		return !has("ECDSA")
	case "ECDSA", "aECDSA":
		return has("ECDSA")
	case "AES":
		return has("AES128") || has("AES256")
	case "AES128", "AES256", "RC4", "CHACHA20":
		return has(class)
	case "AESGCM":
		return has("GCM")
	case "3DES":
		return has("CBC3")
	case "SHA", "SHA1":
		return has("SHA")
	case "SHA256", "SHA384": // as a MAC of its own
		return has(class) && !aead
	case "TLSv1.2":
		return aead || has("SHA256")
	case "TLSv1", "TLSv1.0", "SSLv3":
		return !aead && !has("SHA256")
	}
	return false
}

// ciphers reads *_tls_ciphers: a word for crypto/tls's own choice (nil), or an
// OpenSSL cipher string. A group gives those of its suites that Go calls safe, a
// name any. The order has no effect: crypto/tls has its own.
func (b *builder) ciphers(setting string) []uint16 {
	b.note(setting)
	switch strings.ToLower(setting) {
	case "", "default", "secure", "normal", "fast", "compat", "legacy", "all", "insecure":
		return nil
	}
	var ids, banned []uint16
	var unknown, unsafe []string
	for _, word := range words(setting) {
		op := word[0]
		if strings.IndexByte("!-+@", op) < 0 {
			op = 0
		} else {
			word = word[1:]
		}
		var named, chosen []uint16
		for _, s := range suites {
			if s.name == word {
				named = append(named, s.id)
			}
		}
		chosen = named
		if named == nil {
			for _, s := range suites {
				if !slices.ContainsFunc(strings.Split(word, "+"), func(class string) bool { return !inClass(s.name, class) }) {
					chosen = append(chosen, s.id)
				}
			}
		}
		switch op {
		case '!', '-':
			if op == '!' {
				banned = append(banned, chosen...)
			}
			ids = slices.DeleteFunc(ids, func(id uint16) bool { return slices.Contains(chosen, id) })
		case '+': // order only
		case '@':
			if word != "STRENGTH" { // order only
				unknown = append(unknown, "@"+word)
			}
		default:
			got := false
			for _, id := range chosen {
				if named == nil && !safe(id) {
					continue
				}
				got = true
				if slices.Contains(ids, id) || slices.Contains(banned, id) {
					continue
				}
				ids = append(ids, id)
				if !safe(id) {
					unsafe = append(unsafe, suiteName(id))
				}
			}
			if !got {
				unknown = append(unknown, word)
			}
		}
	}
	if len(ids) == 0 {
		b.fail("ciphers", setting, "no cipher that this program has is left", "use default, or names such as ECDHE-RSA-AES128-GCM-SHA256")
		return nil
	}
	if len(unknown) > 0 {
		var used []string
		for _, id := range ids {
			used = append(used, suiteName(id))
		}
		b.warn("ciphers", setting, "nothing here for "+strings.Join(unknown, ", ")+"; used are "+strings.Join(used, ":"))
	}
	if len(unsafe) > 0 {
		b.warn("ciphers", setting, strings.Join(unsafe, ", ")+" can be broken, and is used only since it is asked for")
	}
	return ids
}
