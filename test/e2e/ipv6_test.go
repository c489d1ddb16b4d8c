package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// A host that has no IPv4 but its loopback and Docker's bridge: nobody says so, and everything goes by IPv6.
func TestIPv6Only(t *testing.T) {
	t.Parallel()
	const world = "fd77::1"
	if out, err := exec.Command("ip", "-6", "addr", "add", world+"/64", "dev", "br0", "nodad").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := newSiteAt(t, world, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	h.MustShell("ip -6 addr add fd77::2/64 dev host0 nodad && ip -6 route replace default via " + world +
		" && ip -4 route del default && ip -4 addr flush dev host0")
	first := s.mustRegister(h, s.register(s.token(1)))
	if again := s.mustRegister(h, s.register("")); again.Changed || again.Result != first.Result {
		t.Errorf("once more: %+v", again)
	}
	if got := h.MustShell("cat /etc/amazon/ssm/amazon-ssm-agent.json"); !strings.Contains(got, `"UseDualStackEndpoint": true`) {
		t.Errorf("the SSM agent is told\n%s", got)
	}
	if got := h.MustShell("anywhere preflight --list-endpoints --region " + region + " -o json"); !strings.Contains(got, "ecs."+region+".api.aws") ||
		!strings.Contains(got, "s3.dualstack."+region+".amazonaws.com") {
		t.Errorf("the endpoints are %s", got)
	}
	explicit := s.mustRegister(h, s.register("", "--ip-mode", "ipv6"))
	if got := h.MustShell("cat /etc/ecs/ecs.config"); !explicit.Changed || explicit.Result != first.Result ||
		!strings.Contains(got, "ECS_INSTANCE_IP_COMPATIBILITY=ipv6") {
		t.Errorf("%+v; the ECS agent is told\n%s", explicit, got)
	}
}
