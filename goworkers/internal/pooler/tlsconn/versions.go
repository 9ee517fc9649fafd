// Versions of TLS and curves of the key exchange, as the settings name them.

package tlsconn

import (
	"crypto/tls"
	"slices"
	"strings"
)

// versionNames are the protocol versions, oldest first.
var versionNames = []struct {
	id   uint16
	word string // in settings
	name string // in the log, as OpenSSL says it
}{
	{tls.VersionTLS10, "tlsv1.0", "TLSv1"},
	{tls.VersionTLS11, "tlsv1.1", "TLSv1.1"},
	{tls.VersionTLS12, "tlsv1.2", "TLSv1.2"},
	{tls.VersionTLS13, "tlsv1.3", "TLSv1.3"},
}

// words takes a list apart at commas, colons and blanks.
func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(",: \t", r) })
}

// versions reads *_tls_protocols: words in any case, of which one with ! in front is
// taken away; a list that begins with such a one begins with all.
func (b *builder) versions(setting string) (lowest, highest uint16) {
	b.note(setting)
	const secure = 1<<2 | 1<<3
	const all = 1<<4 - 1
	want := 0
	list := words(strings.ToLower(setting))
	if len(list) == 0 {
		want = secure
	} else if strings.HasPrefix(list[0], "!") {
		want = all
	}
	for _, word := range list {
		name, not := strings.CutPrefix(word, "!")
		set := 0
		switch name {
		case "secure", "default":
			set = secure
		case "all", "legacy":
			set = all
		default:
			for i, v := range versionNames {
				if v.word == name {
					set = 1 << i
				}
			}
		}
		switch {
		case set == 0:
			b.fail("protocols", setting, `unknown word "`+word+`"`, "use secure, all, legacy, or a list of tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3")
			return 0, 0
		case not:
			want &^= set
		default:
			want |= set
		}
	}
	// crypto/tls knows a range only: take the newest versions that make one.
	high := len(versionNames) - 1
	for high >= 0 && want>>high&1 == 0 {
		high--
	}
	if high < 0 {
		b.fail("protocols", setting, "no version is left", "use secure, which is tlsv1.2,tlsv1.3")
		return 0, 0
	}
	low := high
	for low > 0 && want>>(low-1)&1 == 1 {
		low--
	}
	if want&(1<<low-1) != 0 {
		b.warn("protocols", setting, "a version in between is missing, so nothing older than "+versionNames[low].word+" is used")
	}
	return versionNames[low].id, versionNames[high].id
}

var curveNames = map[string]tls.CurveID{
	"prime256v1": tls.CurveP256, "secp256r1": tls.CurveP256, "p-256": tls.CurveP256,
	"secp384r1": tls.CurveP384, "p-384": tls.CurveP384,
	"secp521r1": tls.CurveP521, "p-521": tls.CurveP521,
	"x25519": tls.X25519, "x25519mlkem768": tls.X25519MLKEM768,
	"secp256r1mlkem768": tls.SecP256r1MLKEM768, "secp384r1mlkem1024": tls.SecP384r1MLKEM1024,
}

// curves reads *_tls_ecdhcurve; nil is crypto/tls's own choice.
func (b *builder) curves(setting string) []tls.CurveID {
	b.note(setting)
	switch strings.ToLower(setting) {
	case "", "auto":
		return nil
	case "none":
		b.warn("ecdhcurve", setting, "there is no key exchange without curves here; auto is used")
		return nil
	}
	var ids []tls.CurveID
	var unknown []string
	for _, name := range words(setting) {
		if id := curveNames[strings.ToLower(name)]; id == 0 {
			unknown = append(unknown, name)
		} else if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	switch {
	case len(ids) == 0:
		b.fail("ecdhcurve", setting, "no such curve here", "use auto, or of prime256v1, secp384r1, secp521r1, X25519, X25519MLKEM768")
	case len(unknown) > 0:
		b.warn("ecdhcurve", setting, "no "+strings.Join(unknown, ", ")+" here; the others are used")
	}
	return ids
}
