package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// byScript is a host as AWS's script leaves it: registered, its agents at work, its settings in two files.
func byScript(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.registered()
	for _, file := range ssmagent.StoreFiles() {
		local := filepath.Join(m.root, file)
		if err := os.Chtimes(local, noon.Add(-2*time.Hour), noon.Add(-2*time.Hour)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	m.install(ssmagent.Package, "3.3.4108.0-1")
	m.install(ecsagent.Package, "1.105.1-1")
	m.runs(ssmagent.UnitName, noon.Add(-time.Hour))
	m.runs(ecsagent.Unit, noon.Add(-time.Hour))
	m.writeAt(ecsagent.ConfigPath, "# ours\nECS_CLUSTER=shop\n", noon.Add(-2*time.Hour))
	m.writeAt(ecsagent.InstanceConfigPath, "AWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\n", noon.Add(-2*time.Hour))
	m.write(ecsagent.StateDB, boundState)
	m.metadata = instance("shop", account, region, "shop")
	return m
}

// reloader reads drop-ins when it is told to; it starts and stops nothing.
type reloader struct {
	host.Manager // nil: whoever starts or stops a unit here has a test that fails
	m            *machine
}

func (s reloader) Reload(context.Context) error {
	unit := s.m.units[ecsagent.Unit]
	unit.DropIns = nil
	if s.m.exists(ecsagent.DropInPath) {
		unit.DropIns = []string{ecsagent.DropInPath}
	}
	s.m.units[ecsagent.Unit] = unit
	return nil
}

// adopter is what adopt runs with on the machine.
func (m *machine) adopter() Deps {
	d := Deps{Host: m.host(), RunID: "run-1", Version: "1.2.3"}
	d.Host.Manager = reloader{m: m}
	return d
}

func TestAdoptRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(m *machine)
		code   failure.Code
		says   string
		try    string
	}{
		{"a host that is not registered", func(m *machine) {
			m.lose(ssmagent.KeyPath, ssmagent.ManifestPath, ssmagent.RegistrationPath, ecsagent.StateDB)
		},
			failure.NotAdoptable, "no registration on this host", "anywhere register --token -"},
		{"an instance without a node", func(m *machine) { m.lose(ssmagent.KeyPath, ssmagent.ManifestPath, ssmagent.RegistrationPath) },
			failure.NotAdoptable, "only half of a registration", "anywhere register --token -"},
		{"a node whose identity is not seen", func(m *machine) { m.lose(ssmagent.ManifestPath) },
			failure.NotAdoptable, "no longer sees", "anywhere register mends the store"},
		{"another machine's node", func(m *machine) { m.write(ssmagent.MachineIDPath, strings.Repeat("0", 32)+"\n") },
			failure.FingerprintChanged, "does not work any more", "--accept-risk replace-identity"},
		{"a node without an instance", func(m *machine) { m.metadata = "" },
			failure.NotAdoptable, "proves no container instance", "anywhere register finishes the registration, without a token"},
		{"an agent that has not registered", func(m *machine) {
			m.metadata = `{"Cluster":"shop","ContainerInstanceArn":null,"Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`
		},
			failure.NotAdoptable, "it has none yet", "anywhere register finishes the registration"},
		{"an agent that is no service", func(m *machine) { delete(m.units, ecsagent.Unit) },
			failure.NotAdoptable, "ecs.service is no service here", "anywhere register"},
		{"an instance that ECS has deregistered", func(m *machine) {
			m.write(ecsagent.LogPath, logged(noon, "Container instance is deregistered"))
		}, failure.NotAdoptable, "ECS has deregistered", "anywhere register"},
		{"a state of another cluster", func(m *machine) { m.write(ecsagent.StateDB, stateIn("web", region, account)) },
			failure.RegisteredElsewere, "belongs to cluster web", "anywhere move --cluster shop"},
		{"an instance in another Region", func(m *machine) { m.metadata = instance("shop", account, "us-east-1", "shop") },
			failure.RegisteredElsewere, "", "replace-identity"},
		{"a snap without its files", func(m *machine) { m.runs(ssmagent.SnapUnit, noon.Add(-time.Hour)) },
			failure.SnapAgent, "twice", "snap remove amazon-ssm-agent"},
		{"a record that cannot be read", func(m *machine) { m.write(recordPath, "rubbish") },
			failure.RecordUnreadable, "not readable", ""},
		{"a newer record", func(m *machine) { m.write(recordPath, `{"schema":99}`) }, failure.NewerRecord, "99", ""},
		{"a register that is not finished", func(m *machine) { unfinished(m.t.(*testing.T), m) },
			failure.Unfinished, "register was begun", "anywhere rollback"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, dry := range []bool{false, true} {
				m := byScript(t)
				test.change(m)
				before := m.tree()
				report, err := Adopt(t.Context(), m.adopter(), AdoptRequest{DryRun: dry})
				f := failure.Of(err)
				if f == nil || f.Code != test.code || f.Entry().Exit != failure.ExitRefused || report.Changed ||
					!strings.Contains(f.Message, test.says) || !strings.Contains(f.Advice(), test.try) {
					t.Fatalf("%+v", f)
				}
				if after := m.tree(); !maps.Equal(before, after) {
					t.Errorf("a refusal has changed the host: %v, before %v", after, before)
				}
			}
		})
	}
}

