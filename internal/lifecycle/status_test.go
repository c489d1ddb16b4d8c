package lifecycle

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// patient is a host whose status is asked for, healthy until a test changes it.
type patient struct {
	*machine
	docker map[string]string // what Docker answers, by path; nil is no Docker
	agent  map[string]string // what the ECS agent answers; nil is a closed port
	denied bool              // Docker's socket is for root
	hang   string            // the network ("unix", "tcp") that takes connections and never answers
	files  host.Files        // instead of the machine's own
	unitOf func(ctx context.Context, name string) (host.Unit, error)
	log    []string // of the ECS agent
	inits  []string // of ecs-init

	journal     map[string][]string // by unit; nil is a host without journalctl
	journalSays string              // instead of it
	journalOld  bool                // it is of before systemd 236
}

const (
	imageID = "sha256:new"
	taskARN = "arn:aws:ecs:eu-central-1:111122223333:task/shop/0123456789abcdef0123456789abcdef"
)

// started is when the agents of a patient were started.
var started = noon.Add(-20 * time.Minute)

func newPatient(t testing.TB) *patient {
	p := &patient{machine: newMachine(t)}
	p.registered()
	p.runs(ssmagent.UnitName, started)
	p.runs(ecsagent.Unit, started)
	p.runs("docker.service", started)
	p.install(ssmagent.Package, "3.3.4108.0-1")
	p.install(ecsagent.Package, "1.105.1-1")
	p.write("/usr/bin/dockerd", "")
	p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\n")
	p.fetched(started, started.Add(time.Hour))
	p.write(ssmagent.CredentialsPath, "[default]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\n"+
		"aws_secret_access_key = not-a-real-secret\naws_session_token = not-a-real-token\n")
	p.write(ssmagent.LogPath, ssmLine(started, "INFO [amazon-ssm-agent] amazon-ssm-agent - v3.3.4108.0")+
		ssmLine(started, "INFO [CredentialRefresher] Credentials ready"))
	p.docker = map[string]string{
		"/version":                            `{"Version":"27.3.1","ApiVersion":"1.47","MinAPIVersion":"1.24","Components":[{"Name":"Engine"}]}`,
		"/images/" + ecsagent.Image + "/json": `{"Id":"` + imageID + `"}`,
		"/containers/ecs-agent/json":          `{"Image":"` + imageID + `","State":{"Status":"running","StartedAt":"2026-11-22T11:40:01Z"}}`,
	}
	p.agent = map[string]string{
		"/v1/metadata": instance("shop", account, region, "shop"),
		"/v1/tasks": `{"Tasks":[{"Arn":"` + taskARN + `","DesiredStatus":"RUNNING","KnownStatus":"RUNNING","Family":"web","Version":"7"},` +
			`{"Arn":"x","DesiredStatus":"STOPPED","KnownStatus":"STOPPED","Family":"job","Version":"3"}]}`,
	}
	p.log = []string{
		told(started.Add(time.Second), "Successfully got ECS instance credentials from provider: RotatingSharedCredentialsProvider"),
		told(started.Add(2*time.Second), "Registered container instance with cluster!"),
		told(started.Add(3*time.Second), "Connected to ACS endpoint"),
	}
	return p
}

// told is an ordinary line of the ECS agent's log.
func told(at time.Time, message string) string {
	return strings.Replace(logged(at, message), "level=error", "level=info", 1)
}

func ssmLine(at time.Time, text string) string {
	return at.Format("2006-01-02 15:04:05.0000 ") + text + "\n"
}

// fetched makes the SSM agent's last credentials.
func (p *patient) fetched(retrieved, expires time.Time) {
	text, err := json.Marshal(ssmagent.Runtime{InstanceID: nodeID, IdentityType: "OnPrem", ShareFile: ssmagent.CredentialsPath,
		CredentialsRetrievedAt: retrieved, CredentialsExpiresAt: expires, CredentialSource: "SSM"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(ssmagent.RuntimePath, string(text))
}

func (p *patient) unit(name string, change func(*host.Unit)) {
	u := p.units[name]
	change(&u)
	p.units[name] = u
}

func (p *patient) drop(path string) {
	if err := os.RemoveAll(filepath.Join(p.root, path)); err != nil {
		p.t.Fatal(err)
	}
}

// dial leads to Docker and to the ECS agent.
func (p *patient) dial(_ context.Context, network, address string) (net.Conn, error) {
	if p.denied && network == "unix" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.EACCES}
	}
	answers := map[string]map[string]string{docker.Socket: p.docker, ecsagent.IntrospectionAddress: p.agent}[address]
	if answers == nil && p.hang != network {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		request, err := http.ReadRequest(bufio.NewReader(far))
		if err != nil {
			return
		}
		if p.hang == network {
			_, _ = far.Read(make([]byte, 1)) // until the other side gives up
			return
		}
		body, ok := answers[request.URL.Path]
		status := http.StatusOK
		if !ok {
			status, body = http.StatusNotFound, `{"message":"not here"}`
		}
		answer := http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)),
			Body: io.NopCloser(strings.NewReader(body))}
		_ = answer.Write(far)
	}()
	return near, nil
}

