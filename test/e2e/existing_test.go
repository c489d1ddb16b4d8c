package e2e

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// theirConfig is a configuration file that somebody cares for.
const theirConfig = `# written by the platform team
ECS_LOGLEVEL=debug   # noisy

ECS_RESERVED_MEMORY=64
# ECS_CLUSTER=old
ECS_CLUSTER=prod
`

const otherProfiles = "[backup]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = not-a-secret\n"

// What is on a host already is kept where it can be, and where it can't the command says so before it changes anything.
func TestHostsWithAHistory(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	for _, c := range []struct {
		name            string
		path, text      string // a file that is there
		flags           []string
		exit            int
		code            failure.Code
		message, remedy string
	}{
		{name: "quoted ECS_EXTERNAL", path: "/etc/ecs/ecs.config", text: "ECS_EXTERNAL=\"true\"\n",
			exit: 3, code: failure.PreflightFailed, message: "ECS_EXTERNAL", remedy: "take the quotes away"},
		{name: "access key in ecs.config", path: "/etc/ecs/ecs.config",
			text: "AWS_ACCESS_KEY_ID=AKIAEXAMPLE\nAWS_SECRET_ACCESS_KEY=not-a-secret\n",
			exit: 3, code: failure.ForeignProfile, message: "AWS_ACCESS_KEY_ID", remedy: "/etc/ecs/ecs.config"},
		{name: "foreign default profile", path: "/root/.aws/credentials", text: strings.Replace(otherProfiles, "backup",
			"default", 1),
			exit: 3, code: failure.ForeignProfile, message: "default", remedy: "/root/.aws/credentials"},
		{name: "malformed SSM configuration", path: "/etc/amazon/ssm/amazon-ssm-agent.json", text: "{\"Mds\": \n",
			exit: 3, code: failure.AgentConfig, message: "/etc/amazon/ssm/amazon-ssm-agent.json", remedy: "correct"},
		{name: "state of another cluster", path: "/var/lib/ecs/data/agent.db",
			text: "bolt arn:aws:ecs:eu-central-1:123456789012:container-instance/elsewhere/0123456789abcdef", exit: 12,
			code: failure.RegisteredElsewere, message: "cluster elsewhere", remedy: "anywhere move"},
		{name: "version known to be bad", flags: []string{"--ecs-agent-version", "1.85.0"}, exit: 12,
			code:    failure.KnownBadVersion,
			message: "1.85.0", remedy: "version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.path != "" {
				h.WriteFile(c.path, []byte(c.text), 0o640)
			}
			if strings.HasSuffix(c.path, "agent.db") {
				h.WriteFile("/etc/ecs/ecs.config", []byte("ECS_CLUSTER=elsewhere\n"), 0o600)
			}
			before := look(h)
			s.fails(t, h, s.register(s.token(1), c.flags...), c.exit, c.code, c.message, "", c.remedy)
			before.same(t, look(h))
			h.MustShell("rm -rf /etc/ecs /etc/amazon /root/.aws /var/lib/ecs")
		})
	}

	h.WriteFile("/etc/ecs/ecs.config", []byte(theirConfig), 0o640)
	h.MustShell("chgrp daemon /etc/ecs/ecs.config")
	h.WriteFile("/root/.aws/credentials", []byte(otherProfiles), 0o600)
	first := s.mustRegister(h, s.register(s.token(1), "--attribute", "rack=7", "--tag", "team=shop", "--ecs-config",
		"ECS_IMAGE_PULL_BEHAVIOR=prefer-cached"))

	config := h.MustShell("cat /etc/ecs/ecs.config")
	for _, line := range []string{
		"# written by the platform team", "ECS_LOGLEVEL=debug   # noisy", "ECS_RESERVED_MEMORY=64", "# ECS_CLUSTER=old",
		"ECS_CLUSTER=prod",
		"AWS_EC2_METADATA_DISABLED=true", "ECS_EXTERNAL=true", "AWS_DEFAULT_REGION=" + region,
		`ECS_INSTANCE_ATTRIBUTES={"rack":"7"}`, `ECS_CONTAINER_INSTANCE_TAGS={"team":"shop"}`,
		"ECS_IMAGE_PULL_BEHAVIOR=prefer-cached",
	} {
		if n := strings.Count("\n"+config+"\n", "\n"+line+"\n"); n != 1 {
			t.Errorf("%q is %d times in ecs.config:\n%s", line, n, config)
		}
	}
	if got := h.MustShell("stat -c '%a %U:%G' /etc/ecs/ecs.config"); got != "640 root:daemon" {
		t.Errorf("ecs.config has %s now", got)
	}
	ssm := h.MustShell("cat /etc/amazon/ssm/amazon-ssm-agent.json")
	if flat := strings.Join(strings.Fields(ssm), ""); !strings.Contains(flat, `"ConsumptionOrder":["OnPrem"]`) {
		t.Errorf("the SSM agent may take another identity: %s", ssm)
	}
	if got := h.MustShell("cat /root/.aws/credentials"); !strings.Contains(got, "[backup]") || !strings.Contains(got,
		"AKIAEXAMPLE") {
		t.Errorf("other profiles were lost: %s", h.MustShell("grep '^\\[' /root/.aws/credentials"))
	}
	const copied = "cd /var/lib/anywhere/backup && cat root-aws-credentials-* && stat -c %a root-*"
	if got := h.MustShell(copied); got != otherProfiles+"600" {
		t.Errorf("the copy of the credentials file is %q", got)
	}

	registered := look(h)
	for _, c := range []struct {
		name            string
		flags           []string
		code            failure.Code
		message, remedy string
	}{
		{"another cluster", []string{"--cluster", "other"}, failure.RegisteredElsewere, "cluster prod, not to other",
			"anywhere move --cluster other"},
		{"another Region", []string{"--region", "us-east-1"}, failure.RegisteredElsewere, first.Result.ManagedInstanceID,
			"deregister"},
		{"another version", []string{"--ecs-agent-version", "1.104.0"}, failure.VersionManaged,
			"1.105.1-1 on this registered host", "upgrade"},
		{"a bad version", []string{"--ecs-agent-version", "1.85.0"}, failure.KnownBadVersion, "1.85.0", "version"},
	} {
		t.Run("registered and "+c.name, func(t *testing.T) {
			s.fails(t, h, s.register("", c.flags...), 12, c.code, c.message, "", c.remedy)
			registered.same(t, look(h))
		})
	}
	arn := "arn:aws:ecs:" + region + ":" + account + ":cluster/" + cluster
	if again := s.mustRegister(h, s.register("", "--cluster", arn)); again.Changed ||
		again.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("the same cluster by its ARN: %+v", again)
	}
}

