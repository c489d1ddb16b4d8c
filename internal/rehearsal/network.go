package rehearsal

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/partition"
)

// internet is all that the throw-away host can reach: AWS's names, which lead to the emulated AWS by TLS, and loopback.
// Nothing leaves the machine.
type internet struct {
	names  map[string]bool
	roots  *x509.CertPool
	server *http.Server
	at     string // where the server really listens
}

// gateway is the address of all names. It is the documentation's (RFC 5737), so that nobody real is meant.
var gateway = netip.MustParseAddr("192.0.2.1")

// newInternet serves AWS's names of the rehearsal's Region, with certificates of an authority that is made for it.
func newInternet(aws http.Handler, region string) (*internet, error) {
	n := &internet{names: map[string]bool{}}
	var names []string
	for _, d := range partition.Destinations(region) {
		if d.Probe != "" {
			names = append(names, d.Probe)
			n.names[d.Probe] = true
		}
	}
	certificate, roots, err := throwAwayCertificate(names)
	if err != nil {
		return nil, fmt.Errorf("making the emulated AWS's certificate: %w", err)
	}
	n.roots = roots
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("opening the emulated AWS's port: %w", err)
	}
	n.at = l.Addr().String()
	n.server = &http.Server{
		Handler: aws, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	go func() { _ = n.server.ServeTLS(l, "", "") }() // it ends with close
	return n, nil
}

// throwAwayCertificate is one for all names, and the authority that vouches for it; nobody keeps its key.
func throwAwayCertificate(names []string) (tls.Certificate, *x509.CertPool, error) {
	var none tls.Certificate
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, nil, err
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away authority of a rehearsal"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		return none, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: authority.NotBefore,
		NotAfter: authority.NotAfter, DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), key)
	if err != nil {
		return none, nil, err
	}
	parsed, err := x509.ParseCertificate(root)
	if err != nil {
		return none, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pool, nil
}

// network is the internet as the throw-away host has it.
func (n *internet) network() host.Network {
	return host.Network{
		Roots: n.roots,
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			if n.names[name] {
				return []netip.Addr{gateway}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == net.JoinHostPort(gateway.String(), "443") {
				address = n.at
			}
			if !strings.HasPrefix(address, "127.0.0.1:") { // the metadata address, too
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}
}

func (n *internet) close() { _ = n.server.Close() }
