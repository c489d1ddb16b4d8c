package emulator_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

func newAuthority(t *testing.T) *emulator.Authority {
	t.Helper()
	a, err := emulator.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// started is an emulator with TLS on a port of its own.
func started(t *testing.T, a *emulator.Authority) *emulator.Emulator {
	t.Helper()
	e := emulator.New(emulator.Options{Authority: a})
	e.AddCluster("demo")
	e.AddOperator(emulator.Key{ID: operatorID, Secret: secret.NewText(operatorSecret)})
	if err := e.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// trusting is a client that trusts an authority alone, and calls the server by a name.
func trusting(a *emulator.Authority, name string) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: name}, DisableKeepAlives: true,
	}}
}

func TestOnePortHasBothTLSAndPlainHTTP(t *testing.T) {
	a := newAuthority(t)
	e := started(t, a)
	address := strings.TrimPrefix(e.URL(), "http://")
	silent, err := net.Dial("tcp", address) // says nothing, and keeps nobody waiting
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, c := range []struct{ name, url, server string }{
		{"plain", "http://" + address, ""},
		{"the address that was dialled", "https://" + address, ""},
		{"a name of AWS's", "https://" + address, "ssmmessages.us-east-1.amazonaws.com"},
		{"that name again", "https://" + address, "ssmmessages.us-east-1.amazonaws.com"},
		{"localhost, asked for another name", "https://" + address, "localhost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, err := trusting(a, c.server).Get(c.url)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusNotFound || answer.Header.Get("X-Amzn-Requestid") == "" {
				t.Errorf("got %d %v", answer.StatusCode, answer.Header)
			}
		})
	}
	if _, err := trusting(newAuthority(t), "").Get("https://" + address); err == nil {
		t.Error("a client of another authority gets an answer")
	}
}

func TestAnAuthorityIsKept(t *testing.T) {
	a := newAuthority(t)
	again, err := emulator.ReadAuthority(a.PrivatePEM())
	if err != nil {
		t.Fatal(err)
	}
	e := started(t, again)
	answer, err := trusting(a, "").Get("https://" + strings.TrimPrefix(e.URL(), "http://"))
	if err != nil {
		t.Fatalf("yesterday's agents do not trust it: %v", err)
	}
	_ = answer.Body.Close()
	if strings.Contains(string(a.PEM()), "PRIVATE") {
		t.Error("what agents are to trust has the private key in it")
	}
	other := newAuthority(t)
	for name, data := range map[string][]byte{
		"nothing": nil, "no key": a.PEM(), "another's key": append(a.PEM(), other.PrivatePEM()[len(other.PEM()):]...),
		"no certificate": a.PrivatePEM()[len(a.PEM()):],
		"a broken one":   []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
	} {
		if _, err := emulator.ReadAuthority(data); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// The agents' endpoints, as the files that the emulator writes for them name them, lead to it: SSM Agent's message
// gateway over TLS, all else as it is written.
func TestTheAgentsFilesLeadToTheEmulator(t *testing.T) {
	a := newAuthority(t)
	e := started(t, a)
	files := map[string]string{}
	for _, f := range e.AgentFiles(e.URL()+"/", "demo") {
		files[f.Path] = f.Content
	}
	var ssm struct {
		Ssm, Mds, Mgs struct{ Endpoint string }
		Identity      struct{ ConsumptionOrder []string }
	}
	if err := json.Unmarshal([]byte(files["/etc/amazon/ssm/amazon-ssm-agent.json"]), &ssm); err != nil {
		t.Fatal(err)
	}
	if len(ssm.Identity.ConsumptionOrder) != 1 || !strings.HasPrefix(ssm.Mgs.Endpoint, "https://") {
		t.Errorf("SSM Agent's file is %+v", ssm)
	}
	settings := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(files["/etc/ecs/ecs.config"]), "\n") {
		name, value, _ := strings.Cut(line, "=")
		if strings.ContainsAny(line, `"'# `) {
			t.Errorf("ecs-init would take the line %q literally", line)
		}
		settings[name] = value
	}
	if settings["ECS_CLUSTER"] != "demo" || settings["ECS_EXTERNAL"] != "true" || settings["AWS_DEFAULT_REGION"] != "us-east-1" {
		t.Errorf("the ECS agent's settings are %v", settings)
	}
	for _, endpoint := range []string{ssm.Ssm.Endpoint, ssm.Mds.Endpoint, ssm.Mgs.Endpoint, settings["ECS_BACKEND_HOST"]} {
		answer, err := trusting(a, "").Get(endpoint)
		if err != nil {
			t.Errorf("%s: %v", endpoint, err)
			continue
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	if files["/usr/local/share/ca-certificates/anywhere-emulator.crt"] != string(a.PEM()) {
		t.Errorf("the authority is not among the files: %v", files)
	}
	flags := emulator.AgentFlags(e.URL() + "/")
	for _, want := range []string{"--endpoint-url " + e.URL() + " ", "ecs=" + e.URL() + ",", "ec2messages=" + e.URL() + ",",
		"ssmmessages=" + ssm.Mgs.Endpoint} {
		if !strings.Contains(flags, want) {
			t.Errorf("the flags %q lack %q", flags, want)
		}
	}
	if files := emulator.New(emulator.Options{}).AgentFiles("http://127.0.0.1:1", "demo"); len(files) != 2 {
		t.Errorf("an emulator without TLS has an authority: %v", files)
	}
}

// The ECS agent verifies a WebSocket's certificate against "host:port": only port 443 may have TLS.
func TestThePollEndpointIsOneThatTheAgentCanUse(t *testing.T) {
	for _, c := range []struct {
		name      string
		authority bool
		host      string
		tls       bool
		want      string
	}{
		{"plain", true, "10.0.0.1:4566", false, "http://10.0.0.1:4566/acs"},
		{"TLS on a port", true, "10.0.0.1:4566", true, "http://10.0.0.1:4566/acs"},
		{"TLS of somebody else's on a port", false, "10.0.0.1:4566", true, "https://10.0.0.1:4566/acs"},
		{"TLS on 443, as the agent writes it", true, "ecs.us-east-1.amazonaws.com", true, "https://ecs.us-east-1.amazonaws.com/acs"},
		{"TLS on 443, written out", true, "10.0.0.1:443", true, "https://10.0.0.1/acs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var authority *emulator.Authority
			if c.authority {
				authority = newAuthority(t)
			}
			w := newWire(t, emulator.Options{Authority: authority})
			arn, _, _ := w.enlist("")
			if got := w.poll(arn, c.host, c.tls); got != c.want {
				t.Errorf("the endpoint is %s, want %s", got, c.want)
			}
		})
	}
}

func TestASilentClientIsCutOff(t *testing.T) {
	e := emulator.New(emulator.Options{Authority: newAuthority(t)})
	if err := e.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.URL(), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("an emulator that was closed says something")
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		t.Error("an emulator that was closed keeps a connection open")
	}
}
