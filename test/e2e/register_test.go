package e2e

import (
	"fmt"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

func TestRegister(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprint("cgroup v", version), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, packages.Options{}, packages.Options{})
			h := s.host(lab.Host{Cgroup: version})
			first := s.mustRegister(h, s.register(s.token(1)))
			if !first.Changed {
				t.Error("a registration is a change")
			}
			for _, unit := range []string{"amazon-ssm-agent.service", "ecs.service"} {
				if u := h.Unit(unit); u.Active != "active" || u.Sub != "running" || u.Enabled != "enabled" || u.Restarts != 0 {
					t.Errorf("%s is %+v", unit, u)
				}
			}

			before, fetched := h.Tree("/etc", "/usr", "/var/lib/anywhere", "/var/lib/ecs", "/root"), s.asked("s3:")
			second := s.mustRegister(h, s.register(""))
			if second.Changed || second.Result != first.Result {
				t.Errorf("the second run says %+v, the first %+v", second, first)
			}
			if n := s.asked("s3:") - fetched; n != 0 {
				t.Errorf("the second run downloaded %d objects", n)
			}
			if diff := lab.Diff(before, h.Tree("/etc", "/usr", "/var/lib/anywhere", "/var/lib/ecs", "/root")); len(diff) > 0 {
				t.Errorf("the second run changed %v", diff)
			}

			h.Reboot()
			await(t, "registered again after a reboot", func() bool {
				return s.read(h.Run(s.register(""))).Result.ContainerInstanceARN == first.Result.ContainerInstanceARN
			})
			if n := len(s.aws.Instances()); n != 1 {
				t.Errorf("ECS has %d instances of one host", n)
			}
		})
	}
}
