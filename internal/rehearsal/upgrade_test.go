package rehearsal

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// Versions that an upgrade leads to.
const (
	nextSSM = newerSSM
	nextECS = newerECS
)

// upgraded is what the tests look at in upgrade's document.
type upgraded struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Steps           []struct{ ID, Status, Detail string }
	Result          lifecycle.UpgradeResult
	Error           struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// upgrade runs "anywhere upgrade" with a short watch.
func (s *stage) upgrade(t *testing.T, flags ...string) upgraded {
	t.Helper()
	return s.upgrades(t, line{args: append([]string{"upgrade", "--watch-time", "200ms"}, flags...)})
}

func (s *stage) upgrades(t *testing.T, l line) upgraded {
	t.Helper()
	c, err := s.play(context.Background(), l, cli.RehearseRequest{})
	var d upgraded
	if broken := json.Unmarshal(c.Document, &d); broken != nil {
		t.Fatalf("%v, %v: %s", err, broken, c.Document)
	}
	return d
}

// publish adds versions to the buckets; "" is none. fault is what the ECS agent's does wrong.
func (s *stage) publish(t *testing.T, ssm, ecs, fault string) {
	t.Helper()
	if ssm != "" {
		if err := addSSM(s.buckets, region, s.key, ssm); err != nil {
			t.Fatal(err)
		}
	}
	if ecs != "" {
		if err := addECS(s.buckets, region, s.key, ecs, fault); err != nil {
			t.Fatal(err)
		}
	}
}

// joined is a stage whose host is registered, with a token.
func joined(t *testing.T) (*stage, register) {
	t.Helper()
	s := empty(t)
	s.anotherToken()
	d := s.run(t, withToken)
	if d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	return s, d
}

