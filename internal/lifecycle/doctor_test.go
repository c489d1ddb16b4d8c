package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// newHealthy is a patient of whom not even the checks of preflight have anything to say.
func newHealthy(t testing.TB) *patient {
	p := newPatient(t)
	p.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids\n")
	p.write("/proc/sys/kernel/osrelease", "6.1.0-26-amd64\n")
	p.write("/lib/modules/6.1.0-26-amd64/modules.dep", "")
	p.write("/proc/meminfo", "MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: 6000000 kB\n")
	for _, program := range []string{"/usr/sbin/iptables", "/usr/sbin/sysctl", ecsagent.InitBinary, ssmagent.Binary} {
		p.write(program, "#!/bin/sh\n")
		if err := os.Chmod(filepath.Join(p.root, program), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(p.root, ecsagent.DataDir), 0o755); err != nil {
		t.Fatal(err)
	}
	p.docker["/info"] = `{"CgroupDriver":"systemd","CgroupVersion":"2","Driver":"overlay2","DockerRootDir":"/var/lib/docker"}`
	p.write(ecsagent.DropInPath, string(ecsagent.DropIn()))
	p.unit(ecsagent.Unit, func(u *host.Unit) { u.DropIns = []string{ecsagent.DropInPath} })
	p.journal = map[string][]string{"docker.service": {"Started Docker Application Container Engine."}}
	return p
}

// journalRunner answers for journalctl.
type journalRunner struct {
	p       *patient
	mu      sync.Mutex
	refuses string // what it prints instead
}

func (r *journalRunner) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p.journal == nil {
		return host.Result{}, errors.New("fork/exec /usr/bin/journalctl: no such file or directory")
	}
	if r.refuses != "" {
		return host.Result{Output: r.refuses}, nil
	}
	if r.p.journalOld && slices.Contains(cmd.Args, "--output-fields=MESSAGE") {
		return host.Result{ExitCode: 1, Output: "journalctl: unrecognized option '--output-fields=MESSAGE'\n"}, nil
	}
	var out strings.Builder
	for unit, lines := range r.p.journal {
		if !slices.Contains(cmd.Args, "--unit="+unit) && !(unit == unitKernel && slices.Contains(cmd.Args, "--dmesg")) {
			continue
		}
		for _, line := range lines {
			text, err := json.Marshal(line)
			if err != nil {
				return host.Result{}, err
			}
			fmt.Fprintf(&out, `{"__REALTIME_TIMESTAMP":"%d","MESSAGE":%s}`+"\n", noon.Add(-3*time.Minute).UnixMicro(), text)
		}
	}
	return host.Result{Output: out.String()}, nil
}

func (*journalRunner) Wait(context.Context, host.Child) error { return nil }

// doctor asks, and holds the report to what is so of every one.
func (p *patient) doctor(req DoctorRequest) (Report, DoctorResult, error) {
	p.t.Helper()
	d := p.deps()
	d.Host.Runner = &journalRunner{p: p, refuses: p.journalSays}
	req.Offline = !req.Remote
	report, err := Doctor(p.t.Context(), d, req)
	result, ok := report.Result.(DoctorResult)
	if !ok {
		p.t.Fatalf("%v: %+v", err, report)
	}
	if err == nil && (report.Exit == 0) == result.ill() || report.Exit != 0 && report.Exit != failure.ExitUnhealthy {
		p.t.Errorf("%s with %+v exits %d", result.State, result.Findings, report.Exit)
	}
	last := -1
	for i, f := range result.Findings {
		if _, known := failure.Catalogue[f.Code]; !known || f.Title == "" || f.Cause == "" || f.Remedy == "" || len(f.Evidence) == 0 {
			p.t.Errorf("a finding that is not whole: %+v", f)
		}
		if kind := slices.Index(FindingKinds, f.Kind); kind < 0 || i > 0 && !f.Kind.counts() && kind < last {
			p.t.Errorf("%s in the wrong place: %+v", f.Kind, result.Findings)
		} else {
			last = kind
		}
		if f.Fix != "" && !slices.ContainsFunc(result.Fixes, func(x DoctorFix) bool { return x.ID == f.Fix }) {
			p.t.Errorf("a remedy that --fix does not have: %+v", f)
		}
	}
	return report, result, err
}

