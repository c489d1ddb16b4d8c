package e2e

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const (
	personsDefault = "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = not-a-secret\n"
	ssmDropIn      = "/etc/systemd/system/amazon-ssm-agent.service.d/home.conf"
	ecsDropIn      = "/etc/systemd/system/ecs.service.d/person.conf"
)

// On a host whose default profile is a person's the agents keep one of their own; what reaches the agents by their units
// is seen where systemd has it, before and after the units exist.
func TestSSMProfile(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	h.WriteFile("/root/.aws/credentials", []byte(personsDefault), 0o600)
	before := look(h)
	s.fails(t, h, s.register(s.token(1)), 3, failure.ForeignProfile, "long-term key", "", "--ssm-profile ecs-anywhere")
	before.same(t, look(h))

	h.WriteFile(ssmDropIn, []byte("[Service]\nEnvironment=HOME=/var/empty\n"), 0o644)
	s.fails(t, h, s.register(s.token(1), "--ssm-profile", "ecs-anywhere"), 3, failure.AgentConfig,
		"/var/empty/.aws/credentials", "", ssmDropIn)
	h.MustShell("rm -r " + strings.TrimSuffix(ssmDropIn, "/home.conf"))

	first := s.mustRegister(h, s.register(s.token(1), "--ssm-profile", "ecs-anywhere"))
	credentials := h.MustShell("cat /root/.aws/credentials")
	own := strings.Index(credentials, "[ecs-anywhere]")
	if own < 0 || !strings.Contains(credentials[:own], "AKIAEXAMPLE") || !strings.Contains(credentials[own:], "ASIA") {
		t.Errorf("the profiles are %s", h.MustShell(`sed 's/=.*//' /root/.aws/credentials`))
	}
	if copied := h.MustShell("cat /var/lib/anywhere/backup/root-aws-credentials-*"); copied+"\n" != personsDefault {
		t.Errorf("the copy of the credentials file is %q", copied)
	}
	h.MustShell("grep -x ECS_ALTERNATE_CREDENTIAL_PROFILE=ecs-anywhere /etc/ecs/ecs.config")

	if again := s.mustRegister(h, s.register("")); again.Changed || again.Result != first.Result {
		t.Errorf("without the flag: %+v; the first run says %+v", again, first)
	}
	h.WriteFile(ecsDropIn, []byte("[Service]\nEnvironment=AWS_PROFILE=mine\n"), 0o644)
	h.MustShell("systemctl daemon-reload")
	checked := h.MustShell("anywhere preflight --only credentials.chain -o json")
	for _, want := range []string{`"winner":"ssm-file"`, `"whose":"ssm-agent"`, ecsDropIn, "reaches ecs-init, not the agent"} {
		if !strings.Contains(checked, want) {
			t.Errorf("preflight does not say %s: %s", want, checked)
		}
	}

	h.Reboot()
	await(t, "registered again after a reboot", func() bool {
		return s.read(h.Run(s.register(""))).Result.ContainerInstanceARN == first.Result.ContainerInstanceARN
	})
}
