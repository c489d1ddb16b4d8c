package preflight

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// networkTime bounds all that goes out to the network together, so that a firewall that drops every packet costs an
// operator five seconds and not a minute.
const networkTime = 5 * time.Second

// trouble is how a target cannot be used.
type trouble string

const (
	fine        trouble = ""
	noName      trouble = "dns"         // network.dns tells why
	silent      trouble = "no answer"   // packets are dropped
	refused     trouble = "refused"     // nothing listens, or a firewall says so
	unreachable trouble = "unreachable" // no route, or a router says so
	forbidden   trouble = "forbidden"   // this host's own firewall
	cut         trouble = "reset"       // connected, and cut off
	untrusted   trouble = "untrusted"   // certificate of an unknown authority
	expired     trouble = "expired"     // certificate, at the true time
	wrongClock  trouble = "clock"       // certificate is valid, but not at this host's time
	wrongName   trouble = "wrong name"  // certificate of another server
	notTLS      trouble = "not TLS"     // something else answers
	proxyFails  trouble = "proxy"       // the proxy cannot be used, or does not let it through
	otherwise   trouble = "failed"      // see the error
)

// row is what became of a target.
type row struct {
	target
	proxy   *url.URL
	addrs   []netip.Addr // of the target, or of the proxy's name
	address netip.Addr   // that answered
	trouble trouble
	err     error

	tls     uint16            // version
	cert    *x509.Certificate // of the server
	chain   []*x509.Certificate
	status  int           // HTTP; 0 is no answer
	offset  time.Duration // of this host's clock against the server's: positive is ahead
	dated   bool          // offset is known
	trusted bool          // by TLS: the date is the server's own
	took    time.Duration
}

// lookedUp reports whether the name of the target itself is looked up on this host.
func (r row) lookedUp() bool { return r.proxy == nil && r.isName() }

// probe is all rows, in the order of the targets.
type probe struct {
	rows []row
	err  error // the proxies could not be read
}

// probeOnce tries all targets when the first check wants to know, for all of them. It ends with the bound even if
// something that it calls does not.
func probeOnce(ctx context.Context, s Subject) func() probe {
	var (
		once sync.Once
		done = make(chan struct{})
		p    probe
	)
	return func() probe {
		once.Do(func() {
			go func() {
				defer close(done)
				p = tryAll(ctx, s, s.networkTime)
			}()
		})
		<-done
		return p
	}
}

