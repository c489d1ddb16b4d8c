package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// middlebox is a proxy as sites have them: it wants a name and a password, passes http requests on, opens tunnels, and opens
// the connections to AWS's own names, with certificates of its own authority.
type middlebox struct {
	url       string // without credentials
	authority []byte

	login string // Basic …; empty lets everybody through
	root  *x509.Certificate
	key   *ecdsa.PrivateKey
	plain http.Handler
	aws   http.Handler // answers on the connections that it has opened

	mu    sync.Mutex
	asked map[string]int // GET, POST, CONNECT, or "refused"
}

func newMiddlebox(t *testing.T, login string) *middlebox {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	m := &middlebox{key: key, asked: map[string]int{}, root: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Middlebox Authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
	}}
	der, err := x509.CreateCertificate(rand.Reader, m.root, m.root, key.Public(), key)
	must(t, err)
	m.authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if login != "" {
		m.login = "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
	}
	m.aws = http.NotFoundHandler()
	m.plain = &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, ErrorLog: log.New(io.Discard, "", 0)}
	l, err := net.Listen("tcp", net.JoinHostPort(lab.Address, "0"))
	must(t, err)
	m.url = "http://" + l.Addr().String()
	server := &http.Server{Handler: m, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return m
}

func (m *middlebox) count(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked[what]++
}

func (m *middlebox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.login != "" && r.Header.Get("Proxy-Authorization") != m.login {
		m.count("refused")
		w.Header().Set("Proxy-Authenticate", `Basic realm="site"`)
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	m.count(r.Method)
	if r.Method != http.MethodConnect {
		m.plain.ServeHTTP(w, r)
		return
	}
	near, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	name, _, _ := net.SplitHostPort(r.Host)
	if strings.HasSuffix(name, ".amazonaws.com") {
		m.open(near, name)
		return
	}
	far, err := net.DialTimeout("tcp", r.Host, 5*time.Second)
	if err != nil {
		_, _ = io.WriteString(near, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer far.Close()
	_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
	_, _ = io.Copy(near, far)
}

// open answers in AWS's place.
func (m *middlebox) open(conn net.Conn, name string) {
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: m.root.NotBefore, NotAfter: m.root.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, m.root, m.key.Public(), m.key)
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: m.key}}})
	server := &http.Server{Handler: m.aws, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan struct{})
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(ended)
		}
	}
	_ = server.Serve(&single{conn: secure, ended: ended})
}

// single is a listener of one connection.
type single struct {
	conn  net.Conn
	ended chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if conn := s.conn; conn != nil {
		s.conn = nil
		return conn, nil
	}
	<-s.ended
	return nil, io.EOF
}
func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.TCPAddr{} }

