package ldap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestOptionsThatAreRefused(t *testing.T) {
	const search = "ldapserver=h ldapbasedn=dc=x "
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "no LDAP server: give ldapserver, or a host in ldapurl"},
		{"no word", "geheim", "LDAP option 1 is not NAME=VALUE with one of "},
		{"a password without quotes", "ldapbindpasswd=very geheim=1", "LDAP option 2 is not NAME=VALUE with one of "},
		{"unknown", search + "ldaphost=h", "unknown LDAP option ldaphost (use ldapserver, "},
		{"twice", search + "ldapserver=h", "ldapserver is given twice"},
		{"open quote", `ldapserver="h`, "a quote among the LDAP options is not closed"},
		{"zero byte", "ldapserver=\x00", "ldapserver has a zero byte"},
		{"empty server", `ldapserver="" ldapbasedn=dc=x`, "no LDAP server: give ldapserver, or a host in ldapurl"},
		{"bad port", search + "ldapport=65536", "ldapport is not a number from 1 to 65535"},
		{"port zero", search + "ldapport=0", "ldapport is not a number from 1 to 65535"},
		{"bad scheme", search + "ldapscheme=http", "ldapscheme is neither ldap nor ldaps"},
		{"bad tls", search + "ldaptls=on", "ldaptls is neither 0 nor 1"},
		{"both kinds of tls", search + "ldaptls=1 ldapscheme=ldaps", "ldaptls=1 begins encryption on a connection that ldapscheme=ldaps encrypts already; give one of them"},
		{"both by url", "ldaptls=1 ldapurl=ldaps://h/dc=x", "ldaptls=1 begins encryption on a connection that ldapscheme=ldaps encrypts already; give one of them"},
		{"no mode", "ldapserver=h", "nothing says how a user is found: give ldapprefix or ldapsuffix, or ldapbasedn to look for the user"},
		{"prefix and base", search + "ldapprefix=cn=", "ldapbasedn is for looking for the user, but with ldapprefix or ldapsuffix nothing is looked for; give one or the other"},
		{"suffix and password", "ldapserver=h ldapsuffix=@x ldapbindpasswd=geheim", "ldapbindpasswd is for looking for the user, but with ldapprefix or ldapsuffix nothing is looked for; give one or the other"},
		{"prefix and url", "ldapurl=ldap://h/dc=x ldapprefix=cn=", "ldapbasedn is for looking for the user, but with ldapprefix or ldapsuffix nothing is looked for; give one or the other"},
		{"bad template", "ldapserver=h ldapprefix=cn= ldapsuffix=,dc", "ldapprefix, a name and ldapsuffix together are not a DN"},
		{"bad base", "ldapserver=h ldapbasedn=dc", "ldapbasedn is not a DN"},
		{"bind without password", search + "ldapbinddn=cn=x", "ldapbinddn and ldapbindpasswd go together; without both the search is anonymous"},
		{"password without bind", search + "ldapbindpasswd=geheim", "ldapbinddn and ldapbindpasswd go together; without both the search is anonymous"},
		{"attribute and filter", search + "ldapsearchattribute=uid ldapsearchfilter=(uid=$username)", "ldapsearchattribute and ldapsearchfilter both say what to look for; give one of them"},
		{"bad attribute", search + "ldapsearchattribute=uid=*)(x", "ldapsearchattribute is not the name of an attribute"},
		{"bad filter", search + "ldapsearchfilter=(uid=$username", "ldapsearchfilter is not a filter like (uid=$username)"},
		{"filter for all", search + "ldapsearchfilter=(uid=admin)", "ldapsearchfilter has no $username, so that it would find the same entry for everybody"},
		{"no url", search + "ldapurl=x", "ldapurl is not ldap[s]://HOST[:PORT]/BASEDN[?ATTRIBUTE[?SCOPE[?FILTER]]]"},
		{"user in url", "ldapurl=ldap://geheim:geheim@h/dc=x", "ldapurl is not ldap[s]://HOST[:PORT]/BASEDN[?ATTRIBUTE[?SCOPE[?FILTER]]]"},
		{"bad escape in url", "ldapurl=ldap://h/geheim%zz", "ldapurl is not ldap[s]://HOST[:PORT]/BASEDN[?ATTRIBUTE[?SCOPE[?FILTER]]]"},
		{"bad escape in filter", "ldapurl=ldap://h/dc=x?uid?sub?%zz", "ldapurl has a % that stands for no byte"},
		{"socket url", "ldapurl=ldapi://h/dc=x", "ldapurl is not ldap[s]://HOST[:PORT]/BASEDN[?ATTRIBUTE[?SCOPE[?FILTER]]]"},
		{"url without host", "ldapurl=ldap:///dc=x", "no LDAP server: give ldapserver, or a host in ldapurl"},
		{"extensions", "ldapurl=ldap://h/dc=x?uid?sub?(uid=$username)?!x", "ldapurl has extensions, which are not supported"},
		{"too many parts", "ldapurl=ldap://h/dc=x?????", "ldapurl has more than attribute, scope and filter behind question marks"},
		{"bad scope", "ldapurl=ldap://h/dc=x?uid?all", "the scope in ldapurl is none of base, one, sub"},
		{"url and server", "ldapserver=g ldapurl=ldap://h/dc=x", "ldapserver is given twice: ldapurl has it, too"},
		{"url and base", "ldapurl=ldap://h/dc=x ldapbasedn=dc=x", "ldapbasedn is given twice: ldapurl has it, too"},
		{"url with attribute and filter", "ldapurl=ldap://h/dc=x?uid?sub?(uid=$username)", "ldapsearchattribute and ldapsearchfilter both say what to look for; give one of them"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.text)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Fatalf("%s:\n%v, want\n%s", tc.text, err, tc.want)
			}
			if strings.Contains(err.Error(), "geheim") {
				t.Errorf("the error has a secret: %v", err)
			}
		})
	}
}