// lose takes files away.
func (m *machine) lose(paths ...string) {
	m.t.Helper()
	for _, p := range paths {
		if err := os.Remove(filepath.Join(m.root, p)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// tree is every file of the machine with its mode and content, but for the lock.
func (m *machine) tree() map[string]string {
	m.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(m.root, func(at string, entry fs.DirEntry, err error) error {
		name := strings.TrimPrefix(at, m.root)
		if err != nil || entry.IsDir() || name == LockPath {
			return err
		}
		text, err := os.ReadFile(at)
		info, errInfo := entry.Info()
		all[name] = info.Mode().String() + " " + string(text)
		return errors.Join(err, errInfo)
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all
}

// What is anywhere's already stays so: adopt takes nothing for somebody else's that the record has.
func TestAdoptOfAnOwnHost(t *testing.T) {
	m := byScript(t)
	own := `{"schema":1,"packages":{"amazon-ecs-init":{"version":"1.105.1-1"}},"files":["/etc/ecs/ecs.config"],"registration":` +
		`{"managedInstanceId":"` + nodeID + `","region":"` + region + `","account":"` + account + `","cluster":"shop"}}`
	m.write(recordPath, own)
	report, err := Adopt(t.Context(), m.adopter(), AdoptRequest{})
	if err != nil || !report.Changed { // its configuration and drop-in
		t.Fatalf("%+v, %v", report, err)
	}
	record, err := readRecord(m.host().Reader)
	if err != nil || record.Adopted != nil || record.Registration == nil || len(record.Packages) != 1 || len(record.Files) != 2 {
		t.Errorf("%+v, %v", record, err)
	}
	if again, err := Adopt(t.Context(), m.adopter(), AdoptRequest{}); err != nil || again.Changed ||
		!strings.Contains(again.Message, "under anywhere already") || len(again.Result.(AdoptResult).Adopted) != 0 {
		t.Errorf("%+v, %v", again, err)
	}
}

// What an agent has not read yet is not recorded as read, and what register would do besides is named.
func TestAdoptNamesWhatItLeaves(t *testing.T) {
	m := byScript(t)
	m.write(ecsagent.InstanceConfigPath, "AWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=\"true\"\nECS_RESERVED_MEMORY=64\n") // a moment ago
	report, err := Adopt(t.Context(), m.adopter(), AdoptRequest{})
	if err != nil {
		t.Fatal(err)
	}
	warned := strings.Join(report.Warnings, "\n")
	for _, part := range []string{"ecs.service was started before", ecsagent.ExecDir, "write /etc/ecs/ecs.config"} {
		if !strings.Contains(warned, part) {
			t.Errorf("%q is not among the warnings: %s", part, warned)
		}
	}
	record, err := readRecord(m.host().Reader)
	if _, read := record.Started[ecsagent.Unit]; err != nil || read || record.Started[ssmagent.UnitName] == "" {
		t.Errorf("the record says of starts: %v, %v", record.Started, err)
	}
	text, err := m.host().Files.ReadFile(ecsagent.ConfigPath)
	if err != nil || string(text) != "# ours\nECS_CLUSTER=shop\nAWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=\"true\"\nAWS_EC2_METADATA_DISABLED=true\n" {
		t.Errorf("a value was changed, or not folded: %s, %v", text, err)
	}
}

// errKilled is what the last breath of a killed run is.
var errKilled = errors.New("killed")

// mortal is a disk on which a run is killed when it begins its change number at.
type mortal struct {
	host.Disk
	at *int
}

func (d mortal) breathe() {
	if *d.at--; *d.at == 0 {
		panic(errKilled)
	}
}

func (d mortal) WriteFile(path string, data io.Reader, mode fs.FileMode, owner host.Owner) error {
	d.breathe()
	return d.Disk.WriteFile(path, data, mode, owner)
}

func (d mortal) Rename(from, to string) error {
	d.breathe()
	return d.Disk.Rename(from, to)
}

func (d mortal) Mkdir(path string, mode fs.FileMode, owner host.Owner) error {
	d.breathe()
	return d.Disk.Mkdir(path, mode, owner)
}

func (d mortal) Remove(path string) error {
	d.breathe()
	return d.Disk.Remove(path)
}

func (d mortal) RemoveAll(path string) error {
	d.breathe()
	return d.Disk.RemoveAll(path)
}

func (d mortal) Append(path string) (host.AppendFile, error) {
	d.breathe()
	file, err := d.Disk.Append(path)
	return mortalFile{file, d}, err
}

type mortalFile struct {
	host.AppendFile
	disk mortal
}

func (f mortalFile) Write(line []byte) (int, error) {
	f.disk.breathe()
	return f.AppendFile.Write(line)
}

// dies runs adopt and kills it at its change number at; false is a run that came to its end. left is what remains of at.
func (m *machine) dies(t *testing.T, at int) (died bool, left int) {
	t.Helper()
	d := m.adopter()
	d.Host.Disk = mortal{d.Host.Disk, &at}
	defer func() {
		if r := recover(); r != nil && r != errKilled { //nolint:errorlint // it is the very value
			panic(r)
		} else if r != nil {
			died = true
		}
	}()
	if report, err := Adopt(t.Context(), d, AdoptRequest{}); err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	return false, at
}

// Killed at every change and at every line of its journal, adopt goes on to the same end, and can be undone.
func TestAdoptIsKilled(t *testing.T) {
	const many = 1000
	outside := func(all map[string]string) map[string]string { // of anywhere's own journal and copies
		left := maps.Clone(all)
		maps.DeleteFunc(left, func(name, _ string) bool {
			return strings.HasPrefix(name, DataDir+"/journal") || strings.HasPrefix(name, BackupDir)
		})
		return left
	}
	whole := byScript(t)
	before := outside(whole.tree())
	died, left := whole.dies(t, many)
	if died || many-left < 15 {
		t.Fatalf("it was not to be killed, and has changed only %d things", many-left)
	}
	want := outside(whole.tree())
	for at := 1; at <= many-left; at++ {
		killed := func(t *testing.T) *machine {
			m := byScript(t)
			m.copyIdentity(whole)
			if died, _ := m.dies(t, at); !died {
				t.Fatal("it was not killed")
			}
			return m
		}
		t.Run(fmt.Sprint("and run again at ", at), func(t *testing.T) {
			t.Parallel()
			m := killed(t)
			if report, err := Adopt(t.Context(), m.adopter(), AdoptRequest{}); err != nil {
				t.Fatalf("%+v, %v", report, err)
			}
			if now := outside(m.tree()); !maps.Equal(now, want) {
				t.Error(different(want, now))
			}
			if again, err := Adopt(t.Context(), m.adopter(), AdoptRequest{}); err != nil || again.Changed {
				t.Errorf("and once more: %+v, %v", again, err)
			}
		})
		t.Run(fmt.Sprint("and undone at ", at), func(t *testing.T) {
			t.Parallel()
			m := killed(t)
			open, err := m.adopter().engine().Open()
			if err != nil {
				t.Fatal(err)
			}
			if open == nil { // not begun, or just over
				if now := outside(m.tree()); !maps.Equal(now, before) && !maps.Equal(now, want) {
					t.Error(different(before, now))
				}
				return
			}
			if _, err := Rollback(t.Context(), m.adopter(), RollbackRequest{}); err != nil {
				t.Fatal(err)
			}
			if now := outside(m.tree()); !maps.Equal(now, before) {
				t.Error(different(before, now))
			}
		})
	}
}

// copyIdentity gives the machine the other one's node.
func (m *machine) copyIdentity(other *machine) {
	m.t.Helper()
	for _, file := range ssmagent.StoreFiles() {
		if text, err := os.ReadFile(filepath.Join(other.root, file)); err == nil {
			m.writeAt(file, string(text), noon.Add(-2*time.Hour))
		}
	}
}

func different(a, b map[string]string) (names []string) {
	for name := range maps.Keys(a) {
		if a[name] != b[name] {
			names = append(names, name+": "+a[name]+"\nis "+b[name])
		}
	}
	for name := range b {
		if _, there := a[name]; !there {
			names = append(names, "new: "+name)
		}
	}
	slices.Sort(names)
	return names
}

// A record of an adoption follows the host: to another cluster, and away with its node.
func TestRecordOfAnAdoption(t *testing.T) {
	adopted := &AdoptedRegistration{ManagedInstanceID: nodeID, ContainerInstanceARN: "old", Cluster: "web", Region: region, Account: account}
	for _, test := range []struct {
		name string
		node string // in the record
		arn  string // that was verified
		want *AdoptedRegistration
	}{
		{"moved", nodeID, "new", &AdoptedRegistration{ManagedInstanceID: nodeID, ContainerInstanceARN: "new", Cluster: "shop", Region: region, Account: account}},
		{"not verified", nodeID, "", &AdoptedRegistration{ManagedInstanceID: nodeID, ContainerInstanceARN: "old", Cluster: "shop", Region: region, Account: account}},
		{"registered anew", "mi-0fedcba9876543210", "new", nil},
	} {
		m := newMachine(t)
		m.registered()
		is := *adopted
		is.ManagedInstanceID = test.node
		r := m.registration(RegisterRequest{}).with(region, account, "shop")
		r.arnText = test.arn
		if err := m.within(t.Context(), r, func(ctx context.Context, tx *engine.Tx) error {
			return r.own(ctx, tx, func(record *Record) { record.Adopted = &is })
		}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.engine.Apply(t.Context(), engine.Plan{Verb: "test", Key: "test", Steps: []engine.Step{r.recordStep()}}, engine.Options{}); err != nil {
			t.Fatal(err)
		}
		record, err := readRecord(r.deps.Host.Reader)
		if err != nil || !sameRecord(Record{Adopted: record.Adopted}, Record{Adopted: test.want}) {
			t.Errorf("%s: %+v, %v; want %+v", test.name, record.Adopted, err, test.want)
		}
	}
}
