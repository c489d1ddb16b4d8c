package lifecycle

import (
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// A unit that is told to stop has 90 seconds for it, unless its file says otherwise: an agent that waits for the end of the
// old one must not be taken for one that does not come up.
func TestPatienceExceedsTheUnitsStopTime(t *testing.T) {
	const stopTime = 90 * time.Second // systemd-system.conf(5), DefaultTimeoutStopSec
	if UpgradePatience <= stopTime || longestWatch <= UpgradePatience || UpgradeSteady >= UpgradePatience {
		t.Errorf("patience %s, steady %s, the longest watch %s", UpgradePatience, UpgradeSteady, longestWatch)
	}
}

// began is when the new agents of these tests were started.
var began = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

var watchedARN = instanceARN(account, region, "shop")

func goal() watchGoal {
	return watchGoal{
		ECS: true, SSM: true, ECSVersion: "1.106.0", SSMVersion: "3.3.5000.0", Cluster: "shop", ARN: watchedARN, Node: nodeID, Connected: true,
		Tasks: []string{"task/1"}, Containers: map[string]time.Time{"c1": began.Add(-time.Hour)},
		Patience: 3 * time.Minute, Steady: 20 * time.Second,
	}
}

// well is a look at agents that are as they must be, so long after their start.
func well(after time.Duration) watchSight {
	return watchSight{
		now:     began.Add(after),
		ecsUnit: host.Unit{Name: ecsagent.Unit, Loaded: true, Active: "active", Sub: "running"}, answered: true,
		meta:  ecsagent.Metadata{Cluster: "shop", ContainerInstanceARN: watchedARN, Version: "1.106.0"},
		life:  ecsagent.Life{Connected: began.Add(time.Second)},
		tasks: []ecsagent.Task{{ARN: "task/1", KnownStatus: "RUNNING", DesiredStatus: "RUNNING", Containers: []ecsagent.TaskContainer{{ID: "c1", Name: "web"}}}},
		asked: true, running: map[string]time.Time{"c1": began.Add(-time.Hour)}, listed: true,
		ssmUnit: host.Unit{Name: ssmagent.UnitName, Loaded: true, Active: "active", Sub: "running"}, ssmVersion: "3.3.5000.0",
		node: nodeID, endpoint: reachable,
	}
}

// but is a look with something changed.
func but(after time.Duration, change func(*watchSight)) watchSight {
	s := well(after)
	change(&s)
	return s
}

func TestWatch(t *testing.T) {
	died := func(n int) func(*watchSight) {
		return func(s *watchSight) {
			s.answered, s.life.Connected = false, time.Time{}
			for i := range n {
				s.life.Deaths = append(s.life.Deaths, began.Add(time.Duration(i)*time.Second))
			}
		}
	}
	deaf := func(s *watchSight) { s.life.Connected = time.Time{} }
	silent := func(s *watchSight) { s.answered, s.life.Connected = false, time.Time{} }
	out := func(change func(*watchSight)) func(*watchSight) {
		return func(s *watchSight) { change(s); s.endpoint = unreachable }
	}
	says := func(code failure.Code, terminal bool, change func(*watchSight)) func(*watchSight) {
		return func(s *watchSight) {
			change(s)
			s.life.Findings = []ecsagent.Finding{{Code: code, Time: began.Add(time.Second), Line: "its line", File: ecsagent.LogPath, Cause: "the cause", Terminal: terminal}}
		}
	}
	for _, test := range []struct {
		name  string
		goal  func(*watchGoal)
		looks []watchSight
		want  decision
		code  failure.Code
		says  string // in the failure, or the commit's warnings
	}{
		{name: "well, but not long enough", looks: []watchSight{well(2 * time.Second), well(21 * time.Second)}, want: waitOn},
		{name: "well for long enough", looks: []watchSight{well(2 * time.Second), well(22 * time.Second)}, want: commitIt},
		{name: "well again after a death: the time begins anew", looks: []watchSight{
			well(2 * time.Second), but(12*time.Second, silent), well(14 * time.Second), well(25 * time.Second),
		}, want: waitOn},
		{name: "it lost the connection for a moment", looks: []watchSight{
			well(2 * time.Second), but(12*time.Second, func(s *watchSight) { s.life.LostSince = s.now }), well(14 * time.Second), well(34 * time.Second),
		}, want: commitIt},

		{name: "the unit failed", looks: []watchSight{but(time.Second, func(s *watchSight) {
			s.ecsUnit.Active, s.ecsUnit.Result, s.ecsUnit.ExitStatus = "failed", "exit-code", 5
		})},
			want: revertIt, code: failure.ServiceFailed, says: "exit status 5"},
		{name: "it crashes", looks: []watchSight{but(5*time.Second, died(3))}, want: revertIt, code: failure.AgentCrashLoop, says: "has died 3 times"},
		{name: "it crashed twice", looks: []watchSight{but(5*time.Second, died(2))}, want: waitOn},
		{name: "it dies because the network is out", looks: []watchSight{but(5*time.Second, out(died(9)))}, want: waitOn},
		{name: "it dies while AWS is out", looks: []watchSight{but(5*time.Second, says(failure.AWSUnavailable, false, died(9)))}, want: waitOn},
		{name: "deaths of an earlier life", looks: []watchSight{but(5*time.Second, func(s *watchSight) {
			s.life.Deaths = []time.Time{began.Add(-9 * time.Second), began.Add(-8 * time.Second), began.Add(-7 * time.Second)}
		})}, want: waitOn},
		{name: "wrong version", looks: []watchSight{but(time.Second, func(s *watchSight) { s.meta.Version = "1.105.1" })},
			want: revertIt, code: failure.NotVerified, says: "says that it is 1.105.1, and 1.106.0 was installed"},
		{name: "another instance", looks: []watchSight{but(time.Second, func(s *watchSight) { s.meta.ContainerInstanceARN = watchedARN + "9" })},
			want: revertIt, code: failure.NotVerified, says: "another container instance"},
		{name: "another cluster", looks: []watchSight{but(time.Second, func(s *watchSight) { s.meta.Cluster = "web" })},
			want: revertIt, code: failure.NotVerified, says: "in cluster web"},
		{name: "another node", looks: []watchSight{but(time.Second, func(s *watchSight) { s.node = "mi-0123456789abcdef9" })},
			want: revertIt, code: failure.IdentityUnknown, says: "mi-0123456789abcdef9"},
		{name: "the log names what is final", looks: []watchSight{but(time.Second, says(failure.AgentConfig, true, silent))},
			want: revertIt, code: failure.AgentConfig, says: "the cause"},
		{name: "the log names what passes", looks: []watchSight{but(time.Second, says(failure.CredentialsExpired, true, silent))}, want: waitOn},

		{name: "it does not connect, and has time", looks: []watchSight{but(2*time.Minute, deaf)}, want: waitOn},
		{name: "it does not connect, and the host does", looks: []watchSight{but(2*time.Minute, deaf), but(3*time.Minute, deaf)},
			want: revertIt, code: failure.ConnectTimeout, says: "while this host itself reaches ECS"},
		{name: "it does not even register", looks: []watchSight{but(3*time.Minute, silent)}, want: revertIt, code: failure.ConnectTimeout, says: "to register"},
		{name: "nobody reaches ECS", looks: []watchSight{but(time.Minute, out(deaf)), but(9*time.Minute, out(deaf))}, want: waitOn},
		{name: "nobody reaches ECS for very long", looks: []watchSight{but(time.Minute, out(deaf)), but(10*time.Minute, out(deaf))},
			want: commitIt, says: "it stays, for that is no fault of its own"},
		{name: "the time of an outage does not count", looks: []watchSight{
			but(time.Minute, deaf), but(2*time.Minute, out(deaf)), but(5*time.Minute, out(deaf)), but(5*time.Minute, deaf), but(5*time.Minute+30*time.Second, deaf),
		}, want: waitOn},
		{name: "and what is left of it does", looks: []watchSight{
			but(time.Minute, deaf), but(2*time.Minute, out(deaf)), but(5*time.Minute, deaf), but(6*time.Minute, deaf),
		}, want: revertIt, code: failure.ConnectTimeout},
		{name: "AWS asks to slow down", looks: []watchSight{but(4*time.Minute, says(failure.Throttled, false, deaf))}, want: waitOn},
		{name: "the old one was not connected either", goal: func(g *watchGoal) { g.Connected = false },
			looks: []watchSight{but(4*time.Minute, deaf)}, want: waitOn},
		{name: "and nor is the new one after all", goal: func(g *watchGoal) { g.Connected = false },
			looks: []watchSight{but(4*time.Minute, deaf), but(10*time.Minute, deaf)}, want: commitIt, says: "nobody could see"},
		{name: "the unit does not come up", looks: []watchSight{but(3*time.Minute, func(s *watchSight) { s.ecsUnit.Active, s.ecsUnit.Sub = "activating", "start-pre" })},
			want: revertIt, code: failure.ConnectTimeout, says: "ecs.service to run"},

		{name: "a task is not known any more", looks: []watchSight{
			but(time.Second, func(s *watchSight) { s.tasks = nil }), but(11*time.Second, func(s *watchSight) { s.tasks = nil }),
		}, want: revertIt, code: failure.NotVerified, says: "does not know 1 of 1 tasks"},
		{name: "a task is known again after a moment", looks: []watchSight{
			but(time.Second, func(s *watchSight) { s.tasks = nil }), well(3 * time.Second), well(22 * time.Second),
		}, want: waitOn},
		{name: "its tasks are not told", looks: []watchSight{
			but(2*time.Second, func(s *watchSight) { s.asked = false }), but(30*time.Second, func(s *watchSight) { s.asked = false }),
		}, want: waitOn},
		{name: "a container was ended", looks: []watchSight{but(time.Second, func(s *watchSight) { s.running = map[string]time.Time{} })},
			want: revertIt, code: failure.NotVerified, says: "the container web"},
		{name: "a container was started anew", looks: []watchSight{but(time.Second, func(s *watchSight) { s.running = map[string]time.Time{"c1": began} })},
			want: revertIt, code: failure.NotVerified, says: "the container web"},
		{name: "ECS has ended a task meanwhile", looks: []watchSight{
			but(2*time.Second, func(s *watchSight) { s.tasks[0].DesiredStatus, s.running = "STOPPED", map[string]time.Time{} }),
			but(22*time.Second, func(s *watchSight) { s.tasks[0].KnownStatus, s.running = "STOPPED", map[string]time.Time{} }),
		}, want: commitIt, says: "1 containers of tasks"},
		{name: "a container that no task of the agent has ended", goal: func(g *watchGoal) { g.Tasks = nil },
			looks: []watchSight{
				but(2*time.Second, func(s *watchSight) { s.tasks, s.running = nil, map[string]time.Time{} }),
				but(22*time.Second, func(s *watchSight) { s.tasks, s.running = nil, map[string]time.Time{} }),
			}, want: commitIt, says: "by themselves"},

		{name: "the SSM agent dies", looks: []watchSight{
			but(time.Second, func(s *watchSight) { s.ssmUnit.Active, s.ssmUnit.Sub = "activating", "auto-restart" }),
			but(6*time.Second, func(s *watchSight) { s.ssmUnit.Active, s.ssmUnit.Sub = "activating", "auto-restart" }),
		}, want: revertIt, code: failure.ServiceFailed, says: "the new SSM agent ended"},
		{name: "the SSM agent is between two starts", looks: []watchSight{
			but(time.Second, func(s *watchSight) { s.ssmUnit.Active, s.ssmUnit.Sub = "activating", "auto-restart" }),
		}, want: waitOn},
		{name: "the old SSM agent still runs", looks: []watchSight{but(3*time.Minute, func(s *watchSight) { s.ssmVersion, s.ssmOld = "3.3.4108.0", true })},
			want: revertIt, code: failure.ConnectTimeout, says: "to run as 3.3.5000.0"},
		{name: "only the SSM agent, and the ECS agent is down", goal: func(g *watchGoal) { g.ECS = false },
			looks: []watchSight{but(2*time.Second, silent), but(22*time.Second, silent)}, want: commitIt},
		{name: "only the ECS agent, and the SSM agent is down", goal: func(g *watchGoal) { g.SSM = false },
			looks: []watchSight{
				but(2*time.Second, func(s *watchSight) { s.ssmUnit = host.Unit{} }), but(22*time.Second, func(s *watchSight) { s.ssmUnit = host.Unit{} }),
			}, want: commitIt},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := goal()
			if test.goal != nil {
				test.goal(&g)
			}
			w := &watch{goal: g, since: began, begun: began}
			var got verdict
			for i, s := range test.looks {
				if got = w.judge(s); i < len(test.looks)-1 && got.decision != waitOn {
					t.Fatalf("it decides at look %d: %+v", i, got)
				}
			}
			if got.decision != test.want {
				t.Fatalf("%+v, %v", got, got.failure)
			}
			told := strings.Join(got.warnings, "; ")
			if got.failure != nil {
				told = got.failure.Message
				if got.failure.Code != test.code || got.failure.Advice() == "" {
					t.Errorf("%s %q, with the remedy %q", got.failure.Code, told, got.failure.Advice())
				}
			}
			if !strings.Contains(told, test.says) {
				t.Errorf("it says %q, not %q", told, test.says)
			}
		})
	}
}
