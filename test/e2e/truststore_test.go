package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// The store of certificate authorities of Fedora's kind, around the program that it has: p11-kit's trust. Debian's package of it differs
// in the folders that it reads, which a file of its configuration says; its own package, and so the script that calls it, is not Debian's, and is
// written here after its manual page (update-ca-trust(8) of Fedora 42).
const (
	readsFrom = `sed -i "s#^x-init-reserved:.*#x-init-reserved: paths='$1'#" /usr/share/p11-kit/modules/p11-kit-trust.module
rm -rf /usr/sbin/update-ca-certificates /usr/local/share/ca-certificates
mkdir -p $2 $3 $4; mv /etc/ssl/certs/ca-certificates.crt $2/mozilla.pem; rm -rf /etc/ssl/certs
`
	extract     = "trust extract --overwrite --comment --purpose=server-auth --filter=ca-anchors --format="
	fedoraStore = readsFrom + `mkdir -p /etc/pki/tls/certs
cat >/usr/bin/update-ca-trust <<'END'
#!/bin/sh
case "${1:-extract}" in extract) ;; *) echo "usage: update-ca-trust [extract]" >&2; exit 1 ;; esac
exec ` + extract + `pem-bundle /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem
END
chmod 755 /usr/bin/update-ca-trust; ln -s /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem /etc/pki/tls/certs/ca-bundle.crt
ln -s ../pki/tls/certs /etc/ssl/certs; update-ca-trust`
)

// trustStore is where a system keeps the authorities that it trusts.
type trustStore struct{ system, unit, script, bundle, anchors, sources string }

// trustStores are those of systems on which that is tried here. The slow tier has the other family's.
var trustStores = []trustStore{{
	"rocky9", "ecs.service", fedoraStore, "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/ca-trust/source/anchors", "/usr/share/pki/ca-trust-source",
}}

