package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// The remedy of a failure that keeps something says how to go on, and never that no token is needed where one is.
func TestExplain(t *testing.T) {
	kept := engine.Outcome{Kept: []string{"managed node " + nodeID}}
	denied := failure.New(failure.AccessDenied, "denied").WithEvidence("line").WithRemedy("attach the policy")
	for _, test := range []struct {
		name   string
		err    error
		out    engine.Outcome
		node   bool
		remedy string
	}{
		{"nothing kept", denied, engine.Outcome{RolledBack: true}, true, "attach the policy"},
		{"registered", denied, kept, true,
			"attach the policy; then run the same command again, no token needed; it goes on where this one stopped"},
		{"not registered", denied, kept, false,
			"attach the policy; then run the same command again; it goes on where this one stopped"},
		{"the remedy is to run it again", failure.New(failure.ConnectTimeout, "late"), kept, true,
			"run the same command again, no token needed; it goes on where this one stopped"},
		{"said once", failure.New(failure.DiskFull, "full"), kept, false, "free space on the file system that is named; " +
			"then run the same command again; it goes on where this one stopped"},
		{"the wrong cluster", failure.New(failure.ClusterNotFound, "no cluster"), kept, true,
			"create the cluster, then run the same command again, no token needed; it goes on where this one stopped; " +
				"or name another: anywhere operation abandon, then anywhere register --cluster NAME"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			if test.node {
				m.registered()
			}
			err := m.registration(RegisterRequest{}).explain(test.err, test.out)
			f := failure.Of(err)
			if f.Advice() != test.remedy {
				t.Errorf("the remedy is\n%s\nwant\n%s", f.Advice(), test.remedy)
			}
			was := failure.Of(test.err)
			if f.Code != was.Code || f.Message != was.Message || f.Evidence != was.Evidence || !errors.Is(err, test.err) {
				t.Errorf("the cause was changed: %+v", f)
			}
		})
	}
}

// snap makes the SSM agent a snap, in two revisions that are at hand.
func (m *machine) snap(revision string) {
	m.t.Helper()
	for number, version := range map[string]string{"11797": "3.3.2299.0", "11891": "3.3.2746.0", "x1": "3.3.2299.0"} {
		dir := "/snap/amazon-ssm-agent/" + number
		m.write(dir+"/meta/snap.yaml", "name: amazon-ssm-agent\nversion: "+version+"\n")
		for _, program := range ecsagent.ExecBinaries {
			m.write(dir+"/"+program, "program "+version)
		}
	}
	link := filepath.Join(m.root, "/snap/amazon-ssm-agent/current")
	if err := errors.Join(os.RemoveAll(link), os.Symlink(revision, link)); err != nil {
		m.t.Fatal(err)
	}
	m.runs(ssmagent.SnapUnit, noon)
}

// A snap of the SSM agent that cannot be worked with is refused before the request is settled, and by no check that could be
// ignored. One that can is used.
func TestSnapsThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*machine){
		"its unit": func(m *machine) { m.units[ssmagent.SnapUnit] = host.Unit{Name: ssmagent.SnapUnit, Loaded: true} },
		"its program, and nothing of its version": func(m *machine) {
			m.write("/var/lib/snapd/snap/amazon-ssm-agent/current/amazon-ssm-agent", "")
		},
		"the package beside it": func(m *machine) {
			m.snap("11797")
			m.install(ssmagent.Package, "3.3.2299.0-1")
		},
	} {
		m := newMachine(t)
		if err := m.registration(RegisterRequest{}).refuseSnap(t.Context()); err != nil {
			t.Fatal(err)
		}
		change(m)
		err := m.registration(RegisterRequest{Ignore: []string{"existing.ssm"}}).refuseSnap(t.Context())
		if f := failure.Of(err); f == nil || f.Code != failure.SnapAgent || f.Entry().Exit != failure.ExitRefused ||
			!strings.Contains(f.Advice(), "snap remove amazon-ssm-agent") {
			t.Errorf("%s: %v", name, err)
		}
	}
	m := newMachine(t)
	m.snap("11797")
	r := m.registration(RegisterRequest{})
	if err := r.refuseSnap(t.Context()); err != nil || r.ssmUnit() != ssmagent.SnapUnit {
		t.Errorf("%v, unit %s", err, r.ssmUnit())
	}
}

