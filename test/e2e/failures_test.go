package e2e

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// A failure before the activation's slot is spent leaves the host as it was, down to its packages. They are told one
// after the other on one host: what one of them left behind would be there for the next.
func TestFailuresThatAreUndone(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	badSSM := s.branch(t, newMirror(t, packages.Options{PostinstFails: true}, packages.Options{}))
	badECS := s.branch(t, newMirror(t, packages.Options{}, packages.Options{PostinstFails: true}))
	h := s.host(lab.Host{})
	h.WriteFile("/root/bad-keys.asc", slices.Concat(badSSM.mirror.Keyring(), badECS.mirror.Keyring()), 0o644)
	before := look(h)
	for _, c := range []struct {
		name    string
		site    *site
		fault   string
		args    []string // instead of the site's own
		exit    int
		code    failure.Code
		message string
		found   string // in the evidence
		remedy  string
		retry   string // of these requests at least three are made: what may pass is tried again
	}{
		{name: "activation expired", fault: emulator.FaultActivationExpired, exit: 7, code: failure.ActivationExpired,
			message: "expired", found: "ActivationExpired", remedy: "activation create"},
		{name: "activation invalid", fault: emulator.FaultActivationInvalid, exit: 7, code: failure.ActivationInvalid,
			message: "activation", found: "InvalidActivation", remedy: "activation create"},
		{name: "activation used up", fault: emulator.FaultActivationUsedUp, exit: 7, code: failure.ActivationUsedUp,
			message: "used up", found: "RegistrationLimitExceeded", remedy: "--limit"},
		{name: "throttled", fault: emulator.FaultThrottled, exit: 7, code: failure.Throttled, message: "slow down",
			found: "ThrottlingException", remedy: "again", retry: "ssm:RegisterManagedInstance"},
		{name: "server error", fault: emulator.FaultServerError, exit: 7, code: failure.AWSUnavailable,
			message: "server error",
			found:   "500", remedy: "again", retry: "ssm:RegisterManagedInstance"},
		{name: "SSM agent's postinst fails", site: badSSM, exit: 7, code: failure.PackageInstall,
			message: "post-installation script",
			found:   "this package fails on purpose", remedy: "then run the command again"},
		{name: "ECS agent's postinst fails", site: badECS, exit: 7, code: failure.PackageInstall,
			message: "post-installation script",
			found:   "this package fails on purpose", remedy: "then run the command again"},

		{name: "artifact corrupt", fault: emulator.FaultArtifactCorrupt, exit: 6, code: failure.ArtifactCorrupt,
			message: "amazon-", found: "signature", remedy: "again"},
		{name: "artifact truncated", fault: emulator.FaultArtifactTruncated, exit: 5, code: failure.ArtifactDownload,
			message: "amazon-", found: "http://", remedy: "again",
			retry: "s3:GetObject amazon-ssm-" + region + "/" + ssmVersion},
		{name: "artifact unsigned", fault: emulator.FaultArtifactUnsigned, exit: 6, code: failure.ArtifactUnsigned,
			message: "signature", found: "404", remedy: "mirror"},
		{name: "artifact missing", fault: emulator.FaultArtifactMissing, exit: 5, code: failure.ArtifactMissing,
			message: "amazon-", found: "404", remedy: "--artifacts"},
		{name: "artifact signed with an unknown key", args: []string{"--artifacts", s.url, "--endpoint-url", s.url,
			"--agent-endpoint", s.url},
			exit: 6, code: failure.ArtifactKey, message: "key", found: "signature", remedy: "--keyring"},
		{name: "no network", args: []string{}, exit: 3, code: failure.NameUnresolved,
			message: "no name resolves", found: "lookup ecs.eu-central-1.amazonaws.com", remedy: "name servers"},
	} {
		if c.site == nil {
			c.site = s
		}
		ok := t.Run(c.name, func(t *testing.T) {
			// Packages that are in the cache already would not be downloaded again.
			h.MustShell("rm -rf /var/lib/anywhere/packages")
			if c.fault != "" {
				must(t, c.site.aws.Fault(c.fault))
				defer c.site.aws.ClearFault(c.fault)
			}
			args := c.args
			if args == nil {
				args = c.site.flags()
			}
			if c.site != s {
				args = append(args, "--keyring", "/root/bad-keys.asc")
			}
			cmd := lab.Cmd{Args: append([]string{"anywhere", "register", "-o", "json", "--token", "-"}, args...),
				Stdin: c.site.token(1)}
			asked := c.site.asked(c.retry)
			d := c.site.fails(t, h, cmd, c.exit, c.code, c.message, c.found, c.remedy)
			if d.Error.RolledBack != (c.exit == 7) || len(d.Error.Kept) > 0 {
				t.Errorf("rolledBack is %v, kept %q, with exit status %d", d.Error.RolledBack, d.Error.Kept, c.exit)
			}
			if n := c.site.asked(c.retry) - asked; c.retry != "" && n < 3 {
				t.Errorf("%s was asked %d times", c.retry, n)
			}
			if c.exit != 7 {
				for _, step := range d.Steps {
					if step.Status == "done" || step.Status == "undone" {
						t.Errorf("%s is %s, before everything was verified", step.ID, step.Status)
					}
				}
			}
			before.same(t, look(h))
			if n := len(c.site.aws.Nodes()); n != 0 {
				t.Errorf("%d managed nodes were registered", n)
			}
		})
		if !ok {
			h.MustShell("anywhere rollback >&2 || :")
		}
	}
	s.mustRegister(h, s.register(s.token(1)))
}

