package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// diagnosis is what the tests look at in doctor's document.
type diagnosis struct {
	Changed, Failed bool
	RC              int
	Msg             string
	DurationMs      int64
	Result          struct {
		State    string
		Findings []struct {
			Kind, Code, Title, Remedy, Fix string
			Evidence                       []struct{ Source, File, Line string }
		}
		RuledOut []struct{ ID string }
		Unseen   []struct {
			Part, Why string
			NeedsRoot bool
		}
		Fixes []struct{ ID, Status string }
	}
	Error *struct{ Code, Message string }
}

// doctor runs "anywhere doctor" as root, without the checks of the network unless it is told otherwise.
func (s *site) doctor(h *lab.Machine, args ...string) diagnosis {
	s.t.Helper()
	return s.examined(h.Run(lab.Cmd{Args: append([]string{"anywhere", "doctor", "-o", "json"}, args...)}))
}

func (s *site) examined(res lab.Result) diagnosis {
	s.t.Helper()
	var d diagnosis
	if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil {
		s.t.Fatalf("stdout is not one JSON object: %v\n%v", err, res)
	}
	if err := contract.Check([]byte(res.Stdout)); err != nil {
		s.t.Error(err)
	}
	if d.RC != res.Exit {
		s.t.Errorf("rc is %d and the exit status %d", d.RC, res.Exit)
	}
	return d
}

// names reports whether a code is among the findings that count.
func (d diagnosis) names(code failure.Code) bool {
	for _, f := range d.Result.Findings {
		if f.Code == string(code) && f.Kind != "warning" && f.Kind != "history" {
			return true
		}
	}
	return false
}

func (d diagnosis) first() string {
	if len(d.Result.Findings) == 0 {
		return ""
	}
	return d.Result.Findings[0].Code
}

func (d diagnosis) fix(id string) string {
	for _, f := range d.Result.Fixes {
		if f.ID == id {
			return f.Status
		}
	}
	return ""
}

// The doctor of a real host through the bad days of its life.
func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	if d := s.doctor(h, "--offline"); d.RC != 10 || d.first() != string(failure.NotRegistered) {
		t.Errorf("before any registration: %+v", d)
	}
	first := s.mustRegister(h, s.register(s.token(1)))
	s.comesTo(h, "healthy", "")

	before := h.Tree(treeOf...)
	well := s.doctor(h, "--offline")
	if well.RC != 0 || well.Changed || !strings.HasPrefix(well.Msg, "nothing wrong was found") {
		t.Fatalf("a healthy host: %+v", well)
	}
	if len(well.Result.Unseen) != 1 || !slices.ContainsFunc(well.Result.RuledOut, func(o struct{ ID string }) bool { return o.ID == "journal" }) {
		t.Errorf("root sees all but the network: %+v", well.Result)
	}
	t.Logf("a healthy host took %d ms; warnings %+v", well.DurationMs, well.Result.Findings)
	if online := s.doctor(h); online.RC != 0 || len(online.Result.Unseen) > 0 || online.DurationMs > 20_000 {
		t.Errorf("with the checks of the network: %+v", online)
	}
	user := s.examined(h.Run(lab.Cmd{Args: []string{"runuser", "-u", "nobody", "--", "anywhere", "doctor", "-o", "json", "--offline", "--bundle", "/tmp/nobody.tar.gz"}}))
	if user.RC != 0 || user.Result.State != "healthy" || len(user.Result.Unseen) < 5 {
		t.Errorf("an ordinary user: %+v", user)
	}
	if fix := s.examined(h.Run(lab.Cmd{Args: []string{"runuser", "-u", "nobody", "--", "anywhere", "doctor", "-o", "json", "--offline", "--fix", "--yes"}})); fix.RC != 3 || fix.Error.Code != string(failure.NotRoot) {
		t.Errorf("an ordinary user fixes: %+v", fix)
	}
	if fixed := s.doctor(h, "--offline", "--fix", "--yes"); fixed.RC != 0 || fixed.Changed || len(fixed.Result.Fixes) > 0 {
		t.Errorf("there is nothing to fix: %+v", fixed)
	}
	if diff := lab.Diff(before, h.Tree(treeOf...)); len(diff) > 0 {
		t.Errorf("a doctor changed %v", diff)
	}

	// Stopped agents are started, and the registration is what it was. What runs beside them runs on.
	task := startTask(h)
	h.MustShell("systemctl disable --now ecs.service")
	sick := s.doctor(h, "--offline")
	if sick.RC != 10 || sick.first() != string(failure.ServiceFailed) || sick.Result.Findings[0].Fix != "ecs.service" || sick.fix("ecs.service") != "possible" {
		t.Errorf("the ECS agent is stopped: %+v", sick)
	}
	if plan := s.doctor(h, "--offline", "--fix", "--dry-run"); plan.RC != 10 || plan.Changed || plan.fix("ecs.service") != "planned" || h.Unit("ecs.service").Active == "active" {
		t.Errorf("a dry run: %+v", plan)
	}
	if fixed := s.doctor(h, "--offline", "--fix", "--yes"); fixed.RC != 0 || !fixed.Changed || fixed.fix("ecs.service") != "done" || fixed.Result.State != "healthy" {
		t.Errorf("it is started: %+v", fixed)
	}
	h.MustShell("systemctl stop amazon-ssm-agent.service && sed -i 's/\"CredentialsExpiresAt\":\"[^\"]*\"/\"CredentialsExpiresAt\":\"2020-01-01T00:00:00Z\"/' " +
		"/var/lib/amazon/ssm/runtimeconfig/identity_config.json")
	if expired := s.doctor(h, "--offline"); expired.RC != 10 || expired.first() != string(failure.CredentialsExpired) || expired.fix("ssm.service") != "possible" {
		t.Errorf("the credentials have expired: %+v", expired)
	}
	if fixed := s.doctor(h, "--offline", "--fix", "--yes"); fixed.RC != 0 || fixed.fix("ssm.service") != "done" {
		t.Errorf("the SSM agent renews them: %+v", fixed)
	}
	taskRuns(t, h, task)
	h.MustShell("docker rm -f ecs-web-1-web")

	// A unit that died too often is not held to its limit.
	h.MustShell("systemctl stop ecs.service; mkdir -p /run/systemd/system/ecs.service.d; " +
		"printf '[Unit]\\nStartLimitIntervalSec=1h\\nStartLimitBurst=1\\n[Service]\\nExecStartPre=/bin/false\\n' > /run/systemd/system/ecs.service.d/99-broken.conf; " +
		"systemctl daemon-reload; systemctl start ecs.service; systemctl start ecs.service; rm -r /run/systemd/system/ecs.service.d; systemctl daemon-reload; true")
	if u := h.Unit("ecs.service"); u.Active != "failed" {
		t.Errorf("it should have failed: %+v", u)
	}
	if fixed := s.doctor(h, "--offline", "--fix", "--yes"); fixed.RC != 0 || fixed.fix("ecs.service") != "done" {
		t.Errorf("it is forgiven: %+v", fixed)
	}

	// Docker is never started or restarted, and the ECS agent, which would start it, is left alone.
	h.MustShell("systemctl stop docker.socket docker.service")
	if dead := s.doctor(h, "--offline", "--fix", "--yes"); dead.RC != 10 || dead.first() != string(failure.DockerDown) || dead.fix("ecs.service") != "" {
		t.Errorf("Docker is dead: %+v", dead)
	}
	if u := h.Unit("docker.service"); u.Active != "inactive" {
		t.Errorf("Docker was started: %+v", u)
	}
	h.MustShell("systemctl start docker.service ecs.service")
	again := s.comesTo(h, "healthy", "")
	if again.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN || again.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Errorf("the registration is another one: %+v", again.Result)
	}

	s.bundles(h)

	// Without AWS it says so, within its bounds.
	must(t, s.aws.Close())
	if alone := s.doctor(h); alone.RC != 10 || !alone.names(failure.EndpointUnreachable) || alone.DurationMs > 20_000 {
		t.Errorf("no network: %+v", alone)
	}
}