func tryAll(ctx context.Context, s Subject, bound time.Duration) probe {
	all, err := readProxies(ctx, s)
	if err != nil {
		return probe{err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	// What honours its context ends a little earlier, and can still say how far it came.
	inner, stop := context.WithTimeout(ctx, bound-bound/20)
	defer stop()
	type numbered struct {
		i int
		r row
	}
	want := targets(s)
	ended := make(chan numbered, len(want))
	p := probe{rows: make([]row, len(want))}
	for i, t := range want {
		p.rows[i] = row{target: t, trouble: silent, err: context.DeadlineExceeded, took: bound}
		go func() { ended <- numbered{i, try(inner, s.Host, all, t)} }()
	}
	for range want {
		select {
		case n := <-ended:
			p.rows[n.i] = n.r
		case <-ctx.Done():
			return p
		}
	}
	return p
}

// try reaches one target: name, connection, TLS, one request.
func try(ctx context.Context, h host.Reader, all proxies, t target) (r row) {
	begun := time.Now()
	defer func() { r.took = time.Since(begun) }()
	r.target = t
	proxy, err := all.of(t.who, t.scheme, t.host, t.port)
	if err != nil {
		r.trouble, r.err = proxyFails, err
		return r
	}
	r.proxy = proxy
	r.reach(ctx, h, time.Time{})
	if r.trouble == expired {
		r.again(ctx, h)
	}
	return r
}

// again tries a target whose certificate is not valid at this host's time, at a time when it is: the date that the
// server gives is vouched for then, and says which of the two is wrong.
func (r *row) again(ctx context.Context, h host.Reader) {
	then := row{target: r.target, proxy: r.proxy}
	then.reach(ctx, h, within(r.chain))
	if then.trouble != fine { // untrusted whatever the time, or gone
		if then.trouble == untrusted || then.trouble == wrongName {
			r.trouble, r.err = then.trouble, then.err
		}
		return
	}
	r.tls, r.status, r.offset, r.dated, r.trusted = then.tls, then.status, then.offset, then.dated, then.trusted
	if now := h.Now().Add(-r.offset); r.dated && now.After(r.cert.NotBefore) && now.Before(r.cert.NotAfter) {
		r.trouble = wrongClock
	}
}

// within is a moment at which all certificates of a chain are valid, as far as there is one.
func within(chain []*x509.Certificate) time.Time {
	from, to := chain[0].NotBefore, chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotBefore.After(from) && c.NotBefore.Before(to) {
			from = c.NotBefore
		}
		if c.NotAfter.Before(to) && c.NotAfter.After(from) {
			to = c.NotAfter
		}
	}
	return from.Add(to.Sub(from) / 2)
}

// reach fills in the row. at is the time at which certificates must be valid; zero is the host's.
func (r *row) reach(ctx context.Context, h host.Reader, at time.Time) {
	conn := r.connect(ctx, h)
	if conn == nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if r.proxy != nil && r.scheme == "https" {
		if conn = r.throughProxy(ctx, h, conn); conn == nil {
			return
		}
	}
	if r.scheme == "https" {
		if at.IsZero() {
			at = h.Now()
		}
		secure := tls.Client(conn, &tls.Config{
			ServerName: r.host, RootCAs: h.Network.Roots, Time: func() time.Time { return at }, MinVersion: tls.VersionTLS12,
		})
		if err := secure.HandshakeContext(ctx); err != nil {
			r.fails(ctx, err)
			return
		}
		state := secure.ConnectionState()
		r.tls, r.chain, r.cert, r.trusted = state.Version, state.PeerCertificates, state.PeerCertificates[0], true
		conn = secure
	}
	r.ask(ctx, h, conn)
}

// connect resolves what has to be resolved and connects: to the target, or to the proxy.
func (r *row) connect(ctx context.Context, h host.Reader) net.Conn {
	name, port := r.host, r.port
	if r.proxy != nil {
		name, port = r.proxy.Hostname(), r.proxy.Port()
		if port == "" {
			port = map[bool]string{true: "443", false: "80"}[r.proxy.Scheme == "https"]
		}
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		r.addrs = []netip.Addr{addr}
	} else if r.addrs, err = h.Network.Lookup(ctx, name); err != nil || !usable(r.addrs) {
		if err == nil {
			err = fmt.Errorf("the resolver says %s", list(r.addrs))
		}
		r.trouble, r.err = noName, err
		if r.proxy != nil {
			r.trouble, r.err = proxyFails, fmt.Errorf("the name of the proxy does not resolve: %w", err)
		}
		return nil
	}
	conn, addr, err := race(ctx, h.Network.Dial, r.addrs, port)
	if err != nil {
		r.fails(ctx, err)
		if r.proxy != nil {
			r.trouble, r.err = proxyFails, fmt.Errorf("connecting to it: %w", err)
		}
		return nil
	}
	r.address = addr
	return conn
}

// usable reports whether a name led anywhere: a filter answers with 0.0.0.0, or with nothing.
func usable(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if a.IsValid() && !a.IsUnspecified() {
			return true
		}
	}
	return false
}

func list(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "that it has no address"
	}
	var words []string
	for _, a := range addrs {
		words = append(words, a.Unmap().String())
	}
	return strings.Join(words, ", ")
}