// A failure behind the point of no return keeps what is done, says so, and the same command without a token goes on.
func TestFailuresThatKeepTheRegistration(t *testing.T) {
	mirror := newMirror(t, packages.Options{}, packages.Options{})
	for _, c := range []struct {
		name    string
		fault   string
		exit    int
		code    failure.Code
		step    string // the one that fails
		message string
		found   string
		remedy  string
	}{
		{name: "role token denied", fault: emulator.FaultRoleTokenDenied, code: failure.AccessDenied, step: "ssm.start",
			message: "gives the node no credentials", found: "AccessDenied", remedy: "role"},
		{name: "clock skew", fault: emulator.FaultClockSkew, code: failure.ClockSkew, step: "ssm.start",
			message: "clock", found: "ignature", remedy: "timedatectl"},
		{name: "register access denied", fault: emulator.FaultRegisterAccessDenied, code: failure.AccessDenied,
			step:    "verify",
			message: "ecs:RegisterContainerInstance", found: "not authorized to perform",
			remedy: "AmazonEC2ContainerServiceforEC2Role"},
		{name: "cluster missing", fault: emulator.FaultClusterMissing, code: failure.ClusterNotFound, step: "verify",
			message: "cluster does not exist", found: "Cluster not found", remedy: "create the cluster"},
		{name: "expired credentials", fault: emulator.FaultCredentialsExpired, code: failure.CredentialsExpired,
			step:    "verify",
			message: "expired", found: "ExpiredToken", remedy: "amazon-ssm-agent"},
		{name: "attributes not confirmed", fault: emulator.FaultNoAttributeEcho, code: failure.RegistrationDenied,
			step:    "verify",
			message: "attributes", found: "attribute", remedy: "ECS_INSTANCE_ATTRIBUTES"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := (&site{}).branch(t, mirror)
			h := s.host(lab.Host{})
			must(t, s.aws.Fault(c.fault))
			d := s.fails(t, h, s.register(s.token(1)), 8, c.code, c.message, c.found, c.remedy)
			if len(d.Error.Kept) == 0 || d.Error.RolledBack || !d.Changed {
				t.Errorf("kept is %q, rolledBack %v, changed %v", d.Error.Kept, d.Error.RolledBack, d.Changed)
			}
			if !strings.Contains(d.Error.Remedy, "no token needed") {
				t.Errorf("the remedy does not say how to go on: %q", d.Error.Remedy)
			}
			id := d.Result.ManagedInstanceID
			if !strings.HasPrefix(id, "mi-") || !strings.Contains(strings.Join(d.Error.Kept, "\n"), id) {
				t.Errorf("the managed node %q is not named in what is kept: %q", id, d.Error.Kept)
			}
			var failed []string
			for _, step := range d.Steps {
				if step.Status != "failed" {
					continue
				}
				failed = append(failed, step.ID)
				if limit := 15 * time.Second; took(step.DurationMs) > limit {
					t.Errorf("it took step %s %v to see what the agent's log says; %v are allowed", step.ID, took(step.DurationMs),
						limit)
				}
			}
			// An agent that dies at once is seen while its start is still watched.
			early := c.step == "verify" && slices.Equal(failed, []string{"ecs.start"})
			if !early && !slices.Equal(failed, []string{c.step}) {
				t.Errorf("failed are %q, not %s", failed, c.step)
			}
			if c.code == failure.ClusterNotFound || c.code == failure.RegistrationDenied { // the agent ends with 5
				s.staysDown(t, h, c.fault == emulator.FaultClusterMissing)
			}

			s.aws.ClearFault(c.fault)
			again := s.mustRegister(h, s.register(""))
			if again.Result.ManagedInstanceID != id || len(s.aws.Nodes()) != 1 {
				t.Errorf("it is %s now and was %s; Systems Manager has %d nodes", again.Result.ManagedInstanceID, id,
					len(s.aws.Nodes()))
			}
			if u := h.Unit("ecs.service"); u.Active != "active" || u.Enabled != "enabled" {
				t.Errorf("ecs.service is %+v", u)
			}
		})
	}
}

