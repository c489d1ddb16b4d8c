package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// livesOf is what changes when an agent, Docker or the agent's container is started anew.
func livesOf(h *lab.Machine) string {
	return h.MustShell("systemctl show -p Id,MainPID,NRestarts,ActiveEnterTimestampMonotonic,UnitFileState amazon-ssm-agent docker " + ecsUnit(h) +
		" && docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.RestartCount}}' ecs-agent")
}

// A host that AWS's script has set up comes under anywhere: without network, killed on the way, and with nothing started anew.
func TestAdopt(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	adopt := anywhere("adopt")
	s.fails(t, h, adopt, 12, failure.NotAdoptable, "no registration on this host", "", "anywhere register --token -")
	s.play(h, scriptEndpoints, scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec, scriptECS, scriptConfig)
	s.fails(t, h, adopt, 12, failure.NotAdoptable, "proves no container instance", "", "anywhere register")
	h.MustShell("chmod 640 /etc/ecs/ecs.config; " + strings.ReplaceAll(scriptECSStart, "%UNIT%", "ecs"))
	await(t, "the ECS agent is registered", func() bool { return len(s.aws.Instances()) == 1 && s.aws.Instances()[0].Connected })
	arn, node := s.aws.Instances()[0].ARN, s.aws.Nodes()[0].ID
	task := startTask(h)
	paths := []string{"/etc", "/var/lib/ecs", "/var/lib/amazon/ssm/Vault", "/root/.aws"}
	before, lives := h.Tree(paths...), livesOf(h)

	h.MustShell("iptables -I OUTPUT -o host0 -j DROP")
	if res := h.Run(anywhere("adopt", "--dry-run", "--detailed-exitcode")); res.Exit != 11 {
		t.Errorf("a dry run: %v", res)
	}
	if diff := lab.Diff(before, h.Tree(paths...)); len(diff) > 0 {
		t.Errorf("it has changed %v", diff)
	}
	r := s.begin(h, adopt)
	if !r.until(line(`"kind":"reload"`)) {
		t.Fatalf("it ended: %v", r.end())
	}
	r.killed()
	if res := h.Run(anywhere("rollback")); res.Exit != 0 {
		t.Errorf("rollback: %v", res)
	}
	if diff := lab.Diff(before, h.Tree(paths...)); len(diff) > 0 {
		t.Errorf("killed and undone: %v", diff)
	}
	kills := 0
	for added := 1; ; added++ {
		r := s.begin(h, adopt)
		if !r.until(func(lines []string) bool { return len(lines) >= added }) {
			if res := r.end(); res.Exit != 0 {
				t.Fatalf("after %d kills: %v", kills, res)
			}
			break
		}
		r.killed()
		kills++
	}
	t.Logf("got through after %d kills", kills)
	if kills == 0 {
		t.Error("it was never killed")
	}
	res := h.Run(adopt)
	d := s.read(res)
	h.MustShell("iptables -D OUTPUT -o host0 -j DROP")
	if d.RC != 0 || d.Changed || d.Result.ContainerInstanceARN != arn || d.Result.ManagedInstanceID != node || d.Result.Verified != "local" ||
		d.Result.Cluster != cluster || d.Result.Region != region || d.Result.Account == "" || len(d.Warnings) > 0 {
		t.Fatalf("after %d kills: %v", kills, res)
	}
	allowed := []string{
		"/etc/ecs/ecs.config", "/etc/systemd/system/ecs.service.d", "/etc/systemd/system/ecs.service.d/50-anywhere.conf",
	}
	diff := differences(before, h.Tree(paths...), func(path string) bool { return slices.Contains(allowed, path) })
	if len(diff) > 0 {
		t.Errorf("it has changed\n%s", strings.Join(diff, "\n"))
	}
	want := "640\nECS_CLUSTER=prod\nAWS_DEFAULT_REGION=" + region + "\nECS_EXTERNAL=true\nAWS_EC2_METADATA_DISABLED=true\nECS_BACKEND_HOST=" + s.url
	if got := h.MustShell("stat -c %a /etc/ecs/ecs.config; cat /etc/ecs/ecs.config"); got != want {
		t.Errorf("ecs.config is %q; want %q", got, want)
	}
	if got := h.MustShell("systemctl show -p NeedDaemonReload,DropInPaths ecs"); !strings.Contains(got, "NeedDaemonReload=no") ||
		!strings.Contains(got, "50-anywhere.conf") {
		t.Errorf("systemd has not read the drop-in: %s", got)
	}
	if r := record(t, h); strings.Contains(r, "sha256") || strings.Contains(r, `"registration"`) || !strings.Contains(r, node) {
		t.Errorf("what AWS's script has made is taken for ours, or is not on record: %s", r)
	}
	for _, cmd := range []lab.Cmd{s.register(""), s.register("", "--cluster", cluster), adopt} {
		res := h.Run(cmd)
		if d := s.read(res); d.RC != 0 || d.Changed || d.Result.ContainerInstanceARN != arn {
			t.Errorf("%v: %v", cmd.Args, res)
		}
	}
	if now := livesOf(h); now != lives {
		t.Errorf("something was started anew:\n%s\nbefore:\n%s", now, lives)
	}
	taskRuns(t, h, task)
	s.comesTo(h, "healthy", "")

	// The folded configuration is good for the next start too.
	h.MustShell("systemctl restart ecs")
	since := time.Now()
	await(t, "the ECS agent is connected again", func() bool {
		all := s.aws.Instances()
		return len(all) == 1 && all[0].ARN == arn && all[0].Connected && time.Since(since) > time.Second
	})
	s.comesTo(h, "healthy", "")
	if d := s.mustRegister(h, s.register("")); d.Changed {
		t.Errorf("and again: %+v", d)
	}
}