// deps is the patient as a verb gets it.
func (p *patient) deps() Deps {
	for name, lines := range map[string][]string{ecsagent.LogPath: p.log, ecsagent.InitLogPath: p.inits} {
		if lines != nil {
			p.write(name, strings.Join(lines, ""))
		}
	}
	h := p.machine.host()
	h.Dial = p.dial
	if p.files != nil {
		h.Files = p.files
	}
	if p.unitOf != nil {
		h.Units = unitFunc(p.unitOf)
	}
	return Deps{Host: h, RunID: "run-1", Version: "1.2.3"}
}

type unitFunc func(ctx context.Context, name string) (host.Unit, error)

func (f unitFunc) Unit(ctx context.Context, name string) (host.Unit, error) { return f(ctx, name) }
func (unitFunc) Available(context.Context) error                            { return nil }

// status asks, and holds the report to what is so of every status.
func (p *patient) status(req StatusRequest) (Report, StatusResult, error) {
	p.t.Helper()
	report, err := Status(p.t.Context(), p.deps(), req)
	result, ok := report.Result.(StatusResult)
	if !ok {
		p.t.Fatalf("%v: %+v", err, report)
	}
	if err == nil {
		if (result.State == Healthy) != (report.Exit == 0) || result.State != Healthy && report.Exit != failure.ExitUnhealthy {
			p.t.Errorf("%s exits %d", result.State, report.Exit)
		}
		if (result.State == Healthy) != (len(result.Reasons) == 0) || report.Message == "" {
			p.t.Errorf("%s with the reasons %+v: %q", result.State, result.Reasons, report.Message)
		}
	}
	for _, r := range result.Reasons {
		if _, known := failure.Catalogue[r.Code]; !known || r.Message == "" || r.Remedy == "" {
			p.t.Errorf("a reason without code, message or remedy: %+v", r)
		}
		if !slices.ContainsFunc(Rules, func(rule Rule) bool { return rule.ID == r.Rule }) {
			p.t.Errorf("a reason of no rule: %+v", r)
		}
	}
	return report, result, err
}

// forRoot refuses what only root may see on a registered host.
type forRoot struct {
	host.Files
	more string // another folder that is closed
}

func (f forRoot) denies(path string) bool {
	for _, closed := range []string{"/var/lib/amazon/ssm", "/var/log/amazon/ssm", "/var/lib/anywhere", "/root", ecsagent.ConfigPath} {
		if strings.HasPrefix(path, closed) {
			return true
		}
	}
	return f.more != "" && strings.HasPrefix(path, f.more)
}

func (f forRoot) ReadFile(path string) ([]byte, error) {
	if f.denies(path) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return f.Files.ReadFile(path)
}

func (f forRoot) Open(path string) (fs.File, error) {
	if f.denies(path) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return f.Files.Open(path)
}

func (f forRoot) Stat(path string) (fs.FileInfo, error) {
	if f.denies(filepath.Dir(path)) {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrPermission}
	}
	return f.Files.Stat(path)
}

func (f forRoot) ReadDir(path string) ([]fs.DirEntry, error) {
	if f.denies(path) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return f.Files.ReadDir(path)
}

// blocked never answers for one path, as a dead network file system does.
type blocked struct {
	host.Files
	path string
	free chan struct{}
}

func (b blocked) wait(path string) {
	if strings.HasPrefix(path, b.path) {
		<-b.free
	}
}

func (b blocked) ReadFile(path string) ([]byte, error) { b.wait(path); return b.Files.ReadFile(path) }
func (b blocked) Open(path string) (fs.File, error)    { b.wait(path); return b.Files.Open(path) }

const openJournal = DataDir + "/journal/open.jsonl"

func journalText(lines ...string) string {
	head := `{"anywhereJournal":1,"verb":"register","key":"k","run":"run-0","program":"1.2.3","pins":{},"started":"2026-11-22T11:00:00Z"}` + "\n"
	for _, line := range lines {
		head += line + "\n"
	}
	return head
}

