package preflight

import (
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

const always = "localhost,127.0.0.1,::1,169.254.169.254,169.254.170.2,/var/run/docker.sock"

func TestNewProxy(t *testing.T) {
	for _, test := range []struct {
		name, http, https, none string
		want                    Proxy
		wrong                   string // a part of the refusal
	}{
		{name: "none"},
		{name: "one for https", https: "http://p:3128", want: Proxy{"http://p:3128", "http://p:3128", always}},
		{name: "one for http", http: "http://p:3128", want: Proxy{"http://p:3128", "http://p:3128", always}},
		{name: "both", http: "http://a", https: "https://b:8443/", want: Proxy{"http://a", "https://b:8443/", always}},
		{name: "what the operator adds stands first, and once", https: "http://p", none: "10.0.0.0/8,,169.254.170.2",
			want: Proxy{"http://p", "http://p", "10.0.0.0/8,169.254.170.2,localhost,127.0.0.1,::1,169.254.169.254,/var/run/docker.sock"}},
		{name: "IPv6", https: "http://[2001:db8::1]:3128", want: Proxy{"http://[2001:db8::1]:3128", "http://[2001:db8::1]:3128", always}},
		{name: "no scheme", https: "p:3128", wrong: "is not a URL with a host"},
		{name: "SOCKS", https: "socks5://p:1080", wrong: "neither http:// nor https://"},
		{name: "a path", https: "http://p/pac", wrong: "more behind the host"},
		{name: "a blank in a password", https: "http://u:s3cr3t word@p", wrong: "percent-encoded"},
		{name: "a dollar in a password", https: "http://u:s3cr3t$@p", wrong: "percent-encoded"},
		{name: "a password that is no URL", https: "http://u:s3cr3t%zz@p", wrong: "not a URL"},
		{name: "nothing to make exceptions of", none: "10.0.0.0/8", wrong: "neither --http-proxy nor --https-proxy"},
		{name: "exceptions with blanks", https: "http://p", none: "a, b", wrong: "--no-proxy must be"},
	} {
		got, err := NewProxy(test.http, test.https, test.none)
		switch {
		case test.wrong == "" && (err != nil || got != test.want):
			t.Errorf("%s: %+v, %v", test.name, got, err)
		case test.wrong != "" && (!failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), test.wrong)):
			t.Errorf("%s: %+v, %v", test.name, got, err)
		case err != nil && strings.Contains(err.Error()+failure.Of(err).Advice(), "s3cr3t"):
			t.Errorf("%s shows the password: %v", test.name, err)
		}
	}
}

// What systemd makes of the files is what was meant, in both spellings, with percent signs.
func TestProxyUnits(t *testing.T) {
	for _, address := range []string{"http://p.example.com:3128", "http://u:p%25ss%2Fword@p.example.com:3128"} {
		p, err := NewProxy("", address, "10.0.0.0/8")
		if err != nil {
			t.Fatal(err)
		}
		dropIn, env := p.Units()
		secret := strings.Contains(address, "@")
		if strings.Contains(string(dropIn), "u:p") || (len(env) > 0) != secret || strings.Contains(p.Key(), "word") {
			t.Errorf("%s: the drop-in is\n%s\nand the file\n%s\nand the key %s", address, dropIn, env, p.Key())
		}
		m := newMachine(t)
		m.write(ProxyDropIn("docker.service"), string(dropIn))
		m.write("/etc/systemd/system/docker.service.d/http-proxy.conf", "[Service]\nEnvironment=HTTPS_PROXY=http://old:1 https_proxy=http://old:1\n")
		if secret {
			m.write(ProxyEnv, string(env))
		}
		if got, err := DaemonProxy(t.Context(), m.reader()); err != nil || got != p {
			t.Errorf("Docker is told %+v, %v; want %+v", got, err, p)
		}
		for _, want := range []string{"u:p%25ss%2Fword", "p%25ss%2Fword", "p%ss/word"} {
			if secret != slices.Contains(p.Secrets(), want) {
				t.Errorf("the secrets are %q", p.Secrets())
			}
		}
	}
}

// Docker starts all the same where the file with the variables is gone: a unit whose EnvironmentFile is missing does not, and
// a run that takes both files away may be killed between them.
func TestProxyUnitsWithoutTheirFile(t *testing.T) {
	p, err := NewProxy("", "http://u:password@p.example.com:3128", "")
	if err != nil {
		t.Fatal(err)
	}
	dropIn, _ := p.Units()
	for line := range strings.Lines(string(dropIn)) {
		if file, is := strings.CutPrefix(line, "EnvironmentFile="); is && !strings.HasPrefix(file, "-") {
			t.Errorf("the unit needs the file: %s", line)
		}
	}
}

// The ECS agent's proxy is this host's, else the SSM agent's, else Docker's.
func TestHostProxy(t *testing.T) {
	m := newMachine(t)
	is := func(want string) {
		t.Helper()
		if got, err := HostProxy(t.Context(), m.reader()); err != nil || got.HTTPS != want {
			t.Errorf("%+v, %v; want %s", got, err, want)
		}
	}
	is("")
	m.write("/etc/docker/daemon.json", `{"proxies":{"https-proxy":"http://docker:1"}}`)
	is("http://docker:1")
	m.write("/etc/systemd/system/amazon-ssm-agent.service.d/p.conf", "[Service]\nEnvironment=https_proxy=http://ssm:1\n")
	is("http://ssm:1")
	m.write(ecsagent.ConfigPath, "HTTP_PROXY=http://ecs:1\n")
	is("http://ecs:1")
	want := []string{"/etc/docker/daemon.json", ecsagent.ConfigPath, "/etc/systemd/system/amazon-ssm-agent.service.d/p.conf"}
	if files, err := ProxyFiles(t.Context(), m.reader()); err != nil || !slices.Equal(files, want) {
		t.Errorf("the proxies stand in %q, %v", files, err)
	}
}

// A verb that is about to tell everybody is judged by what it will tell them; Docker's own file stays as it is.
func TestPlannedProxy(t *testing.T) {
	m := newMachine(t)
	p, err := NewProxy("", "http://new:3128", "")
	if err != nil {
		t.Fatal(err)
	}
	s := Subject{Host: m.reader(), Mutating: true, Proxy: p}
	if r := networkProxy(t.Context(), s); r.Status != Pass {
		t.Errorf("%s: %s", r.Status, r.Detail)
	}
	m.write("/etc/docker/daemon.json", `{"proxies":{"https-proxy":"http://old:1","no-proxy":"169.254.0.0/16"}}`)
	if r := networkProxy(t.Context(), s); r.Status != Warn || !strings.Contains(r.Detail, "Docker through http://old:1 (/etc/docker/daemon.json)") {
		t.Errorf("%s: %s", r.Status, r.Detail)
	}
}