// disarmed checks that nothing is left of an upgrade that is over, whichever way.
func (s *stage) disarmed(t *testing.T) {
	t.Helper()
	for _, name := range []string{"/var/lib/anywhere/deadline.json", "/var/lib/anywhere/bin", "/etc/systemd/system/anywhere-upgrade.timer",
		"/etc/systemd/system/anywhere-upgrade.service", "/etc/systemd/system/timers.target.wants/anywhere-upgrade.timer",
		"/var/lib/anywhere/journal/open.jsonl", "/usr/sbin/policy-rc.d"} {
		if _, err := os.Lstat(filepath.Join(s.machine.root, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

func TestUpgradeOfBothAndBack(t *testing.T) {
	t.Parallel()
	s, first := joined(t)
	if d := s.upgrade(t); d.RC != 0 || d.Changed || d.Result.ECSAgent.Due {
		t.Fatalf("nothing is newer: %+v", d)
	}
	task := s.aws.AddTask(first.Result.ContainerInstanceARN, emulator.Task{Service: "web"})
	s.until(t, func(h health) bool { return h.Result.Tasks.Running == 1 })
	s.publish(t, nextSSM, nextECS, "")
	check := s.upgrades(t, line{args: []string{"upgrade", "--check", "--detailed-exitcode"}, unchanged: true})
	if check.RC != 11 || check.Failed || !check.Result.ECSAgent.Due || check.Result.ECSAgent.Newest != nextECS || check.Result.SSMAgent.Newest != nextSSM ||
		check.Result.ECSAgent.Action != "replace" || !strings.Contains(check.Msg, "by "+nextECS) {
		t.Errorf("--check: %+v", check)
	}
	absent := s.upgrades(t, line{args: []string{"upgrade", "--check", "--ecs-agent-version", "9.9.9"}, unchanged: true})
	if absent.RC != 5 || !strings.Contains(absent.Error.Message, "amazon-ecs-init-9.9.9-1") {
		t.Errorf("--check of a version that is nowhere: %+v %+v", absent, absent.Error)
	}
	if absent = s.upgrades(t, line{args: []string{"upgrade", "--dry-run", "--ecs-agent-version", "9.9.9"}, unchanged: true}); absent.RC != 5 {
		t.Errorf("--dry-run of a version that is nowhere: %+v %+v", absent, absent.Error)
	}
	named := s.upgrades(t, line{args: []string{"upgrade", "--check", "--detailed-exitcode", "--ecs-agent-version", nextECS}, unchanged: true})
	if named.RC != 11 || named.Result.ECSAgent.Wanted != nextECS {
		t.Errorf("--check of a version that is there: %+v %+v", named, named.Error)
	}
	dry := s.upgrades(t, line{args: []string{"upgrade", "--dry-run", "--detailed-exitcode"}, unchanged: true})
	if dry.RC != 11 || dry.Changed {
		t.Errorf("--dry-run: %+v", dry)
	}
	d := s.upgrade(t)
	if d.RC != 0 || !d.Changed || d.Result.ECSAgent.Installed != nextECS || d.Result.ECSAgent.Running != "1.106.0" ||
		d.Result.SSMAgent.Installed != nextSSM+"-1" || d.Result.DisconnectedMs <= 0 || d.Result.ECSAgent.Before != ecsVersion {
		t.Fatalf("%+v", d)
	}
	if d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Errorf("it is another instance: %+v", d.Result)
	}
	s.disarmed(t)
	if again := s.upgrade(t); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
	if again := s.run(t, line{args: []string{"register"}}); again.RC != 0 || again.Changed {
		t.Errorf("a registration after it: %+v", again)
	}
	s.until(t, func(h health) bool {
		return h.Result.State == lifecycle.Healthy && h.Result.Tasks.Running == 1 && h.Result.Tasks.List[0].ARN == task
	})

	back := s.upgrades(t, line{args: []string{"rollback", "--watch-time", "200ms"}})
	if back.RC != 0 || !back.Changed || back.Result.ECSAgent.Installed != ecsVersion || back.Result.SSMAgent.Installed != ssmVersion+"-1" ||
		back.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("rollback: %+v", back)
	}
	s.disarmed(t)
	if again := s.upgrades(t, line{args: []string{"rollback", "--watch-time", "200ms"}}); again.RC != 12 || again.Error.Code != string(failure.NothingToRollBack) {
		t.Errorf("a second rollback: %+v", again)
	}
	if d := s.upgrade(t); d.RC != 0 || !d.Changed || d.Result.ECSAgent.Installed != nextECS {
		t.Errorf("and forward again: %+v", d)
	}
}

// Every kind of a bad version ends with the old agent connected, and is not tried again.
func TestBadVersionsAreTakenBack(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault string
		code  failure.Code
		says  string
	}{
		{simagent.FaultCrash, failure.AgentCrashLoop, "has died"},
		{simagent.FaultDeaf, failure.ConnectTimeout, "while this host itself reaches ECS"},
		{simagent.FaultVersion, failure.NotVerified, "says that it is 1.0.0"},
		{simagent.FaultForget, failure.NotVerified, "another container instance"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			s, first := joined(t)
			s.publish(t, nextSSM, nextECS, test.fault)
			d := s.upgrade(t, "--wait-timeout", "3s")
			if d.RC != 7 || !d.Error.RolledBack || d.Changed || d.Error.Code != string(test.code) || !strings.Contains(d.Error.Message, test.says) {
				t.Fatalf("%+v", d)
			}
			if d.Result.ECSAgent.Installed != ecsVersion || d.Result.SSMAgent.Installed != ssmVersion+"-1" {
				t.Errorf("installed are %+v", d.Result)
			}
			if owed := test.fault == simagent.FaultForget; owed != (len(d.Result.Owed) == 1 && strings.HasPrefix(d.Result.Owed[0], "aws ecs deregister-container-instance ") &&
				!strings.Contains(d.Result.Owed[0], first.Result.ContainerInstanceARN)) {
				t.Errorf("owed is %q", d.Result.Owed)
			}
			s.disarmed(t)
			s.until(t, func(h health) bool { return h.Result.State == lifecycle.Healthy })
			if now := s.run(t, line{args: []string{"register"}}); now.Changed || now.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
				t.Errorf("afterwards: %+v", now)
			}
			again := s.upgrade(t, "--only", "ecs")
			if again.RC != 0 || again.Changed || !again.Result.ECSAgent.FailedBefore ||
				!slices.ContainsFunc(again.Warnings, func(w string) bool { return strings.Contains(w, "is not tried again") }) {
				t.Errorf("the same again: %+v", again)
			}
			if len(again.Result.Failed) != 1 || !strings.Contains(s.read(t, again.Result.Failed[0].Logs), "1.106.0-1 was taken back") {
				t.Errorf("remembered is %+v", again.Result.Failed)
			}
		})
	}
}

