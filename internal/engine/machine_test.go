package engine

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// machine is a whole small machine in a folder: files, a package manager with a database, a service manager whose state
// is files too. Nothing of it is in memory, so that a second process finds what a killed one left.
//
//	/lib/systemd/system/U, /etc/systemd/system/U    the unit U exists
//	/etc/systemd/system/wants/U                     and is enabled
//	/run/units/U                                    and runs; the content is that of /etc/conf/U when it started
//	/var/lib/packages/P                             the package P, as JSON
//	/snap/S/current                                 leads to the revision of the snap S; /snap/S/N are those at hand
//	/var/lib/snapd/follows-S                        is the channel that it follows
//	/store/S/C                                      the revision that the channel C has
//	/var/lib/snapd/change                           what snapd is at work on: revision and channel
type machine struct {
	*host.Dir
	root   string
	pulse  func(string) // called where a real package manager could be killed
	clock  atomic.Int64
	waited []host.Child  // for which Wait was called
	linger time.Duration // which that takes
	ran    []host.Cmd
	refuse map[string]error // what a unit's start or a package's installation fails with
}

const dataDir = "/var/lib/anywhere"

func newMachine(root string) *machine {
	return &machine{Dir: host.NewDir(root), root: root, pulse: func(string) {}, refuse: map[string]error{}}
}

func (m *machine) host() host.Host {
	return host.Host{
		Reader: host.Reader{Files: m.Dir, Packages: packages{m}, Units: units{m}, Now: m.now},
		Disk:   m.Dir, Packager: packages{m}, Manager: units{m}, Runner: runner{m}, Snaps: snaps{m},
	}
}

// now is a clock that goes on by a second whenever it is looked at.
func (m *machine) now() time.Time {
	return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Add(time.Duration(m.clock.Add(1)) * time.Second)
}

func (m *machine) exists(name string) bool {
	_, err := m.Lstat(name)
	return err == nil
}

// put writes a file directly, as somebody else would.
func (m *machine) put(name, content string) {
	must(os.MkdirAll(filepath.Dir(m.Local(name)), 0o755))
	must(os.WriteFile(m.Local(name), []byte(content), 0o644))
}

func (m *machine) get(name string) string {
	text, err := m.ReadFile(name)
	if err != nil {
		return "no " + name
	}
	return string(text)
}

func (m *machine) below(name string) fs.FS { return os.DirFS(m.Local(name)) }

func (m *machine) drop(name string) { must(os.RemoveAll(m.Local(name))) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// tree is the machine by path: type, mode, owner and hash of the content. The engine's own folder is left out.
func (m *machine) tree() map[string]string {
	all := map[string]string{}
	must(filepath.WalkDir(m.root, func(at string, entry fs.DirEntry, err error) error {
		must(err)
		name := strings.TrimPrefix(at, m.root)
		if name == dataDir {
			return fs.SkipDir
		}
		info, err := entry.Info()
		must(err)
		what := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(at)
			must(err)
			what += fmt.Sprintf(" %x", sha256.Sum256(content))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(at)
			must(err)
			what += " -> " + target
		}
		owner, err := m.Owner(name)
		must(err)
		all[name] = fmt.Sprintf("%s %d:%d", what, owner.UID, owner.GID)
		return nil
	}))
	return all
}

// units is the service manager.
type units struct{ *machine }

func (u units) Unit(_ context.Context, name string) (host.Unit, error) {
	unit := host.Unit{Name: name, Active: "inactive", Sub: "dead"}
	if u.exists("/run/units/" + name) { // even when its file is gone
		unit.Active, unit.Sub = "active", "running"
	}
	if !u.exists("/lib/systemd/system/"+name) && !u.exists("/etc/systemd/system/"+name) {
		return unit, nil
	}
	unit.Loaded, unit.Enabled = true, "disabled"
	if u.exists("/etc/systemd/system/wants/" + name) {
		unit.Enabled = "enabled"
	}
	return unit, nil
}

func (u units) Available(context.Context) error { return nil }

func (u units) Start(ctx context.Context, name string) error {
	if err := u.refuse[name]; err != nil {
		return err
	}
	if unit, _ := u.Unit(ctx, name); !unit.Loaded {
		return fmt.Errorf("unit %s not found", name)
	}
	if u.exists("/run/units/" + name) {
		return nil
	}
	u.put("/run/units/"+name, u.get("/etc/conf/"+name))
	u.put("/var/lib/state-"+name+"/db", "made by the service")
	return nil
}