func TestDoctorOfAHealthyHost(t *testing.T) {
	p := newHealthy(t)
	report, got, err := p.doctor(DoctorRequest{})
	if err != nil || report.Exit != 0 || len(got.Findings) > 0 || len(got.Fixes) > 0 || report.Message != "nothing wrong was found" || report.Changed {
		t.Fatalf("%v %+v %+v", err, report.Message, got.Findings)
	}
	var ids []string
	for _, o := range got.RuledOut {
		if o.Title == "" || o.Detail == "" {
			t.Errorf("%+v", o)
		}
		ids = append(ids, o.ID)
	}
	for _, want := range []string{"registration", "docker", "ecs.connection", "disk.space", "ecs.version", "ssm.version", "logs", "journal"} {
		if !slices.Contains(ids, want) {
			t.Errorf("%s is not ruled out by %v", want, ids)
		}
	}
}

// The first finding is the most probable cause, whatever else is found.
func TestDoctorOfSickHosts(t *testing.T) {
	ago := func(minutes int) time.Time { return noon.Add(time.Duration(-minutes) * time.Minute) }
	const refused = "ERROR [CredentialRefresher] Retrieve credentials produced error: "
	ecsFailed := func(p *patient, lines ...string) { // the agent has ended for good
		p.agent = nil
		p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub, u.Result, u.ExitStatus = "failed", "failed", "exit-code", 5 })
		for _, line := range lines {
			p.log = append(p.log, logged(ago(2), line))
		}
		p.log = append(p.log, logged(ago(2), "Agent will terminally exit, unable to register container instance:"))
		p.inits = append(p.inits, logged(ago(2), "agent exited with terminal exit code: 5"))
	}
	ecsLoops := func(p *patient, lines ...string) { // ecs-init starts it again and again
		p.agent, p.log = nil, nil
		for _, minute := range []int{9, 6, 3} {
			for _, line := range lines {
				p.log = append(p.log, logged(ago(minute), line))
			}
			p.inits = append(p.inits, logged(ago(minute), "Agent exited with code 1"), logged(ago(minute), "ECS Agent failed to start, retrying in 15s"))
		}
	}
	expired := func(p *patient, line string) { // Systems Manager gives no new credentials
		p.fetched(ago(70), ago(10))
		p.write(ssmagent.LogPath, ssmLine(ago(70), "INFO [CredentialRefresher] Credentials ready")+ssmLine(ago(40), refused+line)+ssmLine(ago(4), refused+line))
	}
	for _, test := range []struct {
		name  string
		spoil func(p *patient)
		code  failure.Code
		kind  FindingKind
		says  string
		fix   string
	}{
		// The registration.
		{name: "never registered", code: failure.NotRegistered, kind: FindingNow, says: "anywhere register", spoil: func(p *patient) {
			p.drop("/var/lib/amazon")
			p.agent, p.log = nil, nil
		}},
		{name: "deregistered in Systems Manager", code: failure.NodeUnknown, kind: FindingNow, says: "InvalidInstanceId",
			spoil: func(p *patient) { expired(p, "InvalidInstanceId: Not existing InstanceId "+nodeID) }},
		{name: "a clone", code: failure.FingerprintChanged, kind: FindingNow, says: "machine-id",
			spoil: func(p *patient) { p.write("/etc/machine-id", strings.Repeat("c", 32)+"\n") }},
		{name: "a lost vault", code: failure.IdentityUnknown, kind: FindingNow, says: "RegistrationKey", spoil: func(p *patient) { p.drop(ssmagent.KeyPath) }},
		{name: "deregistered in ECS while it runs", code: failure.InstanceInactive, kind: FindingNow, says: "deregistered", spoil: func(p *patient) {
			p.log = append(p.log, logged(ago(2), "Failed to connect to ACS: InactiveInstanceException: x"), told(ago(2), "Container instance is deregistered"))
		}},
		{name: "deregistered in ECS, and started again", code: failure.InstanceInactive, says: "inactive",
			spoil: func(p *patient) {
				ecsFailed(p, "Error re-registering: ClientException: Container instance arn:x is inactive.")
			}},

		// Docker.
		{name: "Docker is dead", code: failure.DockerDown, kind: FindingNow, says: "docker.service is inactive", spoil: func(p *patient) {
			p.docker = nil
			p.unit("docker.service", func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
			ecsLoops(p, "Docker SDK client unable to connect to Docker daemon. Ensure Docker is running")
		}},
		{name: "Docker's configuration is broken", code: failure.DockerDown, kind: FindingNow, says: "daemon.json", spoil: func(p *patient) {
			p.docker = nil
			p.unit("docker.service", func(u *host.Unit) { u.Active, u.Sub, u.Result = "failed", "failed", "exit-code" })
			p.journal["docker.service"] = []string{"unable to configure the Docker daemon with file /etc/docker/daemon.json: invalid character '}'",
				"docker.service: Start request repeated too quickly."}
		}},
		{name: "Docker is gone", code: failure.DockerAbsent, kind: FindingNow, spoil: func(p *patient) {
			p.docker = nil
			p.drop("/usr/bin/dockerd")
			delete(p.units, "docker.service")
			ecsLoops(p, "could not create docker client")
		}},
		{name: "the disk is full, so Docker is dead", code: failure.DiskFull, kind: FindingCause, says: "df -h", spoil: func(p *patient) {
			p.docker = nil
			p.unit("docker.service", func(u *host.Unit) { u.Active, u.Sub, u.Result = "failed", "failed", "exit-code" })
			p.journal["docker.service"] = []string{"failed to start daemon: write /var/lib/docker/x: no space left on device"}
		}},
		{name: "iptables is gone, so Docker is dead", code: failure.ToolMissing, says: "iptables", spoil: func(p *patient) {
			p.docker = nil
			p.drop("/usr/sbin/iptables")
			p.unit("docker.service", func(u *host.Unit) { u.Active, u.Sub, u.Result = "failed", "failed", "exit-code" })
			p.inits = []string{logged(ago(2), "Error searching 'iptables' executable: exec: not found")}
		}},
		{name: "podman", code: failure.DockerVersion, kind: FindingNow, says: "podman", spoil: func(p *patient) {
			p.docker["/version"] = `{"Version":"5.0.0","ApiVersion":"1.41","Components":[{"Name":"Podman Engine"}]}`
		}},
		{name: "Docker is too new", code: failure.DockerVersion, kind: FindingNow, says: "older Docker", spoil: func(p *patient) {
			p.docker["/version"] = `{"Version":"40.0","ApiVersion":"1.60","MinAPIVersion":"1.50","Components":[{"Name":"Engine"}]}`
			ecsLoops(p, "client version 1.44 is too old. Minimum supported API version is 1.50")
		}},

		// The SSM agent and the credentials.
		{name: "the SSM agent is stopped", code: failure.ServiceFailed, kind: FindingSymptom, says: "inactive dead", fix: "ssm.service",
			spoil: func(p *patient) {
				p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
			}},
		{name: "the SSM agent is disabled", code: failure.ServiceFailed, kind: FindingSymptom, says: "boot", fix: "ssm.service",
			spoil: func(p *patient) { p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Enabled = "disabled" }) }},
		{name: "the SSM agent's configuration is broken", code: failure.AgentConfig, says: "is not JSON", spoil: func(p *patient) {
			p.unit(ssmagent.UnitName, func(u *host.Unit) { u.Active, u.Sub, u.Restarts = "activating", "auto-restart", 7 })
			p.write(ssmagent.LogPath, ssmLine(started, "INFO Credentials ready")+ssmLine(ago(2), "ERROR app config could not be loaded"))
		}},
		{name: "the clock is wrong", code: failure.ClockSkew, kind: FindingNow, says: "timedatectl", spoil: func(p *patient) {
			expired(p, "InvalidSignatureException: Signature expired: 20261122T110000Z is now earlier than 20261122T115500Z")
			ecsLoops(p, "api error ExpiredTokenException: expired")
		}},
		{name: "the network is down", code: failure.CredentialsExpired, kind: FindingNow, says: "expired", spoil: func(p *patient) {
			expired(p, "RequestError: send request failed caused by: dial tcp 10.0.0.1:443: connect: connection refused")
		}},
		{name: "a proxy breaks TLS open", code: failure.TLSUntrusted, says: "x509", spoil: func(p *patient) {
			expired(p, "RequestError: send request failed caused by: x509: certificate signed by unknown authority")
			ecsLoops(p, "RegisterContainerInstance, request send failed, tls: failed to verify certificate: x509: certificate signed by unknown authority")
		}},
		{name: "the node's role is not usable", code: failure.AccessDenied, says: "ssm.amazonaws.com", spoil: func(p *patient) {
			expired(p, "AccessDeniedException: Systems Manager's instance management role is not configured")
		}},
		{name: "the credentials file is gone", code: failure.CredentialsInvalid, kind: FindingNow, says: "no credentials of the agent",
			spoil: func(p *patient) { p.drop(ssmagent.CredentialsPath) }},
		{name: "credentials of somebody else", code: failure.ForeignProfile, kind: FindingNow, says: "EnvConfigCredentials", spoil: func(p *patient) {
			p.log[0] = told(started, "Successfully got ECS instance credentials from provider: EnvConfigCredentials")
		}},
		{name: "an access key in the configuration", code: failure.ForeignProfile, says: "credentials", spoil: func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\nAWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=x\n")
			ecsLoops(p, "api error AccessDeniedException: User: x is not authorized to perform: ecs:RegisterContainerInstance")
		}},

		// The ECS agent.
		{name: "the ECS agent is stopped", code: failure.ServiceFailed, kind: FindingSymptom, says: "inactive dead", fix: "ecs.service",
			spoil: func(p *patient) {
				p.agent = nil
				p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub = "inactive", "dead" })
			}},
		{name: "the cluster is missing", code: failure.ClusterNotFound, says: "Cluster not found", fix: "ecs.service",
			spoil: func(p *patient) { ecsFailed(p, "ClientException: Cluster not found.") }},
		{name: "the configuration names another cluster than the state", code: failure.ClusterMismatch, says: "anywhere move",
			spoil: func(p *patient) {
				ecsFailed(p, "Data mismatch; saved cluster 'shop' does not match configured cluster 'web'. Perhaps you want to delete the configured checkpoint file?")
			}},
		{name: "no right to register", code: failure.AccessDenied, says: "AmazonEC2ContainerServiceforEC2Role", spoil: func(p *patient) {
			ecsLoops(p, "api error AccessDeniedException: User: x is not authorized to perform: ecs:RegisterContainerInstance")
		}},
		{name: "ECS_EXTERNAL is quoted", code: failure.AgentConfig, says: "ECS_EXTERNAL", fix: "ecs.external", spoil: func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=\"true\"\n")
			ecsLoops(p, `Invalid format for "ECS_EXTERNAL", expected a boolean`, "Unable to detect VPC ID and Subnet")
		}},
		{name: "the Region is missing", code: failure.AgentConfig, says: "AWS_DEFAULT_REGION", spoil: func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nECS_EXTERNAL=true\n")
			ecsLoops(p, "AWS_DEFAULT_REGION has to be set when running on external capacity")
		}},
		{name: "ECS Exec's files are half there", code: failure.AgentConfig, kind: FindingNow, says: "without a word", spoil: func(p *patient) {
			ecsLoops(p)
			p.write(ecsagent.ExecBundle, "x")
			p.write(ecsagent.ExecDir+"/bin/3.3.4108.0/amazon-ssm-agent", "x")
		}},
		{name: "a package's program is gone", code: failure.PackagesBroken, kind: FindingNow, says: ecsagent.InitBinary, spoil: func(p *patient) {
			p.drop(ecsagent.InitBinary)
			ecsLoops(p)
		}},
		{name: "the package manager was interrupted", code: failure.PackagesBroken, kind: FindingNow, says: "half installed", spoil: func(p *patient) {
			p.packages[ecsagent.Package] = host.Package{Name: ecsagent.Package, Version: "1.105.1-1", Partial: true}
			ecsLoops(p)
		}},
		{name: "tags of EC2", code: failure.AgentConfig, kind: FindingNow, says: "ec2_instance", spoil: func(p *patient) {
			ecsLoops(p)
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\nECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM=ec2_instance\n")
		}},
		{name: "the agent's folder is gone", code: failure.AgentConfig, says: "/var/lib/ecs/data", fix: "ecs.folders", spoil: func(p *patient) {
			p.write(ecsagent.InitBinary, "")
			p.drop(ecsagent.DataDir)
			ecsLoops(p, "Error creating data client: open /data/agent.db: no such file or directory")
		}},
		{name: "ecs-init's mark is spoilt", code: failure.ServiceFailed, says: "could not handle cache state", fix: "ecs.cache", spoil: func(p *patient) {
			p.agent, p.log = nil, nil
			p.write(ecsagent.CacheState, "7\n")
			p.write(ecsagent.CachedImage, "an image")
			p.inits = []string{logged(ago(2), "could not handle cache state 7")}
			p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub, u.Restarts = "activating", "auto-restart", 9 })
		}},
		{name: "websockets are blocked", code: failure.Network, says: "ecs-a", spoil: func(p *patient) {
			p.log = append(p.log, logged(ago(5), "Failed to connect to ACS: dial tcp ecs-a-1:443: i/o timeout"))
		}},
		{name: "a name does not resolve", code: failure.Network, says: "does not resolve", spoil: func(p *patient) {
			p.log = append(p.log, logged(ago(5), "Failed to connect to ACS: dial tcp: lookup ecs-a-1: no such host"))
		}},
		{name: "dies again and again, nobody knows why", code: failure.AgentCrashLoop, kind: FindingSymptom, says: "docker logs",
			spoil: func(p *patient) { ecsLoops(p) }},
		{name: "another program on its port", code: failure.Network, says: "not the ECS agent",
			spoil: func(p *patient) { p.agent = map[string]string{"/v1/metadata": "<html>"} }},
		{name: "a version that is known to be bad", code: failure.KnownBadVersion, kind: FindingCheck, says: "1.86.0", spoil: func(p *patient) {
			p.install(ecsagent.Package, "1.86.0-1")
		}},
		{name: "an operation was cut off", code: failure.Unfinished, kind: FindingSymptom, says: "rollback", spoil: func(p *patient) {
			p.write(openJournal, journalText(`{"is":"begin","at":"2026-11-22T11:00:01Z","step":"ssm.config","title":"Configure the SSM agent"}`))
		}},
		{name: "an operation was cut off over a missing cluster", code: failure.ClusterNotFound, says: "Cluster not found", spoil: func(p *patient) {
			p.write(openJournal, journalText(`{"is":"begin","at":"2026-11-22T11:00:01Z","step":"ssm.config","title":"Configure the SSM agent"}`))
			ecsFailed(p, "ClientException: Cluster not found.")
		}},
		{name: "iptables is gone, and so are the logs", code: failure.ToolMissing, says: "iptables", spoil: func(p *patient) {
			p.agent, p.log = nil, nil
			p.drop("/var/log")
			p.drop("/usr/sbin/iptables")
			p.unit(ecsagent.Unit, func(u *host.Unit) { u.Active, u.Sub, u.Restarts = "activating", "auto-restart", 9 })
			p.journal[ecsagent.Unit] = []string{strings.TrimSpace(logged(ago(2), "Error searching 'iptables' executable: exec: not found"))}
		}},
		{name: "Systems Manager refuses, and the logs are gone", code: failure.NodeUnknown, kind: FindingCause, says: "journal of amazon-ssm-agent", spoil: func(p *patient) {
			p.fetched(ago(70), ago(10))
			p.drop("/var/log/amazon")
			p.journal[ssmagent.UnitName] = []string{strings.TrimSpace(ssmLine(ago(2), refused+"InvalidInstanceId: Not existing InstanceId"))}
		}},
		{name: "systemd does not answer", code: failure.NoSystemd, spoil: func(p *patient) {
			p.unitOf = func(context.Context, string) (host.Unit, error) {
				return host.Unit{}, failure.New(failure.NoSystemd, "systemd does not answer on the system bus")
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newHealthy(t)
			test.spoil(p)
			report, got, err := p.doctor(DoctorRequest{})
			if err != nil || len(got.Findings) == 0 || report.Exit != failure.ExitUnhealthy {
				t.Fatalf("%v, %s, %+v", err, got.State, got.Findings)
			}
			f := got.Findings[0]
			text := fmt.Sprintf("%+v", f)
			if f.Code != test.code || test.kind != "" && f.Kind != test.kind || !strings.Contains(text, test.says) {
				var all []string
				for _, other := range got.Findings {
					all = append(all, fmt.Sprintf("%s %s %q %+v", other.Kind, other.Code, other.Title, other.Evidence))
				}
				t.Errorf("%s %s: %s\nwant %s %s: %s\nall: %s", f.Kind, f.Code, text, test.kind, test.code, test.says, strings.Join(all, "\n  "))
			}
			if test.fix != "" && !slices.ContainsFunc(got.Findings, func(f DoctorFinding) bool { return f.Fix == test.fix && f.Kind.counts() }) {
				t.Errorf("no finding is mended by %s: %+v %+v", test.fix, got.Findings, got.Fixes)
			}
			if report.Message == "" || report.Message != f.Title {
				t.Errorf("%q", report.Message)
			}
		})
	}
}

