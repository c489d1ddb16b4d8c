package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// A unit that runs has what is on the disk now: as recorded when anywhere started it, else by the files' times.
func TestStarted(t *testing.T) {
	before, after := noon.Add(-time.Hour), noon.Add(-time.Minute)
	since := noon.Add(-30 * time.Minute)
	record := func(digest string) string { return fmt.Sprintf(`{"schema":1,"started":{"ecs.service":%q}}`, digest) }
	const ( // stand for a digest: that of what is on the disk, and that of a start that nobody saw the end of
		current = "CURRENT"
		killed  = "KILLED"
	)
	for _, test := range []struct {
		name   string
		change func(m *machine)
		record string // digest in the record; empty is no record
		want   engine.State
		says   string
	}{
		{name: "by its files, older", change: func(m *machine) { m.writeAt(ecsagent.ConfigPath, "A=1", before) },
			want: engine.OK},
		{name: "by its files, newer", change: func(m *machine) { m.writeAt(ecsagent.ConfigPath, "A=1", after) },
			want: engine.Pending, says: "before /etc/ecs/ecs.config changed"},
		{name: "by another of its files", change: func(m *machine) {
			m.writeAt(ecsagent.ConfigPath, "A=1", before)
			m.writeAt(ecsagent.InstanceConfigPath, "B=1", after)
		}, want: engine.Pending, says: ecsagent.InstanceConfigPath},
		{name: "by systemd's file, newer", change: func(m *machine) { m.writeAt(ecsagent.DropInPath, "[Service]", after) },
			want: engine.OK},
		{name: "as recorded", record: current, change: func(m *machine) { m.writeAt(ecsagent.ConfigPath, "A=1", after) },
			want: engine.OK},
		{name: "not as recorded", record: "0123", change: func(m *machine) { m.writeAt(ecsagent.ConfigPath, "A=1", before) },
			want: engine.Pending, says: "before its configuration changed"},
		{name: "killed while it was started", record: killed, want: engine.Pending, says: "before its configuration changed"},
		{name: "stopped", record: current, change: func(m *machine) {
			m.units[ecsagent.Unit] = host.Unit{Loaded: true, Active: "inactive", Sub: "dead", Enabled: "enabled"}
		}, want: engine.Pending, says: "is inactive dead"},
		{name: "between two starts", record: current, change: func(m *machine) {
			m.units[ecsagent.Unit] = host.Unit{Loaded: true, Active: "activating", Sub: "auto-restart", Enabled: "enabled"}
		}, want: engine.Pending, says: "activating auto-restart"},
		{name: "not at boot", record: current, change: func(m *machine) {
			unit := m.units[ecsagent.Unit]
			unit.Enabled = "disabled"
			m.units[ecsagent.Unit] = unit
		}, want: engine.Pending, says: "does not start at boot"},
		{name: "not installed", change: func(m *machine) { delete(m.units, ecsagent.Unit) },
			want: engine.Unknown, says: "start ecs.service"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.runs(ecsagent.Unit, since)
			if test.change != nil {
				test.change(m)
			}
			r := m.registration(RegisterRequest{})
			reader := r.deps.Host.Reader
			switch test.record {
			case current:
				digest, err := r.ecsInputs(reader)
				if err != nil {
					t.Fatal(err)
				}
				m.write(recordPath, record(digest))
			case killed:
				m.write(recordPath, record(starting))
			case "":
			default:
				m.write(recordPath, record(test.record))
			}
			got, err := r.started(t.Context(), reader, ecsagent.Unit, r.ecsInputs)
			if err != nil || got.State != test.want || !strings.Contains(got.Detail, test.says) {
				t.Errorf("%+v, %v; want state %d, %q", got, err, test.want, test.says)
			}
		})
	}
}