func (u units) Stop(_ context.Context, name string) error {
	u.drop("/run/units/" + name)
	return nil
}

func (u units) Restart(ctx context.Context, name string) error {
	return errors.Join(u.Stop(ctx, name), u.Start(ctx, name))
}

func (u units) Enable(_ context.Context, name string) error {
	must(os.MkdirAll(u.Local("/etc/systemd/system/wants"), 0o755))
	if err := os.Symlink("../"+name, u.Local("/etc/systemd/system/wants/"+name)); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (u units) Disable(_ context.Context, name string) error {
	u.drop("/etc/systemd/system/wants/" + name)
	return nil
}

func (u units) Reload(context.Context) error { return nil }

// packages is the package manager. Like dpkg it unpacks, runs the package's script (which starts its units and writes
// to other files), and only then calls the package installed.
type packages struct{ *machine }

// archive is a package file, and what the database has of it.
type archive struct {
	Name, Version string
	Files         map[string]string
	Units         []string          // enabled and started by the script
	Appends       map[string]string // what the script appends to files of others
	Folders       []string          // made for it
	Configured    bool
	Residual      bool // removed, and not purged yet
}

func (a archive) text() string {
	text, err := json.Marshal(a)
	must(err)
	return string(text)
}

func (p packages) record(name string) (a archive, found bool) {
	text, err := p.ReadFile("/var/lib/packages/" + name)
	if err != nil {
		return a, false
	}
	must(json.Unmarshal(text, &a))
	return a, true
}

func (p packages) Package(name string) (host.Package, error) {
	a, found := p.record(name)
	return host.Package{Name: name, Version: a.Version, Installed: found && a.Configured, Residual: a.Residual, Partial: found && !a.Configured && !a.Residual}, nil
}

func (p packages) State() (host.ManagerState, error) {
	found, _ := p.ReadDir("/var/lib/packages")
	state := host.ManagerState{Family: "deb"}
	for _, f := range found {
		if a, _ := p.record(f.Name()); !a.Configured && !a.Residual {
			state.Interrupted = true
		}
	}
	return state, nil
}

func (p packages) Install(ctx context.Context, file string) error {
	var a archive
	text, err := p.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	if err != nil {
		return err
	}
	if err := p.refuse[a.Name]; err != nil {
		return err
	}
	if state, _ := p.State(); state.Interrupted {
		return errors.New("dpkg was interrupted, you must manually run 'dpkg --configure -a'")
	}
	old, _ := p.record(a.Name)
	a.Folders = old.Folders
	for _, name := range slices.Sorted(maps.Keys(a.Files)) {
		for dir := path.Dir(name); !p.exists(dir) && !slices.Contains(a.Folders, dir); dir = path.Dir(dir) {
			a.Folders = append(a.Folders, dir)
		}
	}
	p.put("/var/lib/packages/"+a.Name, a.text())
	host.ChildHook(ctx)(host.Child{PID: 4711, Started: 12, Argv: []string{"dpkg", "-i", file}})
	p.pulse("dpkg: recorded")
	for name, content := range a.Files {
		p.put(name, content)
	}
	p.pulse("dpkg: unpacked")
	return p.configure(ctx, a)
}

func (p packages) configure(ctx context.Context, a archive) error {
	for name, content := range a.Files {
		p.put(name, content)
	}
	for name, line := range a.Appends {
		if old := p.get(name); !strings.Contains(old, line) {
			p.put(name, old+line)
		}
	}
	for _, unit := range a.Units {
		if err := errors.Join(units(p).Enable(ctx, unit), units(p).Restart(ctx, unit)); err != nil {
			return err
		}
		p.pulse("dpkg: started " + unit)
	}
	a.Configured = true
	p.put("/var/lib/packages/"+a.Name, a.text())
	p.pulse("dpkg: configured")
	return nil
}

func (p packages) Repair(ctx context.Context) error {
	found, _ := p.ReadDir("/var/lib/packages")
	for _, f := range found {
		if a, _ := p.record(f.Name()); !a.Configured && !a.Residual {
			if err := p.configure(ctx, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p packages) Remove(_ context.Context, name string, _ bool) error {
	if err := p.refuse["remove "+name]; err != nil {
		return err
	}
	a, _ := p.record(name)
	a.Configured = false
	p.put("/var/lib/packages/"+name, a.text())
	for name := range a.Files {
		p.drop(name)
	}
	for _, dir := range a.Folders {
		_ = os.Remove(p.Local(dir)) // only when it is empty
	}
	p.pulse("dpkg: removed the files")
	a.Residual = true
	p.put("/var/lib/packages/"+a.Name, a.text())
	p.pulse("dpkg: removed, not purged")
	p.drop("/var/lib/packages/" + name)
	return nil
}

// snaps is snapd. Killing the program that has asked it for something does not keep it from ending what it has begun.
type snaps struct{ *machine }

func (s snaps) Offer(context.Context, string) (host.SnapOffer, error) { return host.SnapOffer{}, nil }

func (s snaps) Settle(_ context.Context, name string) error {
	if !s.exists("/var/lib/snapd/change") {
		return nil
	}
	revision, channel, _ := strings.Cut(s.get("/var/lib/snapd/change"), " ")
	s.drop("/run/units/snap." + name + ".service")
	s.drop("/snap/" + name + "/current")
	s.pulse("snapd: no revision is current")
	must(os.Symlink(revision, s.Local("/snap/"+name+"/current")))
	s.put("/var/lib/snapd/follows-"+name, channel)
	s.pulse("snapd: " + revision + " is current")
	if s.exists("/etc/systemd/system/wants/snap." + name + ".service") {
		must(units(s).Start(context.Background(), "snap."+name+".service"))
	}
	s.drop("/var/lib/snapd/change")
	s.pulse("snapd: done")
	return nil
}

func (s snaps) begin(ctx context.Context, name, revision, channel string) error {
	if s.exists("/var/lib/snapd/change") {
		return errors.New("change in progress")
	}
	host.ChildHook(ctx)(host.Child{PID: 4713, Started: 56, Argv: []string{"snap", "refresh", name}})
	s.put("/var/lib/snapd/change", revision+" "+channel)
	s.pulse("snapd: began")
	return s.Settle(ctx, name)
}

func (s snaps) Refresh(ctx context.Context, name, channel string) error {
	if err := s.refuse[name]; err != nil {
		return err
	}
	if channel == "" {
		channel = s.get("/var/lib/snapd/follows-" + name)
	}
	return s.begin(ctx, name, s.get("/store/"+name+"/"+channel), channel)
}

func (s snaps) Revert(ctx context.Context, name, revision string) error {
	if now, _, _ := host.ReadSnap(s.Dir, name); now.Revision == revision {
		return errors.New("already on requested revision")
	}
	return s.begin(ctx, name, revision, s.get("/var/lib/snapd/follows-"+name))
}

func (s snaps) Switch(ctx context.Context, name, channel string) error {
	now, _, _ := host.ReadSnap(s.Dir, name)
	return s.begin(ctx, name, now.Revision, channel)
}

// runner has one program, "write FILE TEXT".
type runner struct{ *machine }

func (r runner) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	r.ran = append(r.ran, cmd)
	host.ChildHook(ctx)(host.Child{PID: 4712, Started: 34, Argv: append([]string{cmd.Path}, cmd.Args...)})
	if cmd.Path == "write" {
		r.put(cmd.Args[0], cmd.Args[1])
	}
	return host.Result{}, nil
}

func (r runner) Wait(ctx context.Context, c host.Child) error {
	r.waited = append(r.waited, c)
	time.Sleep(r.linger)
	return ctx.Err()
}

// newEngine is an engine on the machine, as a new process would have it.
func newEngine(m *machine, run string) *Engine {
	return &Engine{Host: m.host(), Dir: dataDir, RunID: run, Version: "1.0.0", Kinds: kinds(m)}
}

func testMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(inMemory(t))
	furnish(m)
	return m
}

// inMemory is a folder that goes with the test, in memory where the system has a place for that. The engine waits for
// the disk after every line of its journal, so the thousands of machines of the kill tests are ten times as fast there.
// It weakens nothing: a killed process leaves the same files either way, and what a disk forgets when the power fails no
// kill can show (test/e2e cuts the power).
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "anywhere-engine-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(os.RemoveAll(dir)) })
	return dir
}