// staysDown holds the drop-in to its purpose: an agent that ended for good is not started again. Thoroughly, it also
// shows that without it the package's own unit does start it again.
func (s *site) staysDown(t *testing.T, h *lab.Machine, thoroughly bool) {
	t.Helper()
	await(t, "the ECS agent gives up", func() bool { return h.Unit("ecs.service").Active == "failed" })
	if u := h.Unit("ecs.service"); u.Exit != 5 || u.Restarts != 0 {
		t.Errorf("the unit is %+v, after the agent's terminal failure", u)
	}
	if !thoroughly {
		return
	}
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if u := h.Unit("ecs.service"); u.Active != "failed" || u.Restarts != 0 {
			t.Fatalf("the unit is %+v: it restarts", u)
		}
	}
	h.MustShell(`mv /etc/systemd/system/ecs.service.d /root/aside && systemctl daemon-reload &&
		systemctl reset-failed ecs && systemctl start ecs`)
	await(t, "the package's own unit restarts", func() bool { return h.Unit("ecs.service").Restarts > 0 })
	h.MustShell("systemctl stop ecs; mv /root/aside /etc/systemd/system/ecs.service.d && systemctl daemon-reload")
}

// fails runs a command that has to fail, and holds the failure to what every failure owes to its reader. message, found
// and remedy are words of them. In the test's log they can be read as an operator would.
func (s *site) fails(t *testing.T, h *lab.Machine, cmd lab.Cmd, exit int, code failure.Code, message, found,
	remedy string) document {
	t.Helper()
	begun := time.Now()
	res := h.Run(cmd)
	took := time.Since(begun)
	d := (&site{t: t}).read(res)
	if d.Error == nil {
		t.Fatalf("it did not fail: %v", res)
	}
	t.Logf("%s, exit %d after %v\n  error: %s\n  evidence: %s\n  try: %s\n  kept: %q", d.Error.Code, res.Exit,
		took.Round(100*time.Millisecond), d.Error.Message, d.Error.Evidence, d.Error.Remedy, d.Error.Kept)
	if res.Exit != exit || !d.Failed || d.Error.Code != string(code) {
		t.Errorf("exit status %d and %s, want %d and %s\n%s", res.Exit, d.Error.Code, exit, code, res.Stderr)
	}
	for _, p := range []struct{ what, is, want string }{
		{"message", d.Error.Message, message}, {"evidence", d.Error.Evidence, found}, {"remedy", d.Error.Remedy, remedy},
	} {
		if !strings.Contains(p.is, p.want) {
			t.Errorf("the %s lacks %q: %q", p.what, p.want, p.is)
		}
	}
	if d.Error.Message == "" || d.Error.Remedy == "" {
		t.Errorf("without a message or a remedy: %+v", d.Error)
	}
	// The cause is what people read first, whatever came out before it.
	_, first, _ := strings.Cut(res.Stderr, "error: ")
	if s.code != "" && strings.Contains(res.Stdout+res.Stderr, s.code) {
		t.Error("the activation code is in the output")
	}
	if first, _, _ = strings.Cut(first, "\n"); first != "" && !strings.Contains(d.Error.Message, first) {
		t.Errorf("stderr begins with %q and the document has %q", first, d.Error.Message)
	}
	return d
}