// TestRules holds the rule for healthy: the host that keeps all of it is healthy, and one that breaks a part of it is
// not, whatever else is well. A part that only root may see does not decide, any other that was not seen does.
func TestRules(t *testing.T) {
	const (
		begin  = `{"is":"begin","at":"2026-11-22T11:00:01Z","step":"ssm.config","title":"Configure the SSM agent"}`
		commit = `{"is":"commit","at":"2026-11-22T11:00:02Z","what":"managed node"}`
	)
	gone := noon.Add(-5 * time.Minute)
	for _, test := range []struct {
		name  string
		spoil func(p *patient)
		state HealthState
		rule  string // of the first reason
		code  failure.Code
		says  string // in the first reason, with its evidence and remedy
		rules string // of all reasons, where that matters
	}{
		{name: "nothing is wrong", spoil: func(*patient) {}, state: Healthy},

		// Not a part of the rule: warned of at most.
		{name: "healthy while a restart is pending", state: Healthy, spoil: func(p *patient) {
			p.docker["/containers/ecs-agent/json"] = `{"Image":"sha256:old","State":{"Status":"running"}}`
		}},
		{name: "healthy with a connection that was lost just now", state: Healthy, spoil: func(p *patient) {
			p.log = append(p.log, told(noon.Add(-20*time.Second), "ACS WebSocket connection closed for a valid reason"))
		}},
		{name: "healthy with a record that cannot be read", state: Healthy, spoil: func(p *patient) { p.write(recordPath, "{") }},
		{name: "healthy with a newer record", state: Healthy, spoil: func(p *patient) { p.write(recordPath, `{"schema":99}`) }},
		{name: "healthy without ECS Exec", state: Healthy, spoil: func(p *patient) { p.drop(ecsagent.ExecDir) }},
		{name: "healthy with the side file of another node", state: Healthy, spoil: func(p *patient) {
			p.write(ssmagent.RegistrationPath, `{"ManagedInstanceID":"mi-0fedcba9876543210","Region":"eu-central-1"}`)
		}},
		{name: "healthy with the SSM agent's snap", state: Healthy, spoil: func(p *patient) {
			delete(p.units, ssmagent.UnitName)
			p.runs(ssmagent.SnapUnit, started)
		}},

		{name: "unfinished", state: HalfDone, rule: "operation", code: failure.Unfinished, says: "anywhere rollback",
			spoil: func(p *patient) { p.write(openJournal, journalText(begin)) }},
		{name: "unfinished, past its point of no return", state: HalfDone, rule: "operation", code: failure.Unfinished,
			says: "cannot be undone", spoil: func(p *patient) { p.write(openJournal, journalText(begin, commit)) }},
		{name: "unfinished on a host that is nothing yet", state: HalfDone, rule: "operation", code: failure.Unfinished,
			spoil: func(p *patient) {
				p.drop(ssmagent.DataDir)
				p.agent = nil
				p.write(openJournal, journalText(begin))
			}},
		{name: "a journal that cannot be read", state: HalfDone, rule: "operation", code: failure.JournalUnreadable,
			says: "operation abandon", spoil: func(p *patient) { p.write(openJournal, "garbage") }},
		{name: "a newer journal", state: HalfDone, rule: "operation", code: failure.NewerRecord,
			spoil: func(p *patient) { p.write(openJournal, `{"anywhereJournal":9}`+"\n") }},

		{name: "never registered", state: Unregistered, rule: "registration", code: failure.NotRegistered, says: "anywhere register",
			spoil: func(p *patient) { p.drop("/var/lib/amazon"); p.drop("/var/lib/ecs"); p.agent, p.log = nil, nil }},
		{name: "cleared", state: Unregistered, rule: "registration", code: failure.NotRegistered, spoil: func(p *patient) {
			p.write(ssmagent.KeyPath, `{"instanceID":"","region":"","privateKey":""}`)
			p.agent = nil
		}},
		{name: "no managed node, and the ECS agent works", state: Unhealthy, rule: "registration", code: failure.IdentityUnknown,
			spoil: func(p *patient) { p.drop("/var/lib/amazon") }},
		{name: "a vault that was lost", state: Unhealthy, rule: "registration", code: failure.IdentityUnknown, says: "RegistrationKey is missing",
			spoil: func(p *patient) { p.drop(ssmagent.KeyPath) }},
		{name: "a vault that is damaged", state: Unhealthy, rule: "registration", code: failure.IdentityUnknown, says: "cannot be understood",
			spoil: func(p *patient) { p.write(ssmagent.KeyPath, `{"instanceID":`) }},
		{name: "a clone", state: Unhealthy, rule: "registration", code: failure.FingerprintChanged, says: "machine-id",
			spoil: func(p *patient) { p.write("/etc/machine-id", strings.Repeat("c", 32)+"\n") }},
		{name: "deregistered in Systems Manager", state: Unhealthy, rule: "registration", code: failure.NodeUnknown, says: "InvalidInstanceId",
			spoil: func(p *patient) {
				p.write(ssmagent.LogPath, ssmLine(started, "INFO Credentials ready")+
					ssmLine(gone, "ERROR [CredentialRefresher] Retrieve credentials produced error: InvalidInstanceId: Not existing InstanceId "+nodeID))
			}},
		{name: "the fingerprint was lost", state: Unhealthy, rule: "registration", code: failure.IdentityUnknown, says: "fingerprint",
			spoil: func(p *patient) { p.drop(ssmagent.FingerprintPath) }},

		{name: "Docker is dead", state: Unhealthy, rule: "docker", code: failure.DockerDown, says: "nothing listens",
			spoil: func(p *patient) { p.docker = nil }},
		{name: "Docker failed", state: Unhealthy, rule: "docker", code: failure.DockerDown, says: "docker.service failed",
			spoil: func(p *patient) {
				p.docker = nil
				p.unit("docker.service", func(u *host.Unit) { u.Active, u.Result = "failed", "exit-code" })
			}},
		{name: "Docker is gone", state: Unhealthy, rule: "docker", code: failure.DockerAbsent,
			spoil: func(p *patient) { p.docker = nil; p.drop("/usr/bin/dockerd"); delete(p.units, "docker.service") }},
		{name: "podman", state: Unhealthy, rule: "docker", code: failure.DockerVersion, says: "podman", spoil: func(p *patient) {
			p.docker["/version"] = `{"Version":"5.0.0","ApiVersion":"1.41","Components":[{"Name":"Podman Engine"}]}`
		}},
		{name: "Docker is too new", state: Unhealthy, rule: "docker", code: failure.DockerVersion, says: "older Docker", spoil: func(p *patient) {
			p.docker["/version"] = `{"Version":"40.0","ApiVersion":"1.60","MinAPIVersion":"1.50"}`
		}},
		{name: "Docker hangs", state: StateUnknown, rule: "docker", code: failure.DockerDown, says: "no answer within",
			spoil: func(p *patient) { p.hang = "unix" }},

		{name: "the SSM agent is stopped", state: Unhealthy, rule: "ssm.service", code: failure.ServiceFailed, says: "systemctl start amazon-ssm-agent",
			spoil: func(p *patient) {
				p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
			}},
		{name: "the SSM agent is not enabled", state: Unhealthy, rule: "ssm.service", code: failure.ServiceFailed, says: "systemctl enable",
			spoil: func(p *patient) { p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Enabled = "disabled" }) }},
		{name: "the SSM agent is not installed", state: Unhealthy, rule: "ssm.service", code: failure.ServiceFailed, says: "anywhere register",
			spoil: func(p *patient) { delete(p.units, ssmagent.UnitName) }},
		{name: "the SSM agent loops", state: Unhealthy, rule: "ssm.service", code: failure.AgentConfig, says: "is not JSON",
			spoil: func(p *patient) {
				p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub, u.Restarts = "activating", "auto-restart", 7 })
				p.write(ssmagent.LogPath, ssmLine(started, "INFO Credentials ready")+ssmLine(gone, "ERROR app config could not be loaded"))
			}},

		{name: "the ECS agent is stopped", state: Unhealthy, rule: "ecs.service", code: failure.ServiceFailed, says: "systemctl start ecs.service",
			rules: "ecs.service", spoil: func(p *patient) {
				p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
				p.agent = nil
			}},
		{name: "the ECS agent has given up", state: Unhealthy, rule: "ecs.service", code: failure.ClusterNotFound, says: "Cluster not found",
			rules: "ecs.service", spoil: func(p *patient) {
				p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub, u.Result, u.ExitStatus = "failed", "failed", "exit-code", 5 })
				p.agent = nil
				p.log = append(p.log, logged(gone, "Error registering: ClientException: Cluster not found."))
			}},
		{name: "the ECS agent is not enabled", state: Unhealthy, rule: "ecs.service", code: failure.ServiceFailed, says: "does not come up at boot",
			spoil: func(p *patient) { p.unit(ecsagent.Unit, func(u *host.Unit) { u.Enabled = "disabled" }) }},
		{name: "ecs-init loops", state: Unhealthy, rule: "ecs.service", code: failure.AgentCrashLoop, says: "7 restarts",
			spoil: func(p *patient) {
				p.unit(ecsagent.Unit, func(u *host.Unit) { u.Restarts, u.ActiveSince = 7, noon.Add(-time.Second) })
				p.agent, p.log = nil, nil
			}},
		{name: "restarts of long ago are no loop", state: Healthy,
			spoil: func(p *patient) { p.unit(ecsagent.Unit, func(u *host.Unit) { u.Restarts = 7 }) }},
		{name: "systemd does not answer", state: StateUnknown, rule: "ssm.service", code: failure.NoSystemd,
			rules: "ssm.service ecs.service",
			spoil: func(p *patient) {
				p.unitOf = func(context.Context, string) (host.Unit, error) {
					return host.Unit{}, failure.New(failure.NoSystemd, "systemd does not answer on the system bus")
				}
			}},
		{name: "systemd hangs", state: StateUnknown, rule: "ssm.service", code: failure.NoSystemd, says: "no answer within",
			spoil: func(p *patient) {
				p.unitOf = func(ctx context.Context, _ string) (host.Unit, error) {
					<-ctx.Done()
					return host.Unit{}, context.Cause(ctx)
				}
			}},

		{name: "credentials have expired", state: Unhealthy, rule: "credentials", code: failure.CredentialsExpired, says: "expired at 2026-11-22T11:59:00Z",
			spoil: func(p *patient) { p.fetched(noon.Add(-61*time.Minute), noon.Add(-time.Minute)) }},
		{name: "credentials have expired, and the log says why", state: Unhealthy, rule: "credentials", code: failure.ClockSkew,
			spoil: func(p *patient) {
				p.fetched(noon.Add(-61*time.Minute), noon.Add(-time.Minute))
				p.write(ssmagent.LogPath, ssmLine(gone, "ERROR Retrieve credentials produced error: InvalidSignatureException: Signature expired"))
			}},
		{name: "credentials are gone", state: Unhealthy, rule: "credentials", code: failure.CredentialsInvalid, says: "no credentials of the agent",
			spoil: func(p *patient) { p.drop(ssmagent.CredentialsPath) }},
		{name: "credentials of somebody else", state: Unhealthy, rule: "credentials", code: failure.ForeignProfile, says: "EnvConfigCredentials",
			spoil: func(p *patient) {
				p.log[0] = told(started, "Successfully got ECS instance credentials from provider: EnvConfigCredentials")
			}},

		{name: "not registered, for no known reason", state: Unhealthy, rule: "ecs.instance", code: failure.ConnectTimeout, says: "has not registered",
			spoil: func(p *patient) { p.agent, p.log = nil, nil }},
		{name: "not registered, for want of a right", state: Unhealthy, rule: "ecs.instance", code: failure.AccessDenied,
			says: "AmazonEC2ContainerServiceforEC2Role", rules: "ecs.instance",
			spoil: func(p *patient) {
				p.agent = nil
				p.log = []string{logged(gone, "api error AccessDeniedException: User x is not authorized to perform: ecs:RegisterContainerInstance")}
				p.inits = []string{told(gone, "Agent exited with code 1"), told(gone, "ECS Agent failed to start, retrying in 15s")}
			}},
		{name: "another program on its port", state: Unhealthy, rule: "ecs.instance", code: failure.Network, says: "not the ECS agent",
			spoil: func(p *patient) { p.agent = map[string]string{"/v1/metadata": "<html>"} }},
		{name: "no instance yet", state: Unhealthy, rule: "ecs.instance", code: failure.ConnectTimeout, spoil: func(p *patient) {
			p.agent["/v1/metadata"] = `{"Cluster":"shop","Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`
		}},
		{name: "in another cluster than it was told", state: Unhealthy, rule: "ecs.instance", code: failure.RegisteredElsewere,
			spoil: func(p *patient) { p.agent["/v1/metadata"] = instance("shop", account, region, "web") }},
		{name: "in another Region than the node", state: Unhealthy, rule: "ecs.instance", code: failure.RegisteredElsewere, says: "us-east-1",
			spoil: func(p *patient) { p.agent["/v1/metadata"] = instance("shop", account, "us-east-1", "shop") }},
		{name: "configured for another cluster since", state: Unhealthy, rule: "ecs.instance", code: failure.ClusterMismatch, says: "next start will fail",
			spoil: func(p *patient) { p.write(ecsagent.ConfigPath, "ECS_CLUSTER=web\n") }},
		{name: "configured by the cluster's ARN", state: Healthy, spoil: func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=arn:aws:ecs:"+region+":"+account+":cluster/shop\n")
		}},
		{name: "the ECS agent hangs", state: StateUnknown, rule: "ecs.instance", code: failure.Network, says: "no answer within",
			spoil: func(p *patient) { p.hang = "tcp" }},

		{name: "deregistered in ECS behind its back", state: Unhealthy, rule: "ecs.connection", code: failure.InstanceInactive, says: "anywhere register again",
			rules: "ecs.connection",
			spoil: func(p *patient) {
				p.log = append(p.log, logged(noon.Add(-10*time.Second), "Failed to connect to ACS: InactiveInstanceException: x"),
					told(noon.Add(-10*time.Second), "Container instance is deregistered"))
			}},
		{name: "without a connection", state: Unhealthy, rule: "ecs.connection", code: failure.Network, says: "does not resolve",
			spoil: func(p *patient) {
				p.log = append(p.log, logged(gone, "Failed to connect to ACS: dial tcp: lookup ecs-a-1: no such host"))
			}},
		{name: "a log that says nothing of the connection", state: StateUnknown, rule: "ecs.connection", code: failure.NotVerified, says: "--remote",
			spoil: func(p *patient) { p.log = []string{told(started, "Starting")} }},
		{name: "no log at all", state: StateUnknown, rule: "ecs.connection", code: failure.NotVerified, spoil: func(p *patient) { p.log = nil }},
		{name: "a connection of another life", state: StateUnknown, rule: "ecs.connection", code: failure.NotVerified,
			spoil: func(p *patient) { p.unit(ecsagent.Unit, func(u *host.Unit) { u.ActiveSince = noon.Add(-time.Minute) }) }},

		{name: "dies and comes back", state: Unhealthy, rule: "ecs.loop", code: failure.AgentCrashLoop, says: "3 times", spoil: func(p *patient) {
			for _, minute := range []int{-9, -6, -3} {
				p.inits = append(p.inits, told(noon.Add(time.Duration(minute)*time.Minute), "Agent exited with code 1"))
			}
			p.log = append(p.log, told(noon.Add(-time.Minute), "Registered container instance with cluster!"), told(noon.Add(-time.Minute), "Connected to ACS endpoint"))
		}},
		{name: "died twice", state: Healthy, spoil: func(p *patient) {
			p.inits = []string{told(noon.Add(-9*time.Minute), "Agent exited with code 1"), told(noon.Add(-8*time.Minute), "Agent exited with code 1")}
			p.log = append(p.log, told(noon.Add(-time.Minute), "Registered container instance with cluster!"), told(noon.Add(-time.Minute), "Connected to ACS endpoint"))
		}},

		{name: "an ordinary user", state: Healthy, spoil: func(p *patient) {
			p.files, p.denied = forRoot{Files: host.NewDir(p.root)}, true
		}},
		{name: "an ordinary user, and a log that is closed", state: StateUnknown, rule: "ecs.connection", code: failure.NotRoot, says: "sudo anywhere status",
			spoil: func(p *patient) {
				p.files = forRoot{host.NewDir(p.root), ecsagent.LogDir}
			}},
		{name: "an ordinary user, deregistered in ECS", state: Unhealthy, rule: "ecs.connection", code: failure.InstanceInactive, spoil: func(p *patient) {
			p.files = forRoot{Files: host.NewDir(p.root)}
			p.log = append(p.log, told(gone, "Container instance is deregistered"))
		}},
		{name: "an ordinary user, before any registration", state: Unregistered, rule: "registration", code: failure.NotRegistered, spoil: func(p *patient) {
			p.files, p.agent = forRoot{Files: host.NewDir(p.root)}, nil
			p.packages, p.units = map[string]host.Package{}, map[string]host.Unit{}
		}},
		{name: "a file system that hangs", state: StateUnknown, rule: "registration", code: failure.IdentityUnknown, says: "no answer within",
			spoil: func(p *patient) {
				free := make(chan struct{})
				p.t.Cleanup(func() { close(free) })
				p.files = blocked{host.NewDir(p.root), ssmagent.VaultDir, free}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			test.spoil(p)
			begun := time.Now()
			_, got, err := p.status(StatusRequest{})
			if err != nil || got.State != test.state {
				t.Fatalf("%s, %v; want %s\n%+v", got.State, err, test.state, got.Reasons)
			}
			if took := time.Since(begun); took > glanceTime+2*time.Second {
				t.Errorf("it took %s", took)
			}
			if test.state == Healthy {
				return
			}
			r := got.Reasons[0]
			if text := r.Message + "; " + r.Evidence + "; " + r.Remedy; r.Rule != test.rule || r.Code != test.code || !strings.Contains(text, test.says) {
				t.Errorf("%s %s: %s\nwant %s %s: %s", r.Rule, r.Code, text, test.rule, test.code, test.says)
			}
			var rules []string
			for _, r := range got.Reasons {
				rules = append(rules, r.Rule)
			}
			if test.rules != "" && strings.Join(rules, " ") != test.rules {
				t.Errorf("reasons of %v, want %s", rules, test.rules)
			}
		})
	}
}