// With --drain the tasks leave first, and the instance is ACTIVE again at the end, whichever end that is.
func TestUpgradeWithDrain(t *testing.T) {
	t.Parallel()
	s, first := joined(t)
	status := func() string {
		for _, i := range s.aws.Instances() {
			if i.ARN == first.Result.ContainerInstanceARN {
				return i.Status
			}
		}
		return ""
	}
	drained := func(flags ...string) upgraded {
		return s.upgrades(t, line{operator: true, args: append([]string{"upgrade", "--only", "ecs", "--watch-time", "200ms", "--drain"}, flags...)})
	}
	s.aws.AddTask(first.Result.ContainerInstanceARN, emulator.Task{Family: "job"}) // it never leaves by itself
	s.publish(t, "", nextECS, "")
	if d := drained("--drain-timeout", "500ms"); d.RC != 7 || d.Error.Code != string(failure.DrainTimeout) || d.Changed || status() != "ACTIVE" ||
		d.Result.ECSAgent.Installed != ecsVersion {
		t.Errorf("a task that stays: %+v; the instance is %s", d, status())
	}
	s.disarmed(t)
	for _, task := range s.aws.Tasks() {
		s.aws.FinishTask(task.ARN)
	}
	d := drained()
	if d.RC != 0 || !d.Changed || d.Result.ECSAgent.Installed != nextECS || status() != "ACTIVE" {
		t.Errorf("%+v; the instance is %s", d, status())
	}
	s.disarmed(t)
	s.publish(t, "", "1.107.0-1", simagent.FaultVersion)
	if d = drained(); d.RC != 7 || d.Result.ECSAgent.Installed != nextECS || status() != "ACTIVE" {
		t.Errorf("a bad version: %+v; the instance is %s", d, status())
	}
	s.disarmed(t)
	if d = drained(); d.RC != 0 || d.Changed || status() != "ACTIVE" {
		t.Errorf("nothing to do: %+v; the instance is %s", d, status())
	}
}

// AWS that asks to slow down, or has trouble of its own, is no reason to give the new agent up: it has its time again once
// that is over.
func TestAWSIsOutDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{emulator.FaultThrottled, emulator.FaultServerError} {
		t.Run(fault, func(t *testing.T) {
			s, first := joined(t)
			s.publish(t, "", nextECS, "")
			done := make(chan upgraded)
			go func() { done <- s.upgrade(t, "--only", "ecs", "--wait-timeout", "2s") }()
			if !eventually(func() bool { return strings.Contains(s.glance(ecsagent.InitLogPath), `msg="stop"`) }) {
				t.Fatal("the agent was not stopped")
			}
			s.fault(fault)
			calls := len(s.aws.Requests())
			if !eventually(func() bool { return len(s.aws.Requests()) > calls+4 }) {
				t.Fatal("nobody asked AWS")
			}
			select {
			case d := <-done:
				t.Fatalf("it has not waited: %+v", d)
			case <-time.After(3 * time.Second): // longer than --wait-timeout
			}
			s.aws.ClearFault(fault)
			if d := <-done; d.RC != 0 || d.Result.ECSAgent.Installed != nextECS || d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
				t.Errorf("%+v", d)
			}
			s.disarmed(t)
		})
	}
}