// race connects to the first address of each family at once: one of them may lead nowhere. The error is that of IPv4
// where both fail.
func race(
	ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), addrs []netip.Addr, port string,
) (net.Conn, netip.Addr, error) {
	var first []netip.Addr // IPv4 in front
	for _, v4 := range []bool{true, false} {
		for _, a := range addrs {
			if a = a.Unmap(); a.Is4() == v4 && a.IsValid() && !a.IsUnspecified() {
				first = append(first, a)
				break
			}
		}
	}
	type end struct {
		conn net.Conn
		addr netip.Addr
		err  error
	}
	ends := make([]chan end, len(first))
	each := make(chan end, len(first))
	for i, a := range first {
		ends[i] = make(chan end, 1)
		go func() {
			conn, err := dial(ctx, "tcp", net.JoinHostPort(a.String(), port))
			ends[i] <- end{err: err}
			each <- end{conn, a, err}
		}()
	}
	for n := range first {
		if e := <-each; e.err == nil {
			go func() { // whoever comes second is not needed
				for range len(first) - n - 1 {
					if late := <-each; late.conn != nil {
						_ = late.conn.Close()
					}
				}
			}()
			return e.conn, e.addr, nil
		}
	}
	return nil, netip.Addr{}, (<-ends[0]).err
}

// throughProxy opens the tunnel to the target; nil after a failure.
func (r *row) throughProxy(ctx context.Context, h host.Reader, conn net.Conn) net.Conn {
	switch r.proxy.Scheme {
	case "http":
	case "https":
		secure := tls.Client(conn, &tls.Config{
			ServerName: r.proxy.Hostname(), RootCAs: h.Network.Roots, Time: h.Now, MinVersion: tls.VersionTLS12,
		})
		if err := secure.HandshakeContext(ctx); err != nil {
			r.trouble, r.err = proxyFails, fmt.Errorf("TLS with it, for its address begins with https://: %w", err)
			return nil
		}
		conn = secure
	default:
		r.trouble, r.err = proxyFails, fmt.Errorf("the agents do not use proxies of the kind %s://", r.proxy.Scheme)
		return nil
	}
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: r.name()}, Host: r.name(),
		Header: http.Header{"User-Agent": {agentName}},
	}
	introduce(req, r.proxy)
	answer, err := exchange(conn, req)
	if err != nil {
		r.trouble, r.err = proxyFails, fmt.Errorf("asking it for the connection: %w", err)
		return nil
	}
	if answer.status/100 != 2 {
		r.status = answer.status
		r.trouble, r.err = proxyFails, fmt.Errorf("it answered %q", answer.line)
		return nil
	}
	return conn
}

// introduce gives a proxy the name and the password of its address.
func introduce(req *http.Request, proxy *url.URL) {
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		credentials := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+credentials)
	}
}

// agentName is how the request introduces itself in other people's logs.
const agentName = "anywhere-preflight"

// ask makes one request, for the date in the answer. That there is none in time is no trouble: the connection stood.
func (r *row) ask(ctx context.Context, h host.Reader, conn net.Conn) {
	req := (&http.Request{
		Method: http.MethodGet, URL: &url.URL{Scheme: r.scheme, Host: r.host, Path: "/"}, Host: r.host,
		Header: http.Header{"User-Agent": {agentName}, "Connection": {"close"}},
	}).WithContext(ctx)
	if r.port != map[string]string{"http": "80", "https": "443"}[r.scheme] {
		req.Host, req.URL.Host = r.name(), r.name()
	}
	if r.proxy != nil && r.scheme == "http" { // asked for in whole, as proxies want it
		req.URL.Opaque = "http://" + req.Host + "/"
		introduce(req, r.proxy)
	}
	sent := h.Now()
	answer, err := exchange(conn, req)
	if err != nil {
		if r.scheme == "http" { // no handshake has shown that a server is there
			r.fails(ctx, err)
		}
		if r.trouble == silent {
			r.trouble = fine
		}
		return
	}
	r.status = answer.status
	if r.proxy != nil && r.scheme == "http" && answer.status == http.StatusProxyAuthRequired { // the proxy's own answer
		r.trouble, r.err = proxyFails, fmt.Errorf("it answered %q", answer.line)
		return
	}
	if date, err := http.ParseTime(answer.header.Get("Date")); err == nil {
		half := h.Now().Sub(sent) / 2
		// The date has whole seconds, cut off: on average it is half a second early.
		r.offset, r.dated = sent.Add(half).Sub(date.Add(500*time.Millisecond)), true
	}
}