func TestStatusOfAHealthyHost(t *testing.T) {
	p := newPatient(t)
	p.write(recordPath, `{"schema":1,"registration":{"managedInstanceId":"`+nodeID+`","cluster":"shop","region":"`+region+`"}}`)
	if err := os.MkdirAll(filepath.Join(p.root, ecsagent.CacheDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("ecs-agent-v1.105.1-1.tar", filepath.Join(p.root, ecsagent.CachedImage)); err != nil {
		t.Fatal(err)
	}
	report, got, err := p.status(StatusRequest{})
	if err != nil || len(report.Warnings) > 0 || report.Changed {
		t.Fatalf("%v, %+v", err, report)
	}
	unit := func(name string) StatusUnit {
		return StatusUnit{Name: name, Loaded: true, Active: "active", Sub: "running", Enabled: true, Since: "2026-11-22T11:40:00Z"}
	}
	want := StatusResult{
		State: Healthy, Reasons: []StatusReason{}, Verified: VerifiedLocal,
		Cluster: "shop", Region: region, Account: account, ManagedInstanceID: nodeID,
		ContainerInstanceARN: instanceARN(account, region, "shop"),
		Registration: StatusRegistration{
			Verdict: "sound", Why: nodeID + " in " + region + ", credentials good until 2026-11-22T12:40:00Z",
			VaultID: nodeID, VaultRegion: region, SideFileID: nodeID, RuntimeID: nodeID, Agree: true, Damaged: []string{},
			ByAnywhere: true, MachineIDSame: true,
		},
		ECSAgent: StatusECSAgent{Installed: "1.105.1-1", Cached: "1.105.1", LoadedImage: imageID, RunningImage: imageID, Running: "1.105.1",
			StartedAt: "2026-11-22T11:40:01Z", Unit: unit(ecsagent.Unit)},
		SSMAgent: StatusSSMAgent{Installed: "3.3.4108.0-1", Running: "3.3.4108.0", Unit: unit(ssmagent.UnitName)},
		Docker:   StatusDocker{Present: true, Running: true, Version: "27.3.1", Flavour: "docker", Unit: unit("docker.service")},
		Credentials: StatusCredentials{Provider: ecsagent.RotatingProvider, Profile: "default", Retrieved: "2026-11-22T11:40:00Z",
			Expires: "2026-11-22T12:40:00Z", Ready: true, Why: "credentials of " + nodeID + " until 2026-11-22T12:40:00Z"},
		Connection: StatusConnection{Connected: true, Since: "2026-11-22T11:40:03Z"},
		Tasks: StatusTasks{Running: 1, Stopped: 1, List: []StatusTask{
			{ARN: taskARN, Definition: "web:7", Status: "RUNNING", Desired: "RUNNING"}}},
		Exec:   StatusExec{Why: "no version of its programs is complete below " + ecsagent.ExecDir},
		Unseen: []StatusUnseen{},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if want := "healthy: managed node " + nodeID + " is container instance"; !strings.HasPrefix(report.Message, want) {
		t.Error(report.Message)
	}
}

// What root alone may see is named, each part with its reason; the rest is told.
func TestStatusWithoutRoot(t *testing.T) {
	p := newPatient(t)
	p.files, p.denied = forRoot{Files: host.NewDir(p.root)}, true
	_, got, err := p.status(StatusRequest{})
	if err != nil || got.ManagedInstanceID != "" || got.ContainerInstanceARN == "" || got.ECSAgent.Running != "1.105.1" || got.Tasks.Running != 1 {
		t.Errorf("%v, %+v", err, got)
	}
	var parts []string
	for _, u := range got.Unseen {
		if !u.NeedsRoot || u.Why == "" {
			t.Errorf("%+v", u)
		}
		parts = append(parts, u.Part)
	}
	want := []string{
		"an unfinished operation", "the last operation", "anywhere's record", "registration and credentials", "the SSM agent's process",
		"the SSM agent's log", "the ECS agent's configuration", "Docker",
	}
	if diff := cmp.Diff(want, parts); diff != "" {
		t.Error(diff)
	}
}

func TestStatusWarns(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(p *patient)
		says  string
	}{
		"another image is loaded": {func(p *patient) {
			p.docker["/containers/ecs-agent/json"] = `{"Image":"sha256:old","State":{"Status":"running"}}`
		}, "systemctl restart ecs.service"},
		"another version is installed": {func(p *patient) { p.install(ecsagent.Package, "1.106.0-1") }, "1.105.1 runs and 1.106.0-1 is installed"},
		"the SSM agent was replaced": {func(p *patient) {
			p.unit(ssmagent.UnitName, func(u *host.Unit) { u.MainPID = 4711 })
			local := filepath.Join(p.root, "proc/4711")
			if err := errors.Join(os.MkdirAll(local, 0o755), os.Symlink("/usr/bin/amazon-ssm-agent (deleted)", filepath.Join(local, "exe"))); err != nil {
				p.t.Fatal(err)
			}
		}, "the old one still runs"},
		"credentials are overdue": {func(p *patient) {
			p.fetched(noon.Add(-50*time.Minute), noon.Add(10*time.Minute))
			p.write(ssmagent.LogPath, ssmLine(noon.Add(-5*time.Minute), "ERROR Retrieve credentials produced error: RequestError: send request failed"))
		}, "were not; they expire at 2026-11-22T12:10:00Z: a host could not be reached"},
		"the side file is another node's": {func(p *patient) {
			p.write(ssmagent.RegistrationPath, `{"ManagedInstanceID":"mi-0fedcba9876543210","Region":"eu-central-1"}`)
		}, "mi-0fedcba9876543210"},
		"registered by somebody else since": {func(p *patient) {
			p.write(recordPath, `{"schema":1,"registration":{"managedInstanceId":"mi-0fedcba9876543210","cluster":"web"}}`)
		}, "somebody else has registered it"},
		"a record that cannot be read": {func(p *patient) { p.write(recordPath, "{") }, "record.json is not readable"},
		"a death":                      {func(p *patient) { p.inits = []string{told(noon.Add(-time.Minute), "Agent exited with code 2")} }, "has died 1 times"},
		"tasks fail": {func(p *patient) {
			p.log = append(p.log, logged(noon.Add(-time.Minute), "cgroup resource: setup cgroup: unable to create cgroup"))
		}, "cgroup driver does not fit"},
		"a quoted setting": {func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nECS_EXTERNAL=\"true\"\n")
		}, "line 2 of /etc/ecs/ecs.config has a quoted value"},
		"an old agent": {func(p *patient) {
			p.agent["/v1/metadata"] = strings.Replace(p.agent["/v1/metadata"], "1.105.1", "1.99.0", 1)
			p.install(ecsagent.Package, "1.99.0-1")
		}, "EC2 role"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			test.spoil(p)
			report, got, err := p.status(StatusRequest{})
			if err != nil || got.State != Healthy || !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, test.says) }) {
				t.Errorf("%s, %v, warnings %q; want %q", got.State, err, report.Warnings, test.says)
			}
		})
	}
}