// A host of the rpm families behind a proxy that wants a password and opens every connection to AWS: the agents' own calls go by the authority of
// --ca-file, from the host's store and, in the ECS agent's container, which does not see that one, from a file of its own. ECS Exec's programs are given
// it. Deregistered, nobody trusts it any more.
func TestAuthorityOnRPM(t *testing.T) {
	for _, c := range trustStores {
		t.Run(c.system, func(t *testing.T) {
			t.Parallel()
			box := newMiddlebox(t, "squid:c4n4ry/p4ss")
			s := newSite(t, packages.Options{RPM: true}, packages.Options{RPM: true, Unit: c.unit})
			box.aws = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				box.count("opened")
				s.aws.ServeHTTP(w, r)
			})
			h := s.host(lab.Host{System: c.system})
			sources := c.anchors[:strings.LastIndex(c.anchors, "/")]
			h.MustShell(strings.NewReplacer("$1", sources+":"+c.sources, "$2", c.sources+"/anchors", "$3", c.anchors,
				"$4", c.bundle[:strings.LastIndex(c.bundle, "/")]).Replace(c.script))
			h.WriteFile("/root/authority.pem", box.authority, 0o644)
			h.WriteFile("/run/way-out", []byte("ANYWHERE_HTTPS_PROXY="+strings.Replace(box.url, "//", "//squid:c4n4ry%2Fp4ss@", 1)+"\n"), 0o600)
			h.MustShell("iptables -A OUTPUT -o host0 -d " + lab.Address + " -p tcp --dport " + port(box.url) + " -j ACCEPT; " +
				"iptables -A OUTPUT -o host0 -j REJECT")
			stores := []string{"/etc/pki", "/etc/ssl", "/var/lib/ca-certificates", "/usr/local/share", "/usr/share/pki"}
			before := h.Tree(stores...)
			const aws = "https://ecs." + region + ".amazonaws.com"
			through := func(token string, more ...string) lab.Cmd {
				args := []string{"/bin/sh", "-c", `set -a; . /run/way-out; exec "$@"`, "sh", "anywhere", "register", "-o", "json", "--region", region,
					"--endpoint-url", aws, "--agent-endpoint", aws, "--artifacts", s.url, "--keyring", keyring}
				if token != "" {
					args = append(args, "--token", "-")
				}
				return lab.Cmd{Args: append(args, more...), Stdin: token}
			}
			token := s.token(1)
			if d := s.read(h.Run(through(token))); d.RC != 3 || d.Changed ||
				!strings.Contains(d.Error.Message, "issued by CN=Middlebox Authority") || !strings.Contains(d.Error.Remedy, c.anchors) {
				t.Fatalf("without --ca-file: %+v %+v", d, d.Error)
			}
			watcher := h.Start(lab.Cmd{Args: []string{"/bin/sh", "-c", `while [ ! -e /run/watched ]; do grep -la 'c4n[4]ry' /proc/[0-9]*/cmdline; done 2>/dev/null`}})
			first := s.mustRegister(h, through(token, "--ca-file", "/root/authority.pem"))
			h.WriteFile("/run/watched", nil, 0o600)
			if seen := watcher.Wait(); seen.Stdout != "" {
				t.Errorf("every user could read the password: %v", seen)
			}
			box.mu.Lock()
			if box.asked["opened"] < 5 || box.asked["refused"] > 0 {
				t.Errorf("the proxy was asked for %v", box.asked)
			}
			box.mu.Unlock()
			authority := strings.Split(string(box.authority), "\n")[2] // a line that is only its own
			has := func(where string) string {
				return h.MustShell("grep -rlF " + authority + " " + where + " 2>/dev/null | sort || :")
			}
			want := strings.Join([]string{c.bundle, "/etc/ecs/anywhere-authorities.pem", "/var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem"}, "\n")
			if got := has(c.bundle + " /etc/ecs /var/lib/ecs/deps"); got != want && got != strings.Join([]string{
				"/etc/ecs/anywhere-authorities.pem", c.bundle, "/var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem"}, "\n") {
				t.Errorf("it is in\n%s", got)
			}
			if got := h.MustShell("docker inspect -f '{{.Config.Env}}' ecs-agent"); !strings.Contains(got, "SSL_CERT_FILE=/etc/ecs/anywhere-authorities.pem") {
				t.Errorf("the ECS agent runs with %s", got)
			}
			if again := s.mustRegister(h, through("", "--ca-file", "/root/authority.pem")); again.Changed || again.Result != first.Result {
				t.Errorf("once more: %+v", again)
			}
			if holds := h.MustShell("grep -rlI c4n[4]ry /etc /root /var/lib/anywhere /var/lib/amazon /var/log | sort"); holds != "/etc/anywhere/proxy.env\n/etc/ecs/ecs.config" {
				t.Errorf("the password is in\n%s", holds)
			}
			if told := h.MustShell("journalctl --no-pager -o verbose | grep -c 'c4n[4]ry' || :; anywhere doctor --bundle /root/bundle.tar.gz >/root/doctor 2>&1; " +
				"(cat /root/doctor; tar -xzOf /root/bundle.tar.gz) | grep -a -c 'c4n[4]ry' || :"); told != "0\n0" {
				t.Errorf("the journal, and doctor with its bundle, tell the password in so many lines: %s", told)
			}
			if status := h.Run(lab.Cmd{Args: []string{"anywhere", "status", "-o", "json"}}); status.Exit != 0 {
				t.Errorf("%v", status)
			}
			// Without a proxy in their environment, as sudo starts them, and without --ca-file.
			for _, cmd := range [][]string{{"upgrade", "--check"}, {"mirror", "/root/mirror", "--os-family", "rpm", "--arch", "amd64"}} {
				cmd = append(append([]string{"anywhere"}, cmd...), "-o", "json", "--region", region, "--endpoint-url", aws, "--artifacts", s.url, "--keyring", keyring)
				if res := h.Run(lab.Cmd{Args: cmd}); res.Exit != 0 || strings.Contains(res.Stdout+res.Stderr, "c4n4ry") {
					t.Errorf("%s: %v", cmd[1], res)
				}
			}
			res := h.Run(lab.Cmd{Args: []string{"anywhere", "deregister", "--local-only", "--yes", "-o", "json"}})
			if res.Exit != 0 {
				t.Fatalf("%v", res)
			}
			if diff := lab.Diff(before, h.Tree(stores...)); len(diff) > 0 {
				t.Errorf("deregistered, the stores differ: %q", diff)
			}
			if got := has("/etc /var/lib/ecs /var/lib/ca-certificates"); got != "" {
				t.Errorf("it is still in\n%s", got)
			}
		})
	}
}