// bundles looks for secrets in the archive of a real host.
func (s *site) bundles(h *lab.Machine) {
	s.t.Helper()
	secrets := []string{"correct-horse-battery", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "s3cr3t-proxy-pw", s.code, account}
	h.MustShell(`printf 'ECS_ENGINE_AUTH_DATA={"r.example":{"username":"u","password":"` + secrets[0] + `"}}\nHTTPS_PROXY=http://u:` + secrets[2] +
		`@proxy.example:3128\n' >> /etc/ecs/ecs.config; ` +
		`for log in /var/log/ecs/ecs-agent.log /var/log/ecs/ecs-init.log /var/log/amazon/ssm/errors.log /var/log/anywhere/anywhere.log; do ` +
		`printf 'bare ` + secrets[0] + ` key ` + secrets[1] + ` proxy ` + secrets[2] + ` -code ` + s.code + ` arn:aws:ecs:x:` + account + `:cluster/x\n' >> $log; done; ` +
		`logger -t dockerd 'password=` + secrets[0] + `'`)
	for _, file := range []string{"/root/.aws/credentials", "/var/lib/amazon/ssm/Vault/Store/RegistrationKey"} {
		text, err := h.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, word := range strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" \n\"={}:,", r) }) {
			if len(word) >= 40 {
				secrets = append(secrets, word)
			}
		}
	}
	if d := s.doctor(h, "--offline", "--bundle", "/root/support.tar.gz"); d.RC != 0 && d.RC != 10 {
		s.t.Fatalf("%+v", d)
	}
	if mode := h.MustShell("stat -c %a /root/support.tar.gz"); strings.TrimSpace(mode) != "600" {
		s.t.Errorf("the archive has mode %s", mode)
	}
	packed, err := h.ReadFile("/root/support.tar.gz")
	if err != nil {
		s.t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		s.t.Fatal(err)
	}
	names := map[string]bool{}
	for archive := tar.NewReader(unpacked); ; {
		head, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			s.t.Fatal(err)
		}
		names[strings.TrimPrefix(head.Name, "anywhere-support/")] = true
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				s.t.Errorf("%s has %q", head.Name, secret)
			}
		}
	}
	for _, name := range []string{"manifest.json", "docker.json", "journal/ecs.service.txt", "journal/docker.service.txt", "files/etc/ecs/ecs.config", "files/var/log/ecs/ecs-agent.log",
		"files/var/log/amazon/ssm/amazon-ssm-agent.log", "files/var/lib/anywhere/record.json"} {
		if !names[name] {
			s.t.Errorf("%s is missing in %v", name, names)
		}
	}
}