// A command that is at work is not one that was cut off.
func TestStatusWhileAnotherRunIsAtWork(t *testing.T) {
	p := newPatient(t)
	p.write(openJournal, journalText())
	p.write(LockPath, "pid 4711, run run-9\n")
	p.write("/proc/locks", "1: FLOCK  ADVISORY  WRITE 4711 00:1a:123 0 EOF\n")
	report, got, err := p.status(StatusRequest{})
	if err != nil || got.State != Healthy || got.Operation.AtWork != "pid 4711, run run-9" || got.Operation.Unfinished == nil {
		t.Errorf("%v, %s, %+v", err, got.State, got.Operation)
	}
	if !slices.ContainsFunc(report.Warnings, func(w string) bool { return strings.Contains(w, "pid 4711") }) {
		t.Errorf("%q", report.Warnings)
	}
	p.write("/proc/locks", "1: FLOCK  ADVISORY  WRITE 1 00:1a:123 0 EOF\n")
	if _, got, _ := p.status(StatusRequest{}); got.State != HalfDone || got.Operation.AtWork != "" {
		t.Errorf("killed: %s, %+v", got.State, got.Operation)
	}
}

func TestStatusTellsTheLastOperation(t *testing.T) {
	p := newPatient(t)
	p.write(DataDir+"/journal/20261122T110500Z-register-run-0.jsonl", journalText(`{"is":"end","at":"2026-11-22T11:05:00Z","how":"done"}`))
	p.write(DataDir+"/journal/20261121T110500Z-register-run-x.jsonl", "older, and garbage")
	_, got, err := p.status(StatusRequest{})
	want := &StatusLast{Verb: "register", RunID: "run-0", StartedAt: "2026-11-22T11:00:00Z", EndedAt: "2026-11-22T11:05:00Z", How: "done"}
	if diff := cmp.Diff(want, got.Operation.Last); err != nil || diff != "" {
		t.Error(err, diff)
	}
	p.write(DataDir+"/journal/20261122T115500Z-unreadable-run-1.jsonl", "garbage")
	if _, got, _ := p.status(StatusRequest{}); got.Operation.Last == nil || got.Operation.Last.How != "abandoned" || got.Operation.Last.EndedAt != "2026-11-22T11:55:00Z" {
		t.Errorf("%+v", got.Operation.Last)
	}
}