// head is the beginning of an answer. Its body is not read: the connection is not used again.
type head struct {
	status int
	line   string // like HTTP/1.1 404 Not Found
	header textproto.MIMEHeader
}

// maxHead is more than any server's headers have, and bounds what a stranger can make us read.
const maxHead = 64 << 10

// exchange sends a request and reads the head of the answer.
func exchange(conn net.Conn, req *http.Request) (head, error) {
	if err := req.Write(conn); err != nil {
		return head{}, err
	}
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxHead)))
	line, err := r.ReadLine()
	if err != nil {
		return head{}, err
	}
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(version, "HTTP/") {
		return head{}, fmt.Errorf("%w: it begins with %.40q", errNotHTTP, line)
	}
	header, err := r.ReadMIMEHeader()
	if err != nil && !errors.Is(err, io.EOF) { // some devices end the head without its empty line
		return head{}, err
	}
	return head{status, line, header}, nil
}

var errNotHTTP = errors.New("the answer is not HTTP")

// fails says what an error of connecting, of TLS or of the request means.
func (r *row) fails(ctx context.Context, err error) {
	r.err = err
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		name         x509.HostnameError
		invalid      x509.CertificateInvalidError
		header       tls.RecordHeaderError
	)
	if errors.As(err, &verification) && len(verification.UnverifiedCertificates) > 0 {
		r.chain = verification.UnverifiedCertificates
		r.cert = r.chain[0]
	}
	switch {
	case errors.As(err, &name):
		r.trouble = wrongName
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && r.cert != nil:
		r.trouble = expired
	case errors.As(err, &authority), errors.As(err, &invalid), errors.As(err, &verification):
		r.trouble = untrusted
	case errors.As(err, &header):
		r.trouble = notTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		r.trouble = refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		r.trouble = unreachable
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		r.trouble = forbidden
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF):
		r.trouble = cut
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, syscall.ETIMEDOUT):
		r.trouble = silent
	default:
		r.trouble = otherwise
	}
}

// issuer is who signed the server's certificate, and so who is at the other end when it is not AWS.
func (r row) issuer() string {
	if r.cert == nil {
		return ""
	}
	return r.cert.Issuer.String()
}

// facts are the row as evidence.
func (r row) facts() map[string]any {
	port, _ := strconv.Atoi(r.port)
	f := map[string]any{
		"service": r.service, "name": r.host, "port": port, "required": r.required, "why": r.why, "ok": r.trouble == fine,
		"failed": string(r.trouble), "durationMs": r.took.Milliseconds(),
	}
	if r.address.IsValid() {
		f["address"] = r.address.String()
	} else if len(r.addrs) > 0 {
		f["address"] = list(r.addrs)
	}
	if r.proxy != nil {
		f["proxy"] = shownProxy(r.proxy.String())
	} else if kind := kindOf(r.addrs); kind != "" {
		f["network"] = kind
	}
	if r.tls != 0 {
		f["tls"] = tls.VersionName(r.tls)
	}
	if r.cert != nil {
		f["issuer"], f["validUntil"] = r.issuer(), r.cert.NotAfter.UTC().Format(time.RFC3339)
	}
	if r.status != 0 {
		f["httpStatus"] = r.status
	}
	if r.dated {
		f["clockOffsetMs"] = r.offset.Milliseconds()
	}
	if r.err != nil {
		f["error"] = r.err.Error()
	}
	return f
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // carriers' NAT, RFC 6598

// kindOf tells addresses of a private network, where a VPC endpoint or an override in DNS leads, from public ones.
func kindOf(addrs []netip.Addr) string {
	kinds := map[string]bool{}
	for _, a := range addrs {
		a = a.Unmap()
		if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || shared.Contains(a) {
			kinds["private"] = true
		} else {
			kinds["public"] = true
		}
	}
	switch {
	case kinds["private"] && kinds["public"]:
		return "private and public"
	case kinds["private"]:
		return "private"
	case kinds["public"]:
		return "public"
	}
	return ""
}