func TestOptionsThatAreTaken(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		// The examples of PostgreSQL's manual.
		{"simple bind", `ldapserver=ldap.example.net ldapprefix="cn=" ldapsuffix=", dc=example, dc=net"`,
			`[ldap.example.net:389] ldaps=false tls=false "cn=" ", dc=example, dc=net" true "" 2 "" "" ""`},
		{"search and bind", `ldapserver=ldap.example.net ldapbasedn="dc=example, dc=net" ldapsearchattribute=uid`,
			`[ldap.example.net:389] ldaps=false tls=false "" "" false "dc=example, dc=net" 2 "(uid=$username)" "" ""`},
		{"the same as a URL", `ldapurl="ldap://ldap.example.net/dc=example,dc=net?uid?sub"`,
			`[ldap.example.net:389] ldaps=false tls=false "" "" false "dc=example,dc=net" 2 "(uid=$username)" "" ""`},
		{"filter", `ldapserver=ldap.example.net ldapbasedn="dc=example, dc=net" ldapsearchfilter="(|(uid=$username)(mail=$username))"`,
			`[ldap.example.net:389] ldaps=false tls=false "" "" false "dc=example, dc=net" 2 "(|(uid=$username)(mail=$username))" "" ""`},
		{"several servers", `ldapserver="a b [::1] ::2" ldapport=1389 ldapbasedn=dc=x ldapbinddn="cn=reader,dc=x" ldapbindpasswd="a ""b"" c=d" ldaptls=1`,
			`[a:1389 b:1389 [::1]:1389 [::2]:1389] ldaps=false tls=true "" "" false "dc=x" 2 "(uid=$username)" "cn=reader,dc=x" "a \"b\" c=d"`},
		{"ldaps", "ldapserver=a ldapscheme=ldaps ldapsuffix=@corp.example.net ldaptls=0",
			`[a:636] ldaps=true tls=false "" "@corp.example.net" false "" 2 "" "" ""`},
		{"domain", `ldapserver=a ldapprefix=CORP\`,
			`[a:389] ldaps=false tls=false "CORP\\" "" false "" 2 "" "" ""`},
		{"url with everything", `ldapurl=ldaps://[::1]:6360/ou=people%2Cdc=x??one?(%26(cn=$username)(ou=%25)) ldapbinddn=reader@x ldapbindpasswd=p`,
			`[[::1]:6360] ldaps=true tls=false "" "" false "ou=people,dc=x" 1 "(&(cn=$username)(ou=%))" "reader@x" "p"`},
		{"url without scope", "ldapurl=ldap://h/dc=x", `[h:389] ldaps=false tls=false "" "" false "dc=x" 0 "(uid=$username)" "" ""`},
		{"url for the server alone", "ldapurl=ldaps://h ldapprefix=uid= ldapsuffix=,dc=x", `[h:636] ldaps=true tls=false "uid=" ",dc=x" true "" 0 "" "" ""`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, err := Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprintf("%v ldaps=%v tls=%v %q %q %v %q %d %q %q %q", o.servers, o.ldaps, o.startTLS, o.prefix, o.suffix, o.isDN, o.base, o.scope, o.filter, o.bindDN, o.bindPassword.Reveal())
			if got != tc.want {
				t.Errorf("%s:\n%s, want\n%s", tc.text, got, tc.want)
			}
		})
	}
}