// What is not wrong any more, and what is no illness, does not make a host ill.
func TestDoctorWarnsAndRemembers(t *testing.T) {
	ago := func(minutes int) time.Time { return noon.Add(time.Duration(-minutes) * time.Minute) }
	for _, test := range []struct {
		name  string
		spoil func(p *patient)
		kind  FindingKind // of the only finding; empty is none
		says  string
	}{
		{"a failure of an earlier life", func(p *patient) {
			p.log = append([]string{logged(ago(90), "Cluster not found."), logged(ago(60), "Cluster not found.")}, p.log...)
		}, FindingHistory, "Cluster not found"},
		{"a refusal of Systems Manager that is over", func(p *patient) {
			p.write(ssmagent.LogPath, ssmLine(ago(90), "ERROR [CredentialRefresher] Retrieve credentials produced error: RequestError: send request failed")+
				ssmLine(ago(50), "ERROR [CredentialRefresher] Retrieve credentials produced error: RequestError: send request failed")+
				ssmLine(started, "INFO [CredentialRefresher] Credentials ready"))
		}, FindingHistory, "send request failed"},
		{"a start's own trouble", func(p *patient) {
			p.log = append([]string{logged(started, "no valid providers in chain")}, p.log...)
		}, "", ""},
		{"in what was rolled over and packed away", func(p *patient) {
			p.write(ecsagent.LogPath+".4", logged(ago(900), "Cluster not found.")+logged(ago(800), "Cluster not found."))
		}, FindingHistory, ecsagent.LogPath + ".4"},
		{"tasks that fail", func(p *patient) {
			p.log = append(p.log, logged(ago(2), "cgroup resource: setup cgroup: unable to create cgroup"))
		}, FindingWarning, "control group"},
		{"tasks that failed a life ago", func(p *patient) {
			p.log = append([]string{logged(ago(40), "cgroup resource: setup cgroup: unable to create cgroup")}, p.log...)
		}, FindingHistory, "control group"},
		{"the message channel is closed", func(p *patient) {
			p.write(ssmagent.LogPath, ssmLine(started, "INFO [CredentialRefresher] Credentials ready")+
				ssmLine(ago(2), "ERROR [MGSInteractor] Failed to get controlchannel token, error: AccessDeniedException"))
		}, FindingWarning, "AmazonSSMManagedInstanceCore"},
		{"memory ran out", func(p *patient) { p.journal[unitKernel] = []string{"Out of memory: Killed process 7 (python3)"} }, FindingWarning, "Killed process"},
		{"Docker died and came back", func(p *patient) {
			p.journal["docker.service"] = []string{"docker.service: Start request repeated too quickly.", "Started Docker Application Container Engine."}
		}, FindingHistory, "repeated too quickly"},
		{"the memory controller is off", func(p *patient) { p.write("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io\n") }, FindingWarning, "cgroup_enable=memory"},
		{"a newer package waits", func(p *patient) { p.install(ecsagent.Package, "1.106.0-1") }, FindingWarning, "1.106.0-1 is installed"},
		{"an old agent", func(p *patient) {
			p.install(ecsagent.Package, "1.99.0-1")
			p.agent["/v1/metadata"] = strings.Replace(p.agent["/v1/metadata"], "1.105.1", "1.99.0", 1)
		}, FindingWarning, "EC2 role"},
		{"roles of tasks get no credentials", func(p *patient) { p.write(loopbackRouting, "0\n") }, FindingWarning, "route_localnet"},
		{"keys that others can read", func(p *patient) {
			if err := os.Chmod(filepath.Join(p.root, ssmagent.CredentialsPath), 0o644); err != nil {
				p.t.Fatal(err)
			}
		}, FindingWarning, "chmod 0600"},
		{"what an upgrade has ended", func(p *patient) {
			p.log = append(p.log, logged(ago(2), "cgroupv2 create: unable to create v2 manager: dial unix /run/systemd/private"))
		}, FindingHistory, "AppArmor"},
		{"a drop-in that systemd has not read", func(p *patient) {
			p.write("/etc/systemd/system/docker.service.d/proxy.conf", "[Service]\n")
		}, FindingWarning, "daemon-reload"},
		{"a secret that is open", func(p *patient) {
			p.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\nECS_ENGINE_AUTH_DATA={\"r\":{\"password\":\"hunter2\"}}\n")
			if err := os.Chmod(filepath.Join(p.root, ecsagent.ConfigPath), 0o644); err != nil {
				p.t.Fatal(err)
			}
		}, FindingWarning, "can be read by others"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newHealthy(t)
			test.spoil(p)
			report, got, err := p.doctor(DoctorRequest{})
			if err != nil || report.Exit != 0 || !strings.HasPrefix(report.Message, "nothing wrong was found") {
				t.Fatalf("%v, %d, %s: %+v", err, report.Exit, report.Message, got.Findings)
			}
			if test.kind == "" {
				if len(got.Findings) > 0 {
					t.Errorf("%+v", got.Findings)
				}
				return
			}
			if len(got.Findings) == 0 || got.Findings[0].Kind != test.kind || !strings.Contains(fmt.Sprintf("%+v", got.Findings[0]), test.says) {
				t.Errorf("%+v; want %s: %s", got.Findings, test.kind, test.says)
			}
		})
	}
}