// Packages that somebody has put there by hand, and an identity that a refused registration has blanked, are no
// registration, and no hindrance. --no-start and --no-exec leave out what they say.
func TestPackagesThatWereThere(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	h.CopyIn("/root/ssm.deb", s.mirror.Dir+"/amazon-ssm-"+region+"/latest/debian_amd64/amazon-ssm-agent.deb", 0o644)
	h.CopyIn("/root/ecs.deb", s.mirror.Dir+"/amazon-ecs-agent-"+region+"/amazon-ecs-init-latest.amd64.deb", 0o644)
	h.MustShell("dpkg -i /root/ssm.deb /root/ecs.deb")
	h.Run(lab.Cmd{Args: []string{"amazon-ssm-agent", "-register", "-y", "-region", region, "-id", strings.Repeat("0",
		36), "-code", strings.Repeat("0", 20)}})
	d := s.read(h.Run(s.register(s.token(1), "--no-start", "--no-exec")))
	if d.Failed || d.Result.Verified != "none" || d.Result.ManagedInstanceID == "" || len(s.aws.Instances()) != 0 {
		t.Fatalf("with --no-start: %+v", d)
	}
	if h.Exists("/var/lib/ecs/deps/execute-command/bin") {
		t.Error("--no-exec has put ECS Exec's files there")
	}
	if u := h.Unit("ecs.service"); u.Active == "active" {
		t.Errorf("with --no-start ecs.service is %+v", u)
	}
	id := d.Result.ManagedInstanceID
	if d = s.mustRegister(h, s.register("")); d.Result.ManagedInstanceID != id {
		t.Errorf("it was %s and is %s", id, d.Result.ManagedInstanceID)
	}
	if left := h.MustShell("cat /var/lib/anywhere/record.json"); strings.Contains(left, "sha256") {
		t.Errorf("packages of others are taken for ours: %s", left)
	}
}

// ECS deregisters the instance behind the host's back: the same command makes a new one of the same managed node.
func TestInstanceThatECSHasDeregistered(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	first := s.mustRegister(h, s.register(s.token(1)))
	must(t, s.aws.Fault(emulator.FaultInstanceInactive))
	s.aws.ClearFault(emulator.FaultInstanceInactive)
	h.MustShell("systemctl restart ecs")
	await(t, "the ECS agent gives up", func() bool { return h.Unit("ecs.service").Active == "failed" })
	again := s.mustRegister(h, s.register(""))
	if !again.Changed || again.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Errorf("it was %+v and is %+v", first.Result, again.Result)
	}
	if again.Result.ContainerInstanceARN == first.Result.ContainerInstanceARN {
		t.Errorf("an instance that was deregistered is said to be registered: %s", again.Result.ContainerInstanceARN)
	}
	if n := len(h.Glob("/var/lib/anywhere/backup/agent.db-*")); n != 1 {
		t.Errorf("%d copies of the agent's old state were kept", n)
	}
}

