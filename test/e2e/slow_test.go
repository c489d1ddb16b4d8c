//go:build slow

package e2e

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/simagent"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

func init() {
	slow = append(slow, lab.ProvisionARM,
		packages.BuildAgentsForARM("simagent-arm64", simagent.DefaultSSMVersion, simagent.DefaultECSVersion),
		packages.BuildAgentsForARM("simagent-next-arm64", nextSSM, strings.TrimSuffix(nextECS, "-1")))
}

// A whole host for arm64: its systemd, dpkg and agents and the program itself are emulated. It is registered, registered
// again, upgraded, and given up.
func TestHostForARM64(t *testing.T) {
	s := newSite(t, packages.Options{}, packages.Options{})
	options := func(version, program string) packages.Options {
		return packages.Options{Version: version, Program: lab.Shared(program), Arch: "arm64"}
	}
	s.mirror.AddSSMAgent(options(ssmVersion, "simagent-arm64"))
	s.mirror.AddECSInit(options(ecsVersion, "simagent-arm64"))
	h := lab.Start(t, lab.Host{ARM: true})
	h.CopyIn("/usr/local/bin/anywhere", lab.Shared("anywhere-arm64"), 0o755)
	h.WriteFile(keyring, s.mirror.Keyring(), 0o644)
	if got := h.MustShell("uname -m; dpkg --print-architecture; systemctl --version | sed -n 1p; docker info -f '{{.ServerVersion}}, cgroup v{{.CgroupVersion}}'"); !strings.HasPrefix(got, "aarch64\narm64\n") {
		t.Fatalf("this is no host for arm64: %s", got)
	} else {
		t.Log(got)
	}
	first := s.mustRegister(h, s.register(s.token(1)))
	if d := s.read(h.Run(s.register(""))); d.RC != 0 || d.Changed {
		t.Errorf("the second run: %+v", d)
	}
	if got := h.MustShell("dpkg-query -W -f '${Architecture} ' amazon-ecs-init amazon-ssm-agent; file=$(docker inspect -f '{{.Image}}' ecs-agent) && docker image inspect -f '{{.Architecture}}' $file"); got != "arm64 arm64 arm64" {
		t.Errorf("packages and image are for %s", got)
	}
	s.mirror.AddSSMAgent(options(nextSSM, "simagent-next-arm64"))
	s.mirror.AddECSInit(options(nextECS, "simagent-next-arm64"))
	up := s.upgraded(h.Run(s.upgrade()))
	if up.RC != 0 || up.Result.ECSAgent.Running != strings.TrimSuffix(nextECS, "-1") || up.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("upgrade: %+v", up)
	}
	gone := h.Run(lab.Cmd{Args: []string{"anywhere", "deregister", "--local-only", "--yes", "-o", "json"}})
	if gone.Exit != 0 {
		t.Errorf("deregister: %v", gone)
	}
	if said := h.Shell("dpkg-query -W amazon-ecs-init amazon-ssm-agent"); said.Exit == 0 {
		t.Errorf("packages are left: %v", said)
	}
}
