package rehearsal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

const (
	proxyEnv     = "etc/anywhere/proxy.env"
	dockerDropIn = "etc/systemd/system/docker.service.d/zz-anywhere-proxy.conf"
	ssmDropIn    = "etc/systemd/system/amazon-ssm-agent.service.d/zz-anywhere-proxy.conf"
	ecsDropIn    = "etc/systemd/system/ecs.service.d/zz-anywhere-proxy.conf"
	bypass       = "localhost,127.0.0.1,::1,169.254.169.254,169.254.170.2,/var/run/docker.sock"
)

// One setting reaches everybody; a second run finds it so; another one converges; all of it goes with the registration.
func TestOneProxyForAll(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	const plainURL = "http://proxy.example.com:3128"
	first := s.run(t, plain, "--https-proxy", plainURL, "--no-proxy", "10.0.0.0/8")
	if first.RC != 0 || !first.Changed || first.Result.ContainerInstanceARN != before.Result.ContainerInstanceARN {
		t.Fatalf("%+v", first)
	}
	if config := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(config, "\nHTTP_PROXY="+plainURL+"\nHTTPS_PROXY="+plainURL+
		"\nNO_PROXY=10.0.0.0/8,"+bypass+"\n") {
		t.Errorf("the ECS agent is told:\n%s", config)
	}
	for _, name := range []string{dockerDropIn, ssmDropIn, ecsDropIn} {
		if text := s.read(t, name); !strings.Contains(text, `Environment="HTTPS_PROXY=`+plainURL+`"`) ||
			!strings.Contains(text, `Environment="no_proxy=10.0.0.0/8,`+bypass+`"`) {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	if _, err := os.Stat(filepath.Join(s.machine.root, proxyEnv)); err == nil {
		t.Errorf("%s is there without a secret to hold", proxyEnv)
	}
	for _, flags := range [][]string{{"--https-proxy", plainURL, "--no-proxy", "10.0.0.0/8"}, nil} {
		if d := s.run(t, plain, flags...); d.RC != 0 || d.Changed {
			t.Errorf("once more, with %q: %+v", flags, d)
		}
	}
	if d := s.run(t, plain, "--http-proxy", "http://other.example.com:8080"); d.RC != 0 || !d.Changed {
		t.Errorf("another proxy: %+v", d)
	}
	if text := s.read(t, dockerDropIn) + s.read(t, "etc/ecs/ecs.config"); strings.Contains(text, plainURL) ||
		strings.Contains(text, "10.0.0.0") {
		t.Errorf("the old proxy is still there:\n%s", text)
	}
	if gone := s.leave(t, true, "--yes"); gone.RC != 0 {
		t.Fatalf("%+v", gone)
	}
	for _, name := range []string{dockerDropIn, ssmDropIn, ecsDropIn, "etc/systemd/system/docker.service.d"} {
		if _, err := os.Lstat(filepath.Join(s.machine.root, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// secretive is a disk that is looked at each time that it is written to, and not at the end only.
type secretive struct {
	host.Disk
	t *testing.T
}

func (d secretive) WriteFile(name string, data io.Reader, mode fs.FileMode, owner host.Owner) error {
	text, err := io.ReadAll(data)
	if bytes.Contains(text, []byte("c4n4ry")) && mode.Perm()&0o077 != 0 {
		d.t.Errorf("for a while everybody can read the password in %s: its mode is %v", name, mode)
	}
	return errors.Join(err, d.Disk.WriteFile(name, bytes.NewReader(text), mode, owner))
}

// A password of a proxy is in two files that only root can read, and nowhere else: no log, journal, record, document, line
// on the terminal.
func TestAProxysPassword(t *testing.T) {
	t.Parallel()
	const password = "c4n4ry-p4ss%40word"
	env, _, said := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.anotherToken()
	s.write(t, "etc/ecs/ecs.config", "ECS_LOGLEVEL=info\n") // somebody's, with their mode
	if err := os.Chmod(filepath.Join(s.machine.root, "etc/ecs/ecs.config"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.around = func(h host.Host) host.Host {
		h.Disk = secretive{h.Disk, t}
		return h
	}
	flag := []string{"--https-proxy", "http://squid:" + password + "@proxy.example.com:3128", "--verbose"}
	var told []byte
	for i, l := range []line{withToken, plain, {args: []string{"preflight", "--region", region}}, {args: []string{"doctor"}}, {args: []string{"status"}}} {
		flags := flag
		if i > 1 {
			flags = nil
		}
		l.extra = true
		c, err := s.play(t.Context(), l, cli.RehearseRequest{Args: flags})
		if err != nil && i < 2 {
			t.Fatalf("%v: %s", err, c.Document)
		}
		var d register
		if err := json.Unmarshal(c.Document, &d); err != nil || i == 1 && d.Changed {
			t.Errorf("%s: %v: %s", c.Line, err, c.Document)
		}
		told = append(told, c.Document...)
	}
	told = append(told, said.Bytes()...)
	secrets := []string{password, "c4n4ry-p4ss@word", "c4n4ry"}
	for _, secret := range secrets {
		if at := bytes.Index(told, []byte(secret)); at >= 0 {
			t.Errorf("it is told: …%s…", told[max(0, at-200):min(len(told), at+60)])
		}
	}
	if !strings.Contains(string(told), "command line, where every user of this host can read it") {
		t.Error("nobody warns of a password on the command line")
	}
	var holds []string
	err = filepath.WalkDir(s.machine.root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(at)
		if err != nil || !bytes.Contains(text, []byte("c4n4ry")) {
			return err
		}
		name, _ := filepath.Rel(s.machine.root, at)
		holds = append(holds, name)
		if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, %v", name, info.Mode(), err)
		}
		return nil
	})
	if want := []string{proxyEnv, "etc/ecs/ecs.config"}; err != nil || !slices.Equal(holds, want) {
		t.Errorf("it is in %q, %v; want %q", holds, err, want)
	}
	if text := s.read(t, dockerDropIn); !strings.Contains(text, "EnvironmentFile=-/etc/anywhere/proxy.env\n") {
		t.Errorf("Docker is told:\n%s", text)
	}
	if gone := s.leave(t, true, "--yes"); gone.RC != 0 {
		t.Fatalf("%+v", gone)
	}
	if text := s.read(t, "etc/ecs/ecs.config"); text != "ECS_LOGLEVEL=info\n" {
		t.Errorf("what was somebody's is now:\n%s", text)
	}
	if _, err := os.Lstat(filepath.Join(s.machine.root, proxyEnv)); err == nil {
		t.Errorf("%s is left", proxyEnv)
	}
}

// authority is one that nobody ever used, in PEM form.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Inspection"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

const (
	bundle     = "etc/ssl/certs/ca-certificates.crt"
	execBundle = "var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem"
)

// --ca-file reaches the host's store and, of it, ECS Exec; on a host that is registered too; and goes again, with the
// registration, and with a registration that fails.
func TestAuthoritiesAreTrusted(t *testing.T) {
	t.Parallel()
	one := authority(t)
	ours := func(s *stage) []string {
		found, _ := filepath.Glob(filepath.Join(s.machine.root, "usr/local/share/ca-certificates/anywhere-*.crt"))
		return found
	}
	check := func(t *testing.T, s *stage, there bool) {
		t.Helper()
		if has := strings.Contains(s.read(t, bundle), one); has != there || len(ours(s)) > 0 != there {
			t.Errorf("the host trusts it: %v, by %q; want %v", has, ours(s), there)
		}
	}
	t.Run("on a registered host", func(t *testing.T) {
		t.Parallel()
		s, before := registered(t)
		s.write(t, "root/ca.pem", one)
		s.keeps(t, before, plain, true, "--ca-file", "/root/ca.pem")
		check(t, s, true)
		if !strings.Contains(s.read(t, execBundle), one) {
			t.Error("ECS Exec's programs do not know it")
		}
		if d := s.run(t, plain); d.RC != 0 || d.Changed {
			t.Errorf("without the flag: %+v", d)
		}
		if d := s.leave(t, true); d.RC != 0 {
			t.Fatalf("%+v", d)
		}
		check(t, s, false)
	})
	t.Run("with a registration that fails", func(t *testing.T) {
		t.Parallel()
		s := empty(t)
		s.anotherToken()
		s.write(t, "root/ca.pem", one)
		before := s.everything(t)
		if err := s.aws.Fault("activation-expired"); err != nil {
			t.Fatal(err)
		}
		d := s.run(t, withToken, "--ca-file", "/root/ca.pem", "--https-proxy", "http://proxy.example.com:3128")
		if d.RC != 7 || !d.Error.RolledBack {
			t.Fatalf("%+v", d)
		}
		check(t, s, false)
		if left := differs(before, s.everything(t)); len(left) > 0 {
			t.Errorf("it leaves %q", left)
		}
	})
}

// A rehearsal plays with the caller's way out, and goes none of it: the proxy is nowhere, and the file is on the caller's
// machine, not on the throw-away host.
func TestTheWayOutIsRehearsed(t *testing.T) {
	t.Parallel()
	one := authority(t)
	env, out, errs := world()
	env.ReadFile = func(name string) ([]byte, error) {
		if name != "ca.pem" {
			return nil, fs.ErrNotExist
		}
		return []byte(one), nil
	}
	env.Rehearse = func(ctx context.Context, req cli.RehearseRequest) (lifecycle.Report, error) {
		return Run(ctx, env, req)
	}
	status := cli.Main(t.Context(), env, []string{
		"rehearse", "register", "--ca-file", "ca.pem", "--ip-mode", "ipv4", "--http-proxy", "http://proxy.invalid:1", "--https-proxy", "http://127.0.0.1:1",
		"--no-proxy", "10.0.0.0/8", "-o", "json",
	})
	if status != 0 {
		t.Fatalf("exit status %d: %s%s", status, out, errs)
	}
	for _, file := range []string{"/usr/local/share/ca-certificates/anywhere-", "/" + dockerDropIn, "/" + ssmDropIn} {
		if !strings.Contains(out.String(), file) {
			t.Errorf("%s is not among what changes: %s", file, out)
		}
	}
}

// --ip-mode is told to both agents, whatever the host was before.
func TestIPModeReachesBothAgents(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	const ssm = "etc/amazon/ssm/amazon-ssm-agent.json"
	if strings.Contains(s.read(t, ssm), "UseDualStackEndpoint") {
		t.Fatal("this machine has IPv6 only: the test needs one that has IPv4")
	}
	s.keeps(t, before, plain, true, "--ip-mode", "ipv6")
	if text := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(text, "\nECS_INSTANCE_IP_COMPATIBILITY=ipv6\n") {
		t.Errorf("the ECS agent is told:\n%s", text)
	}
	if text := s.read(t, ssm); !strings.Contains(text, `"UseDualStackEndpoint": true`) || !strings.Contains(text, `"OnPrem"`) {
		t.Errorf("the SSM agent is told:\n%s", text)
	}
	if d := s.run(t, plain); d.RC != 0 || d.Changed {
		t.Errorf("without the flag: %+v", d)
	}
	s.keeps(t, before, plain, true, "--ip-mode", "ipv4")
	if text := s.read(t, ssm) + s.read(t, "etc/ecs/ecs.config"); !strings.Contains(text, `"UseDualStackEndpoint": false`) ||
		!strings.Contains(text, "ECS_INSTANCE_IP_COMPATIBILITY=ipv4\n") {
		t.Errorf("the agents are told:\n%s", text)
	}
}
