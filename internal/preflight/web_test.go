package preflight

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t testing.TB, organization string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{organization}, CommonName: "Root"},
		NotBefore: checkTime.AddDate(-20, 0, 0), NotAfter: checkTime.AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) issue(name string, from, to time.Time) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{name},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	return &tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: a.key}, err
}

// server is a TLS server on loopback. As its zero value says, all is well with it.
type server struct {
	by       *authority // nil is the web's
	name     string     // for which its certificates are; empty is the one asked for
	from, to time.Time  // zero is a year to either side
	date     time.Time  // of its answers; zero is the true time
	undated  bool
}

type dialer func(context.Context) (net.Conn, error)

// web is all that a machine can reach: every name leads to a server that is well, but for those that are named here.
type web struct {
	t     testing.TB
	roots *authority
	names map[string][]netip.Addr // else an address of the documentation's
	lost  map[string]error        // of looking up
	hosts map[string]dialer       // by name, or by "IP:port"
	good  dialer
	asked chan string // every name that is looked up, and every address that is dialed
}

func connect(m *machine) *web {
	w := &web{
		t: m.t, roots: newAuthority(m.t, "Test"), names: map[string][]netip.Addr{}, lost: map[string]error{},
		hosts: map[string]dialer{}, asked: make(chan string, 1000),
	}
	w.good = w.serve(server{})
	m.network.Roots = w.roots.pool()
	m.network.Lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
		w.asked <- name
		if err := w.lost[name]; err != nil {
			return nil, err
		}
		if err := w.lost["*"]; err != nil {
			return nil, err
		}
		if addrs := w.names[name]; addrs != nil {
			return addrs, nil
		}
		return []netip.Addr{fakeAddress(name)}, ctx.Err()
	}
	m.network.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		w.asked <- address
		if to := w.hosts[address]; to != nil {
			return to(ctx)
		}
		host, _, _ := net.SplitHostPort(address)
		for name, to := range w.hosts {
			if netip.MustParseAddr(host) == fakeAddress(name) {
				return to(ctx)
			}
		}
		if to := w.hosts["*"]; to != nil {
			return to(ctx)
		}
		if strings.HasPrefix(host, "2001:db8:") {
			return w.good(ctx)
		}
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	return w
}

// fakeAddress is one of the documentation's for each name, RFC 3849.
func fakeAddress(name string) netip.Addr {
	raw := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	for i, c := range []byte(name) {
		raw[4+i%12] = raw[4+i%12]*31 + c
	}
	return netip.AddrFrom16(raw)
}

func (w *web) listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	return l
}

func to(address string) dialer {
	return func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", address) }
}

// serve starts a server and returns the way there.
func (w *web) serve(s server) dialer {
	by := s.by
	if by == nil {
		by = w.roots
	}
	if s.from.IsZero() {
		s.from, s.to = checkTime.AddDate(-1, 0, 0), checkTime.AddDate(1, 0, 0)
	}
	if s.date.IsZero() {
		s.date = checkTime
	}
	l := tls.NewListener(w.listen(), &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name := s.name
		if name == "" {
			name = hello.ServerName
		}
		return by.issue(name, s.from, s.to)
	}})
	w.http(l, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header()["Date"] = nil
		if !s.undated {
			rw.Header().Set("Date", s.date.Format(http.TimeFormat))
		}
		rw.WriteHeader(http.StatusNotFound)
	})
	return to(l.Addr().String())
}

func (w *web) http(l net.Listener, handle http.HandlerFunc) {
	s := &http.Server{Handler: handle, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = s.Serve(l) }()
	w.t.Cleanup(func() { _ = s.Close() })
}

// plain starts a server without TLS.
func (w *web) plain(handle http.HandlerFunc) dialer {
	l := w.listen()
	w.http(l, handle)
	return to(l.Addr().String())
}

// raw starts a server that does this with each connection.
func (w *web) raw(do func(net.Conn)) dialer {
	l := w.listen()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go do(conn)
		}
	}()
	return to(l.Addr().String())
}

// slams ends a connection with a reset once the client has said something.
func slams(conn net.Conn) {
	_, _ = conn.Read(make([]byte, 1))
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// holds a connection and says nothing.
func holds(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func failing(err error) dialer {
	return func(context.Context) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err} }
}

// drops packets: nothing ever comes back.
func drops(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
}

// relay is an HTTP proxy: CONNECT by name, to what the web has there; or this refusal in its place.
func (w *web) relay(refusal string, login string) dialer {
	return w.raw(func(conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		w.asked <- "proxy " + req.Method + " " + req.RequestURI
		answer := refusal // of this connection: there are several at once
		if login != "" && req.Header.Get("Proxy-Authorization") != login {
			answer = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"
		}
		if answer != "" {
			_, _ = io.WriteString(conn, answer)
			return
		}
		far, err := w.good(context.Background())
		if err != nil {
			return
		}
		defer far.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(far, in) }()
		_, _ = io.Copy(conn, far)
	})
}

// everything that was asked, so far.
func (w *web) log() string {
	var all []string
	for {
		select {
		case one := <-w.asked:
			all = append(all, one)
		default:
			return strings.Join(all, "\n")
		}
	}
}

// overTLS puts TLS in front of a server.
func (w *web) overTLS(behind dialer) dialer {
	l := tls.NewListener(w.listen(), &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return w.roots.issue(hello.ServerName, checkTime.AddDate(-1, 0, 0), checkTime.AddDate(1, 0, 0))
	}})
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				far, err := behind(context.Background())
				if err != nil {
					return
				}
				defer far.Close()
				go func() { _, _ = io.Copy(far, near) }()
				_, _ = io.Copy(near, far)
			}()
		}
	}()
	return to(l.Addr().String())
}
