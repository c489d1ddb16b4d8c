package e2e

import (
	"encoding/json"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// health is what the tests look at in status's document.
type health struct {
	Changed, Failed bool
	RC              int
	Msg             string
	DurationMs      int64
	Warnings        []string
	Result          struct {
		State, Verified, ManagedInstanceID, ContainerInstanceARN string
		Reasons                                                  []struct{ Rule, Code, Message, Evidence, Remedy string }
		Registration                                             struct {
			Verdict string
			Agree   bool
		}
		ECSAgent struct {
			Cached, RunningImage, Running string
			RestartPending                bool
			Unit                          struct{ Active string }
		}
		SSMAgent  struct{ Running string }
		Exec      struct{ Ready bool }
		Operation struct {
			AtWork     string
			Unfinished *struct{ Verb string }
			Last       *struct{ How string }
		}
		Unseen []struct {
			Part      string
			NeedsRoot bool
		}
		Remote *struct{ Drift []struct{ Kind string } }
	}
}

// status runs "anywhere status" on a host, as root or as a user that may do nothing.
func (s *site) status(h *lab.Machine, cmd lab.Cmd) health {
	s.t.Helper()
	res := h.Run(cmd)
	var d health
	if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil {
		s.t.Fatalf("stdout is not one JSON object: %v\n%v", err, res)
	}
	if d.RC != res.Exit || d.Changed || d.Failed {
		s.t.Errorf("status is an answer, and changes nothing: %v", res)
	}
	return d
}

var (
	asRoot   = lab.Cmd{Args: []string{"anywhere", "status", "-o", "json"}}
	asNobody = lab.Cmd{Args: []string{"runuser", "-u", "nobody", "--", "anywhere", "status", "-o", "json"}}
)

// has reports whether one of the reasons has a code, and says what to do.
func (d health) has(code failure.Code) bool {
	for _, r := range d.Result.Reasons {
		if r.Code == string(code) && r.Remedy != "" {
			return true
		}
	}
	return false
}

// hides reports whether a part is said to be for root to see.
func (d health) hides(part string) bool {
	for _, u := range d.Result.Unseen {
		if u.Part == part && u.NeedsRoot {
			return true
		}
	}
	return false
}

// comesTo waits until the status is a state, with a reason of the code if there is one.
func (s *site) comesTo(h *lab.Machine, state string, code failure.Code) health {
	s.t.Helper()
	var last health
	await(s.t, "the status is "+state+" "+string(code), func() bool {
		last = s.status(h, asRoot)
		return last.Result.State == state && (code == "" || last.has(code))
	})
	if want := map[bool]int{true: 0, false: 10}[state == "healthy"]; last.RC != want {
		s.t.Errorf("%s exits %d", state, last.RC)
	}
	return last
}

// The status of a real host through the bad days of its life. Units stay active and the port answers on most of them.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	for _, cmd := range []lab.Cmd{asRoot, asNobody} {
		if d := s.status(h, cmd); d.Result.State != "unregistered" || d.RC != 10 {
			t.Errorf("before any registration: %+v", d)
		}
	}
	first := s.mustRegister(h, s.register(s.token(1)))

	well := s.comesTo(h, "healthy", "")
	if r := well.Result; r.ContainerInstanceARN != first.Result.ContainerInstanceARN || r.ManagedInstanceID != first.Result.ManagedInstanceID ||
		!r.Registration.Agree || r.Registration.Verdict != "sound" || r.ECSAgent.RestartPending || r.ECSAgent.RunningImage == "" ||
		r.ECSAgent.Cached != "1.105.1" || r.SSMAgent.Running == "" || !r.Exec.Ready || len(r.Unseen) > 0 || len(well.Warnings) > 0 {
		t.Errorf("%+v\nwarnings %q", r, well.Warnings)
	}
	t.Logf("a status took %d ms", well.DurationMs)
	before := h.Tree(treeOf...)
	user := s.status(h, asNobody)
	if user.Result.State != "healthy" || user.RC != 0 || user.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("an ordinary user: %+v", user)
	}
	for _, part := range []string{"registration and credentials", "an unfinished operation", "Docker"} {
		if !user.hides(part) {
			t.Errorf("an ordinary user cannot see %s, and is not told: %+v", part, user.Result.Unseen)
		}
	}
	if diff := lab.Diff(before, h.Tree(treeOf...)); len(diff) > 0 {
		t.Errorf("a status changed %v", diff)
	}

	h.MustShell("systemctl stop docker.socket docker.service")
	s.comesTo(h, "unhealthy", failure.DockerDown)
	h.MustShell("systemctl start docker.service ecs.service")
	s.comesTo(h, "healthy", "")

	for range 3 {
		await(t, "the agent runs", func() bool {
			return s.status(h, asRoot).Result.ContainerInstanceARN != "" && h.Shell("docker kill ecs-agent").Exit == 0
		})
	}
	s.comesTo(h, "unhealthy", failure.AgentCrashLoop)
	if u := h.Unit("ecs.service"); u.Active != "active" {
		t.Errorf("a loop inside ecs-init is one that systemd does not see: %+v", u)
	}
	h.MustShell("systemctl restart ecs.service")
	s.comesTo(h, "healthy", "")

	must(t, s.aws.Fault(emulator.FaultInstanceInactive))
	gone := s.comesTo(h, "unhealthy", failure.InstanceInactive)
	if gone.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN || gone.Result.ECSAgent.Unit.Active != "active" {
		t.Errorf("its port and its unit should be as ever: %+v", gone.Result)
	}
	s.mustRegister(h, s.register(""))
	s.comesTo(h, "healthy", "")

	s.aws.AddOperator(emulator.Key{ID: "AKIAOPERATOR00000001", Secret: secret.NewText("the-operators-secret-key")})
	remote := lab.Cmd{
		Args: []string{"anywhere", "status", "-o", "json", "--remote", "--endpoint-url", s.url},
		Env:  []string{"AWS_ACCESS_KEY_ID=AKIAOPERATOR00000001", "AWS_SECRET_ACCESS_KEY=the-operators-secret-key"},
	}
	if d := s.status(h, remote); d.Result.Verified != "aws" || len(d.Result.Remote.Drift) > 0 {
		t.Errorf("%s: %+v", d.Msg, d.Result.Remote)
	}
	s.aws.DeregisterNode(first.Result.ManagedInstanceID)
	if d := s.status(h, remote); d.RC != 10 || len(d.Result.Remote.Drift) != 1 || d.Result.Remote.Drift[0].Kind != "ssm_gone" {
		t.Errorf("%s: %+v", d.Msg, d.Result.Remote)
	}
	h.MustShell("systemctl restart amazon-ssm-agent.service") // its next call is what it notices by
	s.comesTo(h, "unhealthy", failure.NodeUnknown)
}

// An operation that was killed is half done until the same command has finished it, and an ordinary user is told that
// he cannot see it.
func TestStatusOfAnOperationThatWasKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	token := s.token(1)
	r := s.begin(h, s.register(token))
	if !r.until(line(`"is":"step"`, "ssm.package")) {
		t.Fatalf("it ended: %v", r.end())
	}
	if d := s.status(h, asRoot); d.Result.Operation.AtWork == "" && !r.over() {
		t.Errorf("a run that is at work: %+v", d.Result.Operation)
	}
	r.killed()
	d := s.comesTo(h, "half_done", failure.Unfinished)
	if d.Result.Operation.Unfinished == nil || d.Result.Operation.Unfinished.Verb != "register" {
		t.Errorf("%+v", d.Result.Operation)
	}
	s.proceed(h, s.again(h, token))
	if d := s.comesTo(h, "healthy", ""); d.Result.Operation.Last == nil || d.Result.Operation.Last.How != "done" {
		t.Errorf("%+v", d.Result.Operation)
	}
}