// While this host itself does not reach ECS nothing is held against an agent that does not connect; once it does, the agent's
// time runs.
func TestTheNetworkIsOutDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	s, _ := joined(t)
	s.publish(t, "", nextECS, simagent.FaultDeaf)
	var out atomic.Bool
	dial := s.machine.network.Dial
	s.machine.network.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if out.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
		}
		return dial(ctx, network, address)
	}
	done := make(chan upgraded)
	go func() { done <- s.upgrade(t, "--only", "ecs", "--wait-timeout", "1s") }()
	if !eventually(func() bool { return strings.Contains(s.glance(ecsagent.InitLogPath), `msg="stop"`) }) {
		t.Fatal("the agent was not stopped")
	}
	out.Store(true)
	select {
	case d := <-done:
		t.Fatalf("it has not waited: %+v", d)
	case <-time.After(3 * time.Second): // longer than --wait-timeout
	}
	out.Store(false)
	if d := <-done; d.RC != 7 || d.Error.Code != string(failure.ConnectTimeout) || !strings.Contains(d.Error.Message, "this host itself reaches ECS") {
		t.Errorf("%+v", d)
	}
	s.disarmed(t)
	s.until(t, func(h health) bool { return h.Result.State == lifecycle.Healthy })
}

// glance is what is in a file now; empty when it is not there.
func (s *stage) glance(name string) string {
	text, _ := os.ReadFile(filepath.Join(s.machine.root, name))
	return string(text)
}

// eventually asks until it is so, for half a minute.
func eventually(so func() bool) bool {
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if so() {
			return true
		}
	}
	return false
}

// A host that anywhere did not register is adopted first, which the plan shows; nothing of it becomes anywhere's own.
func TestUpgradeOfAHostThatIsSomebodyElses(t *testing.T) {
	t.Parallel()
	s, first := joined(t)
	const record = "/var/lib/anywhere/record.json"
	s.remove(t, record)
	s.publish(t, "", "1.107.0-1", simagent.FaultVersion)
	if d := s.upgrade(t, "--only", "ecs"); d.RC != 7 || s.glance(record) != "" {
		t.Errorf("a bad version: %+v; the record is %s", d, s.glance(record))
	}
	s.publish(t, nextSSM, "1.108.0-1", "")
	adopts := func(d upgraded, status string) bool {
		return slices.ContainsFunc(d.Steps, func(step struct{ ID, Status, Detail string }) bool {
			return step.ID == "adopt" && step.Status == status && (status != "planned" || strings.Contains(step.Detail, first.Result.ContainerInstanceARN))
		})
	}
	if dry := s.upgrades(t, line{args: []string{"upgrade", "--dry-run"}, unchanged: true}); dry.RC != 0 || !adopts(dry, "planned") {
		t.Errorf("--dry-run: %+v", dry)
	}
	d := s.upgrade(t)
	if d.RC != 0 || d.Result.ECSAgent.Installed != "1.108.0-1" || d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN || !adopts(d, "done") {
		t.Fatalf("%+v", d)
	}
	adopted := func() {
		t.Helper()
		var is lifecycle.Record
		if err := json.Unmarshal([]byte(s.read(t, record)), &is); err != nil {
			t.Fatal(err)
		}
		if len(is.Packages) > 0 || len(is.Files) > 0 || is.Registration != nil {
			t.Errorf("it claims %+v", is)
		}
		if a := is.Adopted; a == nil || a.ManagedInstanceID != first.Result.ManagedInstanceID || a.Account != account || a.Region != region ||
			a.Cluster != cluster || a.ContainerInstanceARN != first.Result.ContainerInstanceARN || a.Packages[ecsagent.Package] != ecsVersion {
			t.Errorf("it has adopted %+v", a)
		}
	}
	adopted()
	if back := s.upgrades(t, line{args: []string{"rollback", "--watch-time", "200ms"}}); back.RC != 0 || back.Result.ECSAgent.Installed != ecsVersion {
		t.Errorf("and back: %+v", back)
	}
	adopted()
	if again := s.upgrades(t, line{args: []string{"adopt", "--dry-run"}, unchanged: true}); again.RC != 0 ||
		slices.ContainsFunc(again.Steps, func(step struct{ ID, Status, Detail string }) bool {
			return step.ID == "record" && step.Status == "planned"
		}) {
		t.Errorf("adopt has something to add: %+v", again)
	}
}