// Identities that work no more, on a real host: the refusal names the next command, which succeeds; nothing is lost.
func TestIdentitiesThatDoNotWork(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	first := s.mustRegister(h, s.register(s.token(1)))
	node := first.Result.ManagedInstanceID

	// Switched off for longer than credentials live: unknown, and kept.
	h.MustShell("systemctl stop ecs amazon-ssm-agent")
	expire(h)
	if d := s.mustRegister(h, s.register(s.token(1))); !d.Changed || d.Result.ManagedInstanceID != node ||
		d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("an identity that was offline: %+v", d)
	}

	// Deregistered while it was off.
	h.MustShell("systemctl stop ecs amazon-ssm-agent")
	expire(h)
	s.aws.DeregisterNode(node)
	h.MustShell("systemctl start amazon-ssm-agent")
	await(t, "the SSM agent is told", func() bool {
		return strings.Contains(h.MustShell("cat /var/log/amazon/ssm/amazon-ssm-agent.log"), "InvalidInstanceId")
	})
	task := startTask(h)
	before := look(h)
	const next = "anywhere register --token - --accept-risk replace-identity"
	for _, token := range []string{"", s.token(1)} {
		s.fails(t, h, s.register(token), 12, failure.NodeUnknown, node, "InvalidInstanceId", next)
	}
	accept := []string{"--accept-risk", "replace-identity"}
	s.fails(t, h, s.register(s.token(1), accept...), 12, failure.TasksRunning, "1 containers", "ecs-web-1-web", "--accept-risk running-tasks")
	before.same(t, look(h))
	vault := h.MustShell("cat /var/lib/amazon/ssm/Vault/Store/RegistrationKey")
	second := s.mustRegister(h, s.register(s.token(1), "--accept-risk", "replace-identity,running-tasks"))
	if second.Result.ManagedInstanceID == node || second.Result.ContainerInstanceARN == first.Result.ContainerInstanceARN {
		t.Errorf("replaced: %+v", second)
	}
	if kept := h.MustShell("cat /var/lib/anywhere/backup/RegistrationKey-*"); kept != vault {
		t.Error("no copy of the identity that was given up")
	}
	owed := "--container-instance " + first.Result.ContainerInstanceARN + " --force"
	if !strings.HasSuffix(second.Result.Owed[0], owed) || second.Result.Owed[1] != "" {
		t.Errorf("owed is %q", second.Result.Owed)
	}
	taskRuns(t, h, task)
	if again := s.mustRegister(h, s.register("")); again.Changed {
		t.Errorf("and again: %+v", again)
	}
	h.MustShell("docker rm -f ecs-web-1-web")

	// A copy of the machine with a machine-id of its own.
	h.MustShell("systemctl stop ecs amazon-ssm-agent; systemd-id128 new > /etc/machine-id")
	before = look(h)
	s.fails(t, h, s.register(s.token(1)), 12, failure.FingerprintChanged, second.Result.ManagedInstanceID, "machine-id", next)
	before.same(t, look(h))
	third := s.mustRegister(h, s.register(s.token(1), accept...))
	if third.Result.ManagedInstanceID == second.Result.ManagedInstanceID || len(s.aws.Nodes()) != 2 || third.Result.Owed[0] != "" {
		t.Errorf("a copy: %+v; Systems Manager has %+v", third.Result, s.aws.Nodes())
	}
	if again := s.mustRegister(h, s.register("")); again.Changed {
		t.Errorf("and again: %+v", again)
	}

	// The vault's manifest is damaged: the identity is whole, and kept.
	h.MustShell("systemctl stop ecs amazon-ssm-agent; : > /var/lib/amazon/ssm/Vault/Manifest")
	if d := s.mustRegister(h, s.register("")); !d.Changed || d.Result != third.Result {
		t.Errorf("hidden: %+v; before %+v", d.Result, third.Result)
	}

	// The fingerprint is lost: the agent makes a new one at its next start, which the service does not accept.
	h.MustShell("systemctl stop ecs amazon-ssm-agent; rm /var/lib/amazon/ssm/Vault/Store/InstanceFingerprint")
	expire(h)
	lost := h.Run(s.register("", "--wait-timeout", "30s"))
	if e := s.read(lost).Error; e == nil || e.Code != string(failure.FingerprintChanged) ||
		!strings.Contains(e.Remedy, "replace-identity") {
		t.Errorf("without a fingerprint: %v", lost)
	}
	s.mustRegister(h, s.register(s.token(1), accept...))
}

// expire makes the node's credentials as old as those of a host that was off.
func expire(h *lab.Machine) {
	h.MustShell(`sed -i -E 's/"(CredentialsExpiresAt|CredentialsRetrievedAt)":"20[0-9]{2}/"\1":"2020/g' \
	/var/lib/amazon/ssm/runtimeconfig/identity_config.json; rm -f /var/log/amazon/ssm/*`)
}