// On a host whose firewall lets nothing out but to a proxy, which wants a password and opens TLS, one command registers it:
// itself, both agents and Docker go through, and the password is where it must be and nowhere else. Another proxy converges.
// Deregistered, the host is as it was.
func TestBehindAProxy(t *testing.T) {
	t.Parallel()
	const password = "c4n4ry%2Fp4ss"
	box, open := newMiddlebox(t, "squid:c4n4ry/p4ss"), newMiddlebox(t, "")
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	h.WriteFile("/root/authority.pem", box.authority, 0o644)
	before := h.Tree("/etc", "/usr/local/share")
	h.MustShell("iptables -A OUTPUT -o host0 -d " + lab.Address + " -p tcp --dport " + port(box.url) + " -j ACCEPT; " +
		"iptables -A OUTPUT -o host0 -d " + lab.Address + " -p tcp --dport " + port(open.url) + " -j ACCEPT; " +
		"iptables -A OUTPUT -o host0 -j REJECT")
	token := s.token(1)
	if d := s.read(h.Run(s.register(token))); d.RC != 3 || d.Changed {
		t.Fatalf("without a proxy: %+v", d)
	}

	through := s.register(token, "--ca-file", "/root/authority.pem")
	through.Env = []string{"ANYWHERE_HTTPS_PROXY=" + strings.Replace(box.url, "//", "//squid:"+password+"@", 1)}
	first := s.mustRegister(h, through)
	if i := slices.IndexFunc(first.Warnings, func(w string) bool { return strings.Contains(w, "Docker runs on") }); i >= 0 {
		t.Errorf("Docker runs no container, and is not restarted: %s", first.Warnings[i])
	}
	box.mu.Lock()
	t.Logf("the proxy was asked for %v", box.asked)
	if box.asked["POST"] < 5 || box.asked["GET"] == 0 || box.asked["refused"] > 0 {
		t.Errorf("the proxy was asked for %v", box.asked)
	}
	box.mu.Unlock()
	for _, process := range []string{"dockerd", "amazon-ssm-agent"} {
		if got := h.MustShell("tr '\\0' '\\n' < /proc/$(pidof -s " + process + ")/environ"); !strings.Contains(got, "\nHTTPS_PROXY=http://squid:") ||
			!strings.Contains(got, "169.254.170.2") {
			t.Errorf("%s runs with\n%s", process, got)
		}
	}
	through.Stdin, through.Args = "", s.register("", "--ca-file", "/root/authority.pem").Args
	if again := s.mustRegister(h, through); again.Changed || again.Result != first.Result {
		t.Errorf("once more: %+v", again)
	}
	holds := h.MustShell("grep -rlI c4n4ry /etc /root /var/lib/anywhere /var/lib/amazon /var/log | sort; " +
		"systemctl show docker amazon-ssm-agent ecs | grep -c c4n4ry || true")
	if holds != "/etc/anywhere/proxy.env\n/etc/ecs/ecs.config\n0" {
		t.Errorf("the password is in\n%s", holds)
	}

	c := preflight(t, h, nil, "--region", region) // of its own accord through the proxy, trusting its authority
	for _, id := range []string{"network.proxy", "network.endpoints"} {
		if status, detail, remedy := c.find(t, id); status != "pass" {
			t.Errorf("%s: %s, %s (%s)", id, status, detail, remedy)
		}
	}

	task := longTask(h)
	other := s.mustRegister(h, s.register("", "--https-proxy", open.url))
	if !other.Changed || other.Result != first.Result || !slices.ContainsFunc(other.Warnings, func(w string) bool {
		return strings.Contains(w, "Docker runs on") && strings.Contains(w, "ecs-web-1-web")
	}) {
		t.Errorf("another proxy: %+v", other)
	}
	taskRuns(t, h, task)
	if d := s.mustRegister(h, s.register("", "--https-proxy", open.url, "--accept-risk", "docker-restart")); d.Result != first.Result {
		t.Errorf("with the risk: %+v", d)
	}
	if got := h.MustShell("tr '\\0' '\\n' < /proc/$(pidof -s dockerd)/environ; ls /etc/anywhere/proxy.env 2>&1 || true"); !strings.Contains(got, "\nHTTPS_PROXY="+open.url) ||
		strings.Contains(got, "squid") || !strings.Contains(got, "No such file") {
		t.Errorf("Docker runs with\n%s", got)
	}
	await(t, "the ECS agent goes through the other proxy", func() bool {
		open.mu.Lock()
		defer open.mu.Unlock()
		return open.asked["POST"] > 0
	})

	res := h.Run(lab.Cmd{Args: []string{"anywhere", "deregister", "--local-only", "--yes", "-o", "json"}})
	if res.Exit != 0 {
		t.Fatalf("%v", res)
	}
	var left []string
	for _, line := range lab.Diff(before, h.Tree("/etc", "/usr/local/share")) {
		if strings.Contains(line, "anywhere") || strings.Contains(line, "proxy") || strings.Contains(line, "ssl") {
			left = append(left, line)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind, or changed: %q", left)
	}
}

func port(url string) string { return url[strings.LastIndex(url, ":")+1:] }