func TestFacts(t *testing.T) {
	p := newPatient(t)
	first, result, err := p.status(StatusRequest{Facts: true})
	if err != nil || !first.Changed || result.FactsFile != FactsPath {
		t.Fatalf("%v, %+v", err, first)
	}
	local := filepath.Join(p.root, FactsPath)
	text, err := os.ReadFile(local)
	if err != nil {
		t.Fatal(err)
	}
	var fact map[string]string
	if err := json.Unmarshal(text, &fact); err != nil || fact["state"] != "healthy" || fact["managedInstanceId"] != nodeID || fact["ecsAgentVersion"] != "1.105.1" {
		t.Errorf("%v: %s", err, text)
	}
	if info, err := os.Stat(local); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	p.now = func() time.Time { return noon.Add(10 * time.Minute) } // a fact has no times
	if again, _, err := p.status(StatusRequest{Facts: true}); err != nil || again.Changed {
		t.Errorf("the second time: %v, %v", again.Changed, err)
	}
	p.agent = nil
	if other, _, err := p.status(StatusRequest{Facts: true}); err != nil || !other.Changed || other.Exit != failure.ExitUnhealthy {
		t.Errorf("an unhealthy host: %+v, %v", other, err)
	}
	d := p.deps()
	d.Host.Self.EUID = 1000
	if report, err := Status(t.Context(), d, StatusRequest{Facts: true}); !failure.Is(err, failure.NotRoot) || report.Result == nil {
		t.Errorf("without root: %v, %+v", err, report)
	}
}

// docs/status.md is held to the rules.
func TestRulesAreDocumented(t *testing.T) {
	const page = "../../docs/status.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), RulesText()) {
		t.Errorf("%s does not have the rules as they are:\n%s", page, RulesText())
	}
	if len(Rules) < 9 {
		t.Error(fmt.Sprint("so few rules: ", len(Rules)))
	}
}

func BenchmarkStatus(b *testing.B) {
	p := newPatient(b)
	d := p.deps()
	for b.Loop() {
		if report, err := Status(b.Context(), d, StatusRequest{}); err != nil || report.Exit != 0 {
			b.Fatal(err, report.Message)
		}
	}
}