// What an upgrade cannot begin with is refused before anything is touched.
func TestUpgradesThatAreRefused(t *testing.T) {
	t.Parallel()
	t.Run("no way back", func(t *testing.T) {
		s, _ := joined(t)
		s.publish(t, "", nextECS, "")
		old := "amazon-ecs-init_" + ecsVersion + "_" + goarch() + ".deb"
		s.remove(t, lifecycle.PackageDir+"/"+old)
		if err := s.buckets.Remove("/amazon-ecs-agent-" + region + "/amazon-ecs-init-" + ecsVersion + "." + goarch() + ".deb"); err != nil {
			t.Fatal(err)
		}
		before := s.everything(t)
		if dry := s.upgrades(t, line{args: []string{"upgrade", "--only", "ecs", "--dry-run"}, unchanged: true}); dry.RC != 12 ||
			dry.Error.Code != string(failure.NoWayBack) {
			t.Errorf("--dry-run: %+v", dry)
		}
		if check := s.upgrades(t, line{args: []string{"upgrade", "--only", "ecs", "--check"}, unchanged: true}); check.RC != 0 ||
			!slices.ContainsFunc(check.Warnings, func(w string) bool {
				return strings.Contains(w, "there is no way back to it") && strings.Contains(w, "--accept-risk no-way-back")
			}) {
			t.Errorf("--check: %+v", check)
		}
		if risky := s.upgrades(t, line{args: []string{"upgrade", "--only", "ecs", "--dry-run", "--accept-risk", "no-way-back"}, unchanged: true}); risky.RC != 0 {
			t.Errorf("--dry-run with the risk: %+v", risky)
		}
		d := s.upgrade(t, "--only", "ecs")
		if d.RC != 12 || d.Error.Code != string(failure.NoWayBack) || d.Changed || d.Error.RolledBack {
			t.Errorf("%+v", d)
		}
		if diff := differs(before, s.everything(t)); len(diff) > 0 {
			t.Errorf("it touched %v", diff)
		}
		s.disarmed(t)
		if d = s.upgrade(t, "--only", "ecs", "--accept-risk", "no-way-back"); d.RC != 0 || d.Result.ECSAgent.Installed != nextECS ||
			!slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, "there is no way back") }) {
			t.Errorf("with the risk accepted: %+v", d)
		}
	})
	t.Run("no instance", func(t *testing.T) {
		s := empty(t)
		before := s.everything(t)
		for _, flags := range [][]string{nil, {"--check"}, {"--dry-run"}} {
			if d := s.upgrade(t, flags...); d.RC != 12 || d.Error.Code != string(failure.NoInstance) || d.Changed {
				t.Errorf("%v: %+v", flags, d)
			}
		}
		if diff := differs(before, s.everything(t)); len(diff) > 0 {
			t.Errorf("it touched %v", diff)
		}
	})
	t.Run("the SSM agent is a snap", func(t *testing.T) {
		s, _ := joined(t)
		s.write(t, "/snap/amazon-ssm-agent/current/amazon-ssm-agent", "")
		if d := s.upgrade(t); d.RC != 12 || d.Error.Code != string(failure.SnapAgent) || d.Changed {
			t.Errorf("%+v", d)
		}
	})
	t.Run("another operation is unfinished", func(t *testing.T) {
		s, _ := joined(t)
		s.publish(t, "", nextECS, "")
		s.write(t, "/var/lib/anywhere/journal/open.jsonl",
			`{"anywhereJournal":1,"verb":"register","key":"k","run":"run-0","program":"1.2.3","pins":{},"started":"2026-11-22T09:00:00Z"}`+"\n")
		if d := s.upgrade(t); d.RC != 12 || d.Error.Code != string(failure.Unfinished) || d.Changed || !strings.Contains(d.Error.Remedy, "anywhere rollback") {
			t.Errorf("%+v", d)
		}
	})
}

// The story is played to its end.
func TestTheStoryOfAnUpgrade(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	report, err := Run(t.Context(), env, cli.RehearseRequest{Scenario: "upgrade", JSON: true})
	if err != nil {
		t.Fatalf("%v\n%+v", err, report.Result)
	}
	if commands := report.Result.(Result).Commands; len(commands) != len(scenarios["upgrade"]) {
		t.Errorf("%d commands were run", len(commands))
	}
}
