package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
)

// checks is what the tests look at in preflight's JSON.
type checks struct {
	RC         int
	DurationMs int64
	Result     struct {
		Checks []struct {
			ID, Status, Detail, Remedy string
			DurationMs                 int64
			Evidence                   map[string]any
		}
	}
	Error *struct{ Code, Message, Evidence, Remedy string }
}

func (c checks) find(t *testing.T, id string) (status, detail, remedy string) {
	t.Helper()
	for _, one := range c.Result.Checks {
		if one.ID == id {
			return one.Status, one.Detail, one.Remedy
		}
	}
	t.Fatalf("there is no check %s", id)
	return
}

func preflight(t *testing.T, h *lab.Machine, env []string, args ...string) checks {
	t.Helper()
	res := h.Run(lab.Cmd{Args: append([]string{"anywhere", "preflight", "-o", "json"}, args...), Env: env})
	var c checks
	if err := json.Unmarshal([]byte(res.Stdout), &c); err != nil || c.RC != res.Exit {
		t.Fatalf("%v: %v", err, res)
	}
	return c
}

// awsByTLS serves all of AWS's names at the lab's address, as a proxy that opens connections would: by a certificate of
// its own authority, whose certificate it returns.
func awsByTLS(t *testing.T, names []string) (authority []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Lab Inspection"}}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: root.NotBefore, NotAfter: root.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), key)
	must(t, err)
	l, err := tls.Listen("tcp", net.JoinHostPort(lab.Address, "443"), &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leafDER}, PrivateKey: key}},
	})
	must(t, err)
	server := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
}

// The network of a real host: endpoints that answer, a proxy's authority that is not trusted, a firewall that drops every
// packet, no names, a stranger on the agent's port.
func TestNetworkChecks(t *testing.T) {
	t.Parallel()
	var names []string
	for _, d := range partition.Destinations(region) {
		if d.Probe != "" {
			names = append(names, d.Probe)
		}
	}
	authority := awsByTLS(t, names)
	h := lab.Start(t, lab.Host{Docker: true, Names: names})
	h.CopyIn("/usr/local/bin/anywhere", lab.Shared("anywhere"), 0o755)
	h.WriteFile("/root/authority.pem", authority, 0o644)
	trusting := []string{"SSL_CERT_FILE=/root/authority.pem"}
	before := h.Tree("/etc", "/root", "/var/lib", "/usr")

	c := preflight(t, h, trusting, "--region", region)
	for _, id := range []string{"network.dns", "network.endpoints", "clock.skew", "network.proxy", "network.ports",
		"network.iptables", "metadata.endpoint"} {
		if status, detail, remedy := c.find(t, id); status != "pass" {
			t.Errorf("%s: %s, %s (%s)", id, status, detail, remedy)
		}
	}
	t.Logf("the whole preflight with endpoints that answer: %d ms", c.DurationMs)
	c = preflight(t, h, nil, "--offline")
	t.Logf("the local preflight: %d ms", c.DurationMs)
	if c.RC != 0 {
		t.Errorf("the local preflight: %+v", c.Error)
	}

	c = preflight(t, h, nil, "--region", region)
	if status, detail, remedy := c.find(t, "network.endpoints"); status != "fail" ||
		!strings.Contains(detail, "issued by O=Lab Inspection") || !strings.Contains(remedy, "update-ca-certificates") {
		t.Errorf("an authority that is not trusted: %s, %s (%s)", status, detail, remedy)
	}

	h.MustShell("iptables -I OUTPUT -o host0 -j DROP")
	c = preflight(t, h, trusting, "--region", region)
	status, detail, remedy := c.find(t, "network.endpoints")
	if status != "fail" || !strings.Contains(detail, "no answer within 5s") ||
		!strings.Contains(remedy, "ecs-a-*."+region+".amazonaws.com:443") {
		t.Errorf("every packet dropped: %s, %s (%s)", status, detail, remedy)
	}
	if c.RC != 3 || c.Error == nil || c.Error.Code != "endpoint_unreachable" {
		t.Errorf("every packet dropped: exit status %d, %+v", c.RC, c.Error)
	}
	for _, one := range c.Result.Checks {
		if strings.Contains(one.Detail, "which all checks share") {
			t.Errorf("%s had no end of its own", one.ID)
		}
	}
	t.Logf("the whole preflight with every packet dropped: %d ms", c.DurationMs)
	h.MustShell("iptables -D OUTPUT -o host0 -j DROP")

	if diff := lab.Diff(before, h.Tree("/etc", "/root", "/var/lib", "/usr")); len(diff) > 0 {
		t.Errorf("looking changed the host: %v", diff)
	}

	h.MustShell("sed -i /amazonaws/d /etc/hosts")
	c = preflight(t, h, trusting, "--region", region)
	if c.RC != 3 || c.Error == nil || c.Error.Code != "name_unresolved" || !strings.Contains(c.Error.Message, "no name resolves") {
		t.Errorf("no names: exit status %d, %+v", c.RC, c.Error)
	}

	const squat = `use IO::Socket; $s = IO::Socket::INET->new(LocalPort => 51678, Listen => 1, ReuseAddr => 1) or die; sleep 600`
	stranger := h.Start(lab.Cmd{Args: []string{"perl", "-e", squat}})
	await(t, "the port is taken", func() bool { return h.Shell("grep -q :C9DE /proc/net/tcp").Exit == 0 })
	c = preflight(t, h, nil, "--only", "network.ports")
	if status, detail, _ := c.find(t, "network.ports"); status != "fail" || !strings.Contains(detail, "taken by perl (pid ") {
		t.Errorf("a stranger on the port: %s, %s", status, detail)
	}
	stranger.Signal("KILL")
	stranger.Wait()
}
