//go:build slow

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

func init() {
	slow = append(slow, lab.ProvisionReleases("bullseye", "trixie", "sid"))
	rpmSystems["fedora42 on sid"], rpmSystems["amzn2023 on sid"], rpmSystems["sles15 on sid"] = "ecs.service", "ecs.service", "amazon-ecs.service"
}

// debians are releases of Debian, each with its own systemd, Docker, dpkg and apt. One more is one more row here, and its
// suite among those that are provisioned.
var debians = []struct {
	suite           string
	systemd, docker string // what it must be made of, or it is not what the row says
	os              string // what preflight says of it
	packed          string // what its dpkg can unpack, where it does not know all
	cgroups         []int  // systemd has no v1 from 258 on
}{
	{"bullseye", "247", "20.10", "pass: Debian GNU/Linux 11 (bullseye) is on AWS's list", "xz", []int{1, 2}},
	{"trixie", "257", "26.1", "warn: Debian GNU/Linux 13 (trixie) is not on AWS's list", "", []int{1, 2}},
	{"sid", "262", "28.5", "warn: Debian GNU/Linux forky/sid is not on AWS's list", "", []int{2}},
}

// otherSSM is one more version of the SSM agent.
const otherSSM = "3.3.4999.0"

// A life on other releases of Debian: looked at, registered, again, upgraded, rolled back, booted, examined, deregistered.
func TestLifeOnOtherReleases(t *testing.T) {
	for _, row := range debians {
		for _, version := range row.cgroups {
			t.Run(fmt.Sprintf("%s, cgroup v%d", row.suite, version), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, packages.Options{Compression: row.packed}, packages.Options{})
				h := s.host(lab.Host{Suite: row.suite, Cgroup: version})
				for _, name := range []string{"/etc/simagent.json", "/etc/ecs/simagent.json"} {
					h.WriteFile(name, []byte(quick), 0o644)
				}
				made := h.MustShell("systemctl --version | sed -n 1p; docker info -f '{{.ServerVersion}}, cgroup v{{.CgroupVersion}}, {{.Driver}}'; dpkg --version | sed -n 1p; apt-get --version | sed -n 1p")
				t.Log(made)
				if !strings.HasPrefix(made, "systemd "+row.systemd+" ") ||
					!strings.Contains(made, fmt.Sprintf("\n%s", row.docker)) || !strings.Contains(made, fmt.Sprintf("cgroup v%d", version)) {
					t.Fatalf("this is not what the row says: %s", made)
				}
				before := h.Tree(lived...)
				s.seenBefore(t, h, row.os, version)
				if diff := differences(before, h.Tree(lived...), ofTheLife); len(diff) > 0 {
					t.Errorf("preflight changed %v", diff)
				}

				if row.packed != "" { // what its dpkg cannot unpack is refused with the reason, and leaves nothing
					s.publish(&packages.Options{Version: otherSSM, Compression: "zstd"}, nil)
					d := s.read(h.Run(s.register(s.token(1), "--ssm-agent-version", otherSSM)))
					if d.RC != 7 || d.Error == nil || !d.Error.RolledBack || !strings.Contains(d.Error.Message, "does not know how its data.tar.zst is compressed") {
						t.Errorf("a package that its dpkg cannot unpack: %+v %+v", d, d.Error)
					}
					if diff := differences(before, h.Tree(lived...), ofTheLife); len(diff) > 0 {
						t.Errorf("it was undone, and left %v", diff)
					}
				}
				first := s.mustRegister(h, s.register(s.token(1), "--ssm-agent-version", ssmVersion))
				task := longTask(h)
				if !first.Changed || !strings.HasPrefix(first.Result.DockerVersion, row.docker) {
					t.Errorf("registered: %+v", first)
				}
				tree, fetched := h.Tree(treeOf...), s.asked("s3:")
				if again := s.mustRegister(h, s.register("", "--ssm-agent-version", ssmVersion)); again.Changed || again.Result != first.Result || s.asked("s3:") != fetched {
					t.Errorf("again: %+v", again)
				}
				if diff := lab.Diff(tree, h.Tree(treeOf...)); len(diff) > 0 {
					t.Errorf("the second run changed %v", diff)
				}
				s.comesTo(h, "healthy", "")
				if d := s.doctor(h, "--offline"); d.RC != 0 || len(d.Result.Unseen) != 1 {
					t.Errorf("a healthy host, and doctor says %+v", d)
				}

				s.publish(&packages.Options{Version: nextSSM, Compression: row.packed}, &packages.Options{Version: nextECS})
				d := s.upgraded(h.Run(s.upgrade()))
				if d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || d.Result.SSMAgent.Installed != nextSSM+"-1" ||
					d.Result.ECSAgent.Running != "1.106.0" || d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
					t.Fatalf("upgrade: %+v %+v", d, d.Error)
				}
				disarmed(t, h)
				s.settledIn(h)
				d = s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "2s"}}))
				if d.RC != 0 || d.Result.ECSAgent.Installed != ecsVersion || d.Result.SSMAgent.Installed != ssmVersion+"-1" {
					t.Errorf("rollback: %+v %+v", d, d.Error)
				}
				disarmed(t, h)
				taskRuns(t, h, task)

				h.MustShell("docker rm -f " + strings.Fields(task)[0])
				h.Reboot()
				s.comesTo(h, "healthy", "")
				s.settledIn(h)
				s.agree(first)
				if d := s.doctor(h, "--offline"); d.RC != 0 || d.Result.State != "healthy" {
					t.Errorf("after a boot doctor says %+v", d)
				}
				// What the journal of this systemd tells is read.
				h.MustShell("systemctl disable --now ecs.service")
				if d := s.doctor(h, "--offline"); d.RC != 10 || d.fix("ecs.service") != "possible" {
					t.Errorf("a stopped agent, and doctor says %+v", d)
				}
				if d := s.doctor(h, "--offline", "--fix", "--yes"); d.RC != 0 || d.fix("ecs.service") != "done" || d.Result.State != "healthy" {
					t.Errorf("doctor --fix: %+v", d)
				}

				s.leaves(h, before, s.deregister())
				h.Reboot()
				s.isGone(h, before)
			})
		}
	}
}

// seenBefore asks preflight what it says of a host that was never registered.
func (s *site) seenBefore(t *testing.T, h *lab.Machine, os string, cgroup int) {
	t.Helper()
	c := preflight(t, h, nil, "--offline")
	said := map[string]string{}
	for _, one := range c.Result.Checks {
		said[one.ID] = one.Status + ": " + one.Detail
		if one.Status == "fail" && !strings.HasPrefix(one.ID, "network.") {
			t.Errorf("%s: %s (%s)", one.ID, one.Detail, one.Remedy)
		}
	}
	for id, want := range map[string]string{
		"os.release": os, "os.systemd": "pass: ", "cgroup.version": fmt.Sprintf("pass: v%d", cgroup), "cgroup.driver": "pass: ",
		"docker.presence": "pass: ", "docker.flavour": "pass: ", "docker.daemon": "pass: ", "docker.version": "pass: ",
	} {
		t.Logf("%s: %s", id, said[id])
		if !strings.HasPrefix(said[id], want) {
			t.Errorf("%s: %q, want %q", id, said[id], want)
		}
	}
}
