package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

var statusNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func wellHost() lifecycle.StatusResult {
	unit := func(name string) lifecycle.StatusUnit {
		return lifecycle.StatusUnit{Name: name, Loaded: true, Active: "active", Sub: "running", Enabled: true, Since: "2026-11-19T12:00:00Z"}
	}
	const arn = "arn:aws:ecs:eu-central-1:111122223333:container-instance/shop/0123456789abcdef0123456789abcdef"
	return lifecycle.StatusResult{
		State: lifecycle.Healthy, Cluster: "shop", Region: "eu-central-1", Account: "111122223333",
		ManagedInstanceID: "mi-0123456789abcdef0", ContainerInstanceARN: arn,
		Registration: lifecycle.StatusRegistration{Verdict: "sound"},
		ECSAgent:     lifecycle.StatusECSAgent{Installed: "1.105.1-1", Running: "1.105.1", Unit: unit("ecs.service")},
		SSMAgent:     lifecycle.StatusSSMAgent{Installed: "3.3.4108.0-1", Running: "3.3.4108.0", Unit: unit("amazon-ssm-agent.service")},
		Docker:       lifecycle.StatusDocker{Present: true, Running: true, Version: "27.3.1"},
		Credentials:  lifecycle.StatusCredentials{Provider: "RotatingSharedCredentialsProvider", Profile: "default", Expires: "2026-11-22T12:40:00Z", Ready: true},
		Connection:   lifecycle.StatusConnection{Connected: true, Since: "2026-11-22T11:40:00Z"},
		Tasks: lifecycle.StatusTasks{Running: 1, Pending: 1, List: []lifecycle.StatusTask{
			{Definition: "web:7", Status: "RUNNING"}, {Definition: "job:3", Status: "PENDING"}}},
		Exec:      lifecycle.StatusExec{Ready: true, Version: "3.3.4108.0"},
		Operation: lifecycle.StatusOperation{Last: &lifecycle.StatusLast{Verb: "register", How: "done", EndedAt: "2026-11-19T12:00:00Z"}},
	}
}

func TestStatusScreen(t *testing.T) {
	var out bytes.Buffer
	r := wellHost()
	r.Unseen = []lifecycle.StatusUnseen{{Part: "the last operation", Why: "needs root", NeedsRoot: true}, {Part: "Docker", Why: "needs root", NeedsRoot: true}}
	r.Remote = &lifecycle.StatusRemote{
		ECS:   &lifecycle.StatusRemoteECS{Status: "DRAINING", AgentConnected: true, AgentVersion: "1.105.1", RunningTasks: 1, RegisteredAt: "2026-11-19T12:00:00Z"},
		SSM:   &lifecycle.StatusRemoteSSM{PingStatus: "Online", LastPing: "2026-11-22T11:57:00Z", AgentVersion: "3.3.4108.0", Role: "ecsAnywhereRole", Name: "till-7", IP: "10.0.0.7"},
		Drift: []lifecycle.StatusDrift{{Kind: lifecycle.DriftDraining, Message: "ECS is draining this container instance: it gets no new tasks"}},
	}
	rep := lifecycle.Report{Message: "healthy: managed node mi-0123456789abcdef0 is container instance 0123 in cluster shop, eu-central-1; 1 task runs",
		Warnings: []string{"ECS is draining this container instance: it gets no new tasks"}}
	Status(&out, NewStyle(false, false), rep, r, statusNow)
	golden(t, "status.txt", out.String())
}

func TestStatusScreenOfATroubledHost(t *testing.T) {
	var out bytes.Buffer
	r := wellHost()
	r.State = lifecycle.Unhealthy
	r.Reasons = []lifecycle.StatusReason{
		{Rule: "docker", Code: failure.DockerDown, Message: "Docker does not run: docker.service failed (exit-code)", Remedy: "systemctl start docker"},
		{Rule: "credentials", Code: failure.CredentialsExpired, Message: "the SSM agent keeps no credentials that are good", Evidence: "/var/log/x: a line\nand another", Remedy: "systemctl restart amazon-ssm-agent"},
	}
	r.Docker = lifecycle.StatusDocker{Present: true, Why: "docker.service failed (exit-code)"}
	r.Credentials.Expires = "2026-11-22T10:00:00Z"
	r.ECSAgent.Running, r.ECSAgent.Unit = "1.104.0", lifecycle.StatusUnit{Name: "ecs.service", Loaded: true, Active: "activating", Sub: "auto-restart", CrashLoop: true, Restarts: 9}
	r.SSMAgent.Unit = lifecycle.StatusUnit{Name: "amazon-ssm-agent.service", Loaded: true, Active: "inactive", Sub: "dead"}
	r.Connection = lifecycle.StatusConnection{Lost: "2026-11-22T11:59:30Z"}
	r.Exec = lifecycle.StatusExec{Why: "no version is complete"}
	r.Operation = lifecycle.StatusOperation{AtWork: "pid 4711, run run-9"}
	r.Unseen = []lifecycle.StatusUnseen{{Part: "tasks", Why: "no answer within 600ms"}}
	rep := lifecycle.Report{Message: "unhealthy: Docker does not run"}
	Status(&out, NewStyle(false, false), rep, r, statusNow)
	golden(t, "status-unhealthy.txt", out.String())
}

// The log of an agent that was removed still tells when its connection was lost.
func TestAnAgentThatIsGoneHasNoConnection(t *testing.T) {
	for installed, want := range map[string]string{"": "", "1.105.1-1": "without a connection to ECS for 30s"} {
		r := lifecycle.StatusResult{ECSAgent: lifecycle.StatusECSAgent{Installed: installed}, Connection: lifecycle.StatusConnection{
			Lost: statusNow.Add(-30 * time.Second).Format(time.RFC3339),
		}}
		if got := connectionWords(r, statusNow); got != want {
			t.Errorf("%q installed: %q, want %q", installed, got, want)
		}
	}
}

// An operation that was undone is over: nothing is said of how it could be.
func TestAnOperationThatIsOver(t *testing.T) {
	for unfinished, want := range map[bool]bool{true: true, false: false} {
		var out bytes.Buffer
		Operation(&out, NewStyle(false, false), lifecycle.OperationResult{Unfinished: unfinished, Verb: "upgrade", RunID: "run-1", Changes: 4})
		if got := strings.Contains(out.String(), "undoable"); got != want || !strings.Contains(out.String(), "run-1") {
			t.Errorf("unfinished %v: %s", unfinished, out.String())
		}
	}
}