func TestOptionsKeepTheirPassword(t *testing.T) {
	o, err := Parse("ldapserver=h ldapbasedn=dc=x ldapbinddn=cn=r ldapbindpasswd=geheim")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		for _, value := range []any{o, *o, struct{ O *Options }{o}, []Options{*o}} {
			if text := fmt.Sprintf(verb, value); strings.Contains(text, "geheim") {
				t.Errorf("%s of %T: %s", verb, value, text)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		`ldapserver="a b" ldapprefix="cn=" ldapsuffix=", dc=x"`, `ldapurl=ldap://[::1]:1/dc=x?uid?sub?(uid=$username)`,
		"ldapserver=h ldapbasedn=dc=x ldapbinddn=cn=r ldaptls=1 ldapport=1", `ldapserver=h ldapsuffix="@x"" y"`,
	} {
		f.Add(text, "eve")
	}
	f.Fuzz(func(t *testing.T, text, user string) {
		const secret = "Xyzzy,Geheim"
		for _, all := range []string{text, "ldapbindpasswd=" + secret + " " + text, text + " ldapbindpasswd=" + secret} {
			o, err := Parse(all)
			if err != nil {
				if strings.Contains(err.Error(), secret) {
					t.Fatalf("%q: the error has the password: %v", all, err)
				}
				continue
			}
			if len(o.servers) == 0 {
				t.Fatalf("%q: no server and no error", all)
			}
			if o.base != "" {
				if _, err := ldap.CompileFilter(o.filterFor(user)); err != nil {
					t.Fatalf("%q: the filter for %q: %v", all, user, err)
				}
			}
		}
	})
}

// Whatever the name is, it stays one value where it was meant to be one.
func FuzzNames(f *testing.F) {
	for _, user := range []string{"eve", "*", "x)(uid=admin", "x,cn=admin", `a\b`, " a ", "#a", "ä", `"q"+=;<>`, "a\x00b", "\\2a", " "} {
		f.Add(user)
	}
	direct, err := Parse(`ldapserver=h ldapprefix="uid=" ldapsuffix=",ou=people,dc=example,dc=net"`)
	if err != nil {
		f.Fatal(err)
	}
	search, err := Parse(`ldapserver=h ldapbasedn=dc=x ldapsearchfilter=(|(uid=$username)(mail=$username))`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, user string) {
		if !validName(user) {
			return
		}
		name, err := direct.nameFor(user)
		if err != nil {
			t.Fatal(err)
		}
		dn, err := ldap.ParseDN(name)
		if err != nil {
			t.Fatalf("%q becomes %q: %v", user, name, err)
		}
		if len(dn.RDNs) != 4 || len(dn.RDNs[0].Attributes) != 1 || dn.RDNs[0].Attributes[0].Type != "uid" || dn.RDNs[0].Attributes[0].Value != user {
			t.Fatalf("%q becomes %q", user, name)
		}
		filter, err := ldap.CompileFilter(search.filterFor(user))
		if err != nil {
			t.Fatalf("%q: %v", user, err)
		}
		if len(filter.Children) != 2 || filter.Tag != ldap.FilterOr {
			t.Fatalf("%q makes another filter", user)
		}
		for _, c := range filter.Children {
			if c.Tag != ldap.FilterEqualityMatch || c.Children[1].Data.String() != user {
				t.Fatalf("%q is looked for as %q", user, c.Children[1].Data.String())
			}
		}
	})
}