// view is what of a host must be the same after a failure that was undone.
type view struct {
	tree             lab.Tree
	packages, images string
	units            map[string]string
}

func look(h *lab.Machine) view {
	list := `dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev}\n'; dpkg --audit`
	if byRPM(h) {
		list = "rpm -qa | sort; ls /var/lib/anywhere/rpm 2>/dev/null || :"
	}
	v := view{
		tree:     h.Tree("/etc", "/root", "/opt", "/var/lib", "/var/cache", "/var/log", "/run/systemd/system"),
		packages: h.MustShell(list),
		images: h.MustShell("command -v docker >/dev/null || exit 0; " +
			"docker images -aq --no-trunc | sort; docker ps -aq; docker volume ls -q"),
		units: h.Units(),
	}
	// Half a gigabyte of programs is not read each time: their times tell.
	const usr = `find /usr -xdev ! -type d -printf '%p\t%m %u:%g %s %T@ %l\n' -o -type d -printf '%p\t%m %u:%g\n'`
	for line := range strings.Lines(h.MustShell(usr)) {
		path, what, _ := strings.Cut(strings.TrimSpace(line), "\t")
		v.tree[path] = what
	}
	maps.DeleteFunc(v.tree, func(path, _ string) bool {
		return slices.ContainsFunc(moving, func(top string) bool { return path == top || strings.HasPrefix(path, top+"/") })
	})
	return v
}

// moving are paths that change without anybody's doing, and those of a run's own traces: its journal, its cache, its
// log. A package manager's log and its copies of former states are traces too: dpkg has worked, and that is no secret.
var moving = []string{
	"/var/lib/docker", "/var/lib/containerd", "/var/log/journal", "/var/lib/systemd/timers", "/var/log/wtmp",
	"/var/log/lastlog",
	"/var/lib/anywhere", "/var/log/anywhere",
	"/var/log/dpkg.log", "/var/log/apt", "/var/log/alternatives.log", "/etc/group-", "/etc/gshadow-", "/var/lib/dpkg/status-old", "/var/lib/dpkg/status", "/var/lib/dpkg/lock",
	"/var/lib/dpkg/lock-frontend",
	"/var/lib/dpkg/triggers/Lock", "/var/cache/ldconfig", "/var/cache/man", "/var/lib/rpm",
}

// same compares a host with what it was; one look serves for all failures that are told after it.
func (v view) same(t *testing.T, after view) {
	t.Helper()
	for _, line := range lab.Diff(v.tree, after.tree) {
		t.Errorf("the host is not as it was: %s", line)
	}
	if v.packages != after.packages {
		t.Errorf("packages before: %s\nafter: %s", v.packages, after.packages)
	}
	if v.images != after.images {
		t.Errorf("images, containers and volumes before: %s\nafter: %s", v.images, after.images)
	}
	if !maps.Equal(v.units, after.units) {
		t.Errorf("units before: %v\nafter: %v", v.units, after.units)
	}
}

func newMirror(t *testing.T, ssm, ecs packages.Options) *packages.Mirror {
	t.Helper()
	m := packages.NewMirror(t, region)
	ssm.Version, ecs.Version = ssmVersion, ecsVersion
	ssm.Program, ecs.Program = lab.Shared("simagent"), lab.Shared("simagent")
	m.AddSSMAgent(ssm)
	m.AddECSInit(ecs)
	return m
}

// branch is an AWS of its own that shares a mirror: building packages takes longer than all the rest of a site.
func (*site) branch(t *testing.T, mirror *packages.Mirror) *site {
	t.Helper()
	b := &site{t: t, mirror: mirror}
	b.aws = emulator.New(emulator.Options{Account: account, Region: region, Artifacts: os.DirFS(mirror.Dir)})
	must(t, b.aws.Start(lab.Address+":0"))
	t.Cleanup(func() { _ = b.aws.Close() })
	b.url = b.aws.URL()
	b.aws.AddCluster(cluster)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func took(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