// A host is told to keep its credentials in one profile; without the flag it is the one that is configured.
func TestProfileThatIsKept(t *testing.T) {
	ssm, ecs := `{"Profile":{"ShareProfile":"ssm"}}`, ecsagent.KeyProfile+"=ecs\n"
	for _, test := range []struct {
		name, asked, ssm, ecs string
		registered            bool
		want                  string
	}{
		{name: "nothing"},
		{name: "asked", asked: "mine", ssm: ssm, ecs: ecs, want: "mine"},
		{name: "as SSM Agent has it", ssm: ssm, ecs: ecs, want: "ssm"},
		{name: "as the ECS agent has it", ecs: ecs, want: "ecs"},
		{name: "as the ECS agent has it, on a host that is registered without", ecs: ecs, registered: true},
	} {
		m := newMachine(t)
		if test.ssm != "" {
			m.write(ssmagent.ConfigPath, test.ssm)
		}
		m.write(ecsagent.ConfigPath, test.ecs)
		if test.registered {
			m.registered()
		}
		r := m.registration(RegisterRequest{SSMProfile: test.asked, Region: region})
		if err := r.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.profile != test.want {
			t.Errorf("%s: %q; want %q", test.name, r.profile, test.want)
		}
	}
}

// The report warns of what is known of the ECS agent's version that is there, or will be.
func TestFlaws(t *testing.T) {
	for _, test := range []struct {
		name, installed, asked, pinned string
		want                           []string // a part of each warning
	}{
		{name: "none"},
		{name: "a good one", installed: "1.105.1-1"},
		{name: "one below the floor", installed: "1.99.0-1", want: []string{"ECS agent 1.99.0-1: it looks for an EC2 role"}},
		{name: "one that will be replaced", installed: "1.86.0-1"},
		{name: "one that was", installed: "1.86.0-1", pinned: "1.105.1"},
		{name: "one that was asked for", asked: "1.97.0",
			want: []string{"ECS agent 1.97.0: it looks for", "ECS agent 1.97.0: it does not work on a network with IPv6 only"}},
		{name: "the latest", installed: "1.99.0-1", asked: "latest", pinned: "1.105.1"},
	} {
		m := newMachine(t)
		if test.installed != "" {
			m.install(ecsagent.Package, test.installed)
		}
		r := m.registration(RegisterRequest{ECSAgentVersion: test.asked})
		r.pins = map[string]string{pinECS: test.pinned}
		r.warnings = []string{"first"}
		for range 2 { // asking twice does not tell twice
			got := r.report(t.Context(), engine.Outcome{}).Warnings
			ok := len(got) == 1+len(test.want) && got[0] == "first"
			for i, want := range test.want {
				ok = ok && strings.HasPrefix(got[i+1], want)
			}
			if !ok {
				t.Errorf("%s: %q; want %q behind the first", test.name, got, test.want)
			}
		}
	}
}

// What the report says is so is read from the host; nothing is proven before the request is settled.
func TestReport(t *testing.T) {
	m := newMachine(t)
	m.registered()
	m.install(ecsagent.Package, "1.105.1-1")
	m.runs(ecsagent.Unit, noon)
	m.metadata = instance("shop", account, region, "shop")
	r := m.registration(RegisterRequest{}).with(region, "", "shop")
	result := r.report(t.Context(), engine.Outcome{}).Result.(RegisterResult)
	if result.Verified != VerifiedNone || result.ContainerInstanceARN != "" {
		t.Errorf("proven before it is known what is wanted: %+v", result)
	}
	r.settled = true
	report := r.report(t.Context(), engine.Outcome{Changed: true, Kept: []string{"x"}})
	want := RegisterResult{
		Cluster: "shop", Region: region, Account: account, ManagedInstanceID: nodeID,
		ContainerInstanceARN: instanceARN(account, region, "shop"), ECSAgentVersion: "1.105.1-1", Verified: VerifiedLocal,
		Owed: []string{},
	}
	if diff := cmp.Diff(want, report.Result); diff != "" || !report.Changed || !slices.Equal(report.Kept, []string{"x"}) {
		t.Errorf("%+v (-want +got):\n%s", report, diff)
	}
	if message := r.success(report); !strings.HasPrefix(message, "registered: managed node "+nodeID) {
		t.Errorf("%q", message)
	}
}

// readOnly is a host with one folder that cannot be written.
type readOnly struct {
	host.Files
	at string
}

func (r readOnly) Space(dir string) (uint64, error) {
	if dir == r.at {
		return 0, failure.New(failure.ReadOnly, "%s is on a file system that is mounted read-only", dir)
	}
	return 1 << 40, nil
}

// database is a package manager that keeps its database elsewhere.
type database struct {
	host.PackageReader
	at string
}

func (d database) State() (host.ManagerState, error) {
	return host.ManagerState{Family: "rpm", Databases: []string{d.at}}, nil
}

// A folder that a registration writes to and cannot is refused before it begins; where the package manager has its database,
// it says itself.
func TestFoldersThatCannotBeWritten(t *testing.T) {
	for dir, refused := range map[string]bool{
		"/usr/lib/sysimage/rpm": true, "/var/lib/rpm": true, "/var/lib/dpkg": true, "/srv/rpm": true, "/home": false,
	} {
		h := newMachine(t).host()
		h.Files, h.Packages = readOnly{h.Files, dir}, database{h.Packages, "/srv/rpm"}
		if err := (&registration{deps: Deps{Host: h}}).writable(); failure.Is(err, failure.ReadOnly) != refused {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