// A half-blind doctor says what it could not see, and what it could.
func TestDoctorIsHalfBlind(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(p *patient)
		state HealthState
		parts []string // that are told as unseen
	}{
		{"no journal", func(p *patient) { p.journal = nil }, Healthy, []string{"the journal"}},
		{"a journal for root", func(p *patient) {
			p.journalSays = "Hint: You are currently not seeing messages from other users and the system.\n-- No entries --\n"
		}, Healthy, []string{"the journal"}},
		{"a journal of nonsense", func(p *patient) { p.journalSays = "{\"MESSAGE\":[255,65]}\nnonsense\n" }, Healthy, nil},
		{"an old journalctl", func(p *patient) { p.journalOld = true }, Healthy, nil},
		{"an ordinary user", func(p *patient) {
			p.files, p.denied = forRoot{Files: host.NewDir(p.root)}, true
		}, Healthy, []string{"registration and credentials", "Docker", ssmagent.LogPath, "what --fix could do"}},
		{"no logs at all", func(p *patient) { p.log = nil; p.drop("/var/log") }, StateUnknown, nil},
		{"a record that cannot be read", func(p *patient) { p.write(recordPath, "{") }, Healthy, nil},
		{"a journal of an operation that cannot be read", func(p *patient) { p.write(openJournal, "garbage") }, HalfDone, nil},
		{"Docker hangs", func(p *patient) { p.hang, p.docker = "unix", nil }, StateUnknown, []string{"Docker"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newHealthy(t)
			test.spoil(p)
			_, got, err := p.doctor(DoctorRequest{})
			if err != nil || got.State != test.state || len(got.RuledOut) == 0 {
				t.Errorf("%v, %s, %+v", err, got.State, got.Findings)
			}
			if p.journalOld && !slices.ContainsFunc(got.RuledOut, func(o DoctorRuledOut) bool { return o.ID == "journal" }) {
				t.Error("the journal was not read")
			}
			for _, part := range test.parts {
				if !slices.ContainsFunc(got.Unseen, func(u StatusUnseen) bool { return u.Part == part && u.Why != "" }) {
					t.Errorf("%s is not told as unseen: %+v", part, got.Unseen)
				}
			}
		})
	}
}