// Whatever the agents read at their start is in the digest.
func TestInputs(t *testing.T) {
	m := newMachine(t)
	r := m.registration(RegisterRequest{})
	seen := map[string]string{}
	look := func(name string) {
		t.Helper()
		digest, err := r.ecsInputs(r.deps.Host.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if before, found := seen[digest]; found {
			t.Errorf("%s: the digest is that of %s", name, before)
		}
		seen[digest] = name
	}
	look("bare")
	for _, path := range inputFiles(ecsagent.Unit) {
		m.write(path, "content")
		look(path)
	}
	m.install(ecsagent.Package, "1.105.1-1")
	look("version")
	m.registered()
	look("identity")
	for _, name := range ecsagent.ExecBinaries {
		m.write(ecsagent.ExecDir+"/bin/3.3.4108.0/"+name, "program")
	}
	look("exec")
}

// A drop-in that systemd has not read is not there yet: a run may have been killed in between.
func TestDropInCountsOnceSystemdHasReadIt(t *testing.T) {
	for _, test := range []struct {
		name   string
		file   string
		loaded []string
		want   engine.State
	}{
		{"missing", "", nil, engine.Pending},
		{"another", "[Service]\n", []string{ecsagent.DropInPath}, engine.Pending},
		{"written", string(ecsagent.DropIn()), nil, engine.Pending},
		{"read", string(ecsagent.DropIn()), []string{"/x.conf", ecsagent.DropInPath}, engine.OK},
	} {
		m := newMachine(t)
		m.runs(ecsagent.Unit, noon)
		unit := m.units[ecsagent.Unit]
		unit.DropIns = test.loaded
		m.units[ecsagent.Unit] = unit
		if test.file != "" {
			m.write(ecsagent.DropInPath, test.file)
		}
		r := m.registration(RegisterRequest{})
		if got, err := r.ecsDropIn().Observe(t.Context(), r.deps.Host.Reader); err != nil || got.State != test.want {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

func TestVerified(t *testing.T) {
	since := noon.Add(-time.Minute)
	const gone = "Container instance is deregistered"
	for _, test := range []struct {
		name     string
		account  string // that was asked for; empty when nothing says which
		metadata string
		log      string
		want     engine.State
		code     failure.Code
		says     string
	}{
		{name: "as wanted", account: account, metadata: instance("shop", account, region, "shop"),
			want: engine.OK, says: instanceARN(account, region, "shop")},
		{name: "no account was named", metadata: instance("shop", account, region, "shop"), want: engine.OK},
		{name: "configured by its ARN", account: account,
			metadata: instance("arn:aws:ecs:eu-central-1:111122223333:cluster/shop", account, region, "shop"), want: engine.OK},
		{name: "closed", account: account, want: engine.Pending, says: "has not registered yet"},
		{name: "no instance yet", account: account,
			metadata: `{"Cluster":"shop","ContainerInstanceArn":null,"Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`,
			want:     engine.Pending, says: "no container instance yet"},
		{name: "another program", account: account, metadata: "<html>", want: engine.Pending, says: "does not answer"},
		{name: "another cluster", account: account, metadata: instance("web", account, region, "web"),
			code: failure.RegisteredElsewere, says: "not in cluster shop of 111122223333 eu-central-1"},
		{name: "an ARN of another cluster than it is configured for", account: account,
			metadata: instance("shop", account, region, "web"), code: failure.RegisteredElsewere},
		{name: "another account", account: account, metadata: instance("shop", "444455556666", region, "shop"),
			code: failure.RegisteredElsewere, says: "444455556666"},
		{name: "another Region", account: account, metadata: instance("shop", account, "us-east-1", "shop"),
			code: failure.RegisteredElsewere, says: "us-east-1"},
		{name: "deregistered since it was started", account: account, metadata: instance("shop", account, region, "shop"),
			log: logged(since.Add(10*time.Second), gone), want: engine.Pending, says: "ECS has deregistered"},
		{name: "deregistered in an earlier life", account: account, metadata: instance("shop", account, region, "shop"),
			log: logged(since.Add(-10*time.Second), gone), want: engine.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.runs(ecsagent.Unit, since)
			m.metadata = test.metadata
			if test.log != "" {
				m.write(ecsagent.LogPath, test.log)
			}
			r := m.registration(RegisterRequest{}).with(region, test.account, "shop")
			got, err := r.verified(t.Context(), r.deps.Host.Reader)
			if test.code != "" {
				if !failure.Is(err, test.code) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%+v, %v; want %s: %s", got, err, test.code, test.says)
				}
				return
			}
			if err != nil || got.State != test.want || !strings.Contains(got.Detail, test.says) {
				t.Errorf("%+v, %v; want state %d, %q", got, err, test.want, test.says)
			}
			if known := r.arn.ID != ""; known != (test.want == engine.OK) {
				t.Errorf("the instance is taken for proven: %v", known)
			}
		})
	}
}