// What explains another finding stands before it, and nothing else moves.
func TestCausesFirst(t *testing.T) {
	finding := func(kind FindingKind, code failure.Code) DoctorFinding { return DoctorFinding{Kind: kind, Code: code} }
	for _, test := range []struct {
		name string
		in   []DoctorFinding
		want []failure.Code
	}{
		{"nothing to explain", []DoctorFinding{finding(FindingNow, failure.ClusterNotFound), finding(FindingCheck, failure.DiskFull)},
			[]failure.Code{failure.ClusterNotFound, failure.DiskFull}},
		{"a check explains", []DoctorFinding{finding(FindingNow, failure.NodeUnknown), finding(FindingNow, failure.DockerDown), finding(FindingCheck, failure.DiskFull)},
			[]failure.Code{failure.NodeUnknown, failure.DiskFull, failure.DockerDown}},
		{"a chain", []DoctorFinding{finding(FindingSymptom, failure.ConnectTimeout), finding(FindingSymptom, failure.DockerDown), finding(FindingCheck, failure.DiskFull)},
			[]failure.Code{failure.DiskFull, failure.DockerDown, failure.ConnectTimeout}},
		{"a warning explains nothing", []DoctorFinding{finding(FindingNow, failure.DockerDown), finding(FindingWarning, failure.DiskFull)},
			[]failure.Code{failure.DockerDown, failure.DiskFull}},
		{"history explains nothing", []DoctorFinding{finding(FindingNow, failure.DockerDown), finding(FindingHistory, failure.DiskFull)},
			[]failure.Code{failure.DockerDown, failure.DiskFull}},
	} {
		var got []failure.Code
		for _, f := range causesFirst(test.in) {
			got = append(got, f.Code)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	for cause, effects := range explains { // no two explain each other: nothing would settle which comes first
		for _, effect := range effects {
			if slices.Contains(explains[effect], cause) {
				t.Errorf("%s and %s explain each other", cause, effect)
			}
		}
	}
}
