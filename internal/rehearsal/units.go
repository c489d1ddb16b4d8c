package rehearsal

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// units is a service manager that starts goroutines where systemd starts processes. What it knows of a unit it reads
// from the unit's file and drop-ins below the root, as systemd does.
type units struct {
	machine *machine
	mu      sync.Mutex
	running map[string]*service
	docker  time.Time // since when Docker runs
}

// service is one unit that was started at least once.
type service struct {
	unit host.Unit
	stop context.CancelFunc
	done chan struct{}
}

const (
	unitDir   = "/lib/systemd/system/"
	adminDir  = "/etc/systemd/system/"
	wantedDir = adminDir + "multi-user.target.wants/"
)

func newUnits(m *machine) *units {
	return &units{machine: m, running: map[string]*service{}, docker: time.Now()}
}

// Available is always so: the throw-away host has a service manager.
func (*units) Available(context.Context) error { return nil }

// Unit says what the manager knows.
func (u *units) Unit(_ context.Context, name string) (host.Unit, error) {
	if name == "docker.service" {
		u.mu.Lock()
		defer u.mu.Unlock()
		return host.Unit{
			Name: name, Loaded: true, Active: "active", Sub: "running", Enabled: "enabled", Result: "success",
			ActiveSince: u.docker, DropIns: u.dropIns(name),
		}, nil
	}
	u.mu.Lock()
	unit := host.Unit{Name: name, Active: "inactive", Sub: "dead", Result: "success"}
	if s := u.running[name]; s != nil {
		unit = s.unit
	}
	u.mu.Unlock()
	file := u.file(name)
	if file == "" {
		unit.Loaded = false
		return unit, nil
	}
	unit.Loaded, unit.FragmentAt, unit.Enabled = true, file, "disabled"
	if _, err := u.machine.disk.Lstat(u.wanted(name)); err == nil {
		unit.Enabled = "enabled"
	}
	unit.DropIns = append(unit.DropIns, u.dropIns(name)...)
	return unit, nil
}

// file is where a unit's file is; "" where there is none.
func (u *units) file(name string) string {
	for _, dir := range []string{adminDir, unitDir, rpmUnits} {
		if _, err := u.machine.disk.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	return ""
}

// wanted is the link that starts a unit at boot: a timer's target is another.
func (u *units) wanted(name string) string {
	if strings.HasSuffix(name, ".timer") {
		return adminDir + "timers.target.wants/" + name
	}
	return wantedDir + name
}

func (u *units) dropIns(name string) []string {
	entries, err := u.machine.disk.ReadDir(adminDir + name + ".d")
	if err != nil {
		return nil
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, adminDir+name+".d/"+e.Name())
	}
	return paths
}

// setting is the last value that the unit's file and drop-ins give a key of [Service].
func (u *units) setting(name, key string) string {
	var value string
	for _, path := range append([]string{u.file(name)}, u.dropIns(name)...) {
		text, err := u.machine.disk.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && k == key {
				value = v
			}
		}
	}
	return value
}

// Start starts a unit that does not run.
func (u *units) Start(ctx context.Context, name string) error {
	if unit, err := u.Unit(ctx, name); err != nil || unit.Active == "active" {
		return err
	}
	return u.launch(ctx, name)
}

// Restart stops and starts.
func (u *units) Restart(ctx context.Context, name string) error {
	if name == "docker.service" { // it keeps its containers, and has read its files anew
		u.mu.Lock()
		defer u.mu.Unlock()
		u.docker = time.Now()
		return nil
	}
	if err := u.Stop(ctx, name); err != nil {
		return err
	}
	return u.launch(ctx, name)
}

// Stop ends a unit and waits for its end.
func (u *units) Stop(_ context.Context, name string) error {
	u.mu.Lock()
	s := u.running[name]
	u.mu.Unlock()
	if s != nil {
		s.stop()
		<-s.done
	}
	return nil
}

func (u *units) stopAll() {
	names := []string{ecsagent.Unit, suseUnit, ssmagent.UnitName, ssmagent.SnapUnit}
	u.mu.Lock()
	for name := range u.running {
		names = append(names, name)
	}
	u.mu.Unlock()
	for _, name := range names {
		_ = u.Stop(context.Background(), name)
	}
}

// Enable makes the link that systemctl makes.
func (u *units) Enable(_ context.Context, name string) error {
	return u.machine.disk.Symlink(u.file(name), u.wanted(name))
}

// Disable removes it.
func (u *units) Disable(_ context.Context, name string) error {
	return u.machine.disk.Remove(u.wanted(name))
}

// Reload has nothing to do: the files are read at every question.
func (*units) Reload(context.Context) error { return nil }

func (u *units) launch(ctx context.Context, name string) error {
	program := u.program(name)
	if unit, err := u.Unit(ctx, name); err != nil || !unit.Loaded || program == nil {
		return failure.New(failure.ServiceFailed, "could not start %s: there is no such unit", name)
	}
	run, stop := context.WithCancel(context.Background())
	s := &service{stop: stop, done: make(chan struct{}), unit: host.Unit{
		Name: name, Active: "active", Sub: "running", Result: "success", MainPID: os.Getpid(), ActiveSince: time.Now(),
	}}
	u.mu.Lock()
	u.running[name] = s
	u.mu.Unlock()
	go func() {
		defer close(s.done)
		u.supervise(run, s, program)
	}()
	return nil
}

// supervise runs a program until it is stopped or its unit does not want it restarted.
func (u *units) supervise(ctx context.Context, s *service, program func(context.Context) int) {
	for {
		status := program(ctx)
		policy := u.setting(s.unit.Name, "Restart")
		never := slices.Contains(strings.Fields(u.setting(s.unit.Name, "RestartPreventExitStatus")), strconv.Itoa(status))
		again := ctx.Err() == nil && !never && (policy == "always" || policy == "on-failure" && status != 0)
		u.mu.Lock()
		s.unit.ExitStatus, s.unit.MainPID = status, 0
		switch {
		case again:
			s.unit.Active, s.unit.Sub, s.unit.Restarts = "activating", "auto-restart", s.unit.Restarts+1
		case status != 0 && ctx.Err() == nil:
			s.unit.Active, s.unit.Sub, s.unit.Result = "failed", "failed", "exit-code"
		default:
			s.unit.Active, s.unit.Sub = "inactive", "dead"
		}
		u.mu.Unlock()
		if !again {
			return
		}
		select {
		case <-ctx.Done():
			u.mu.Lock()
			s.unit.Active, s.unit.Sub = "inactive", "dead"
			u.mu.Unlock()
			return
		case <-time.After(u.restartAfter(s.unit.Name)):
		}
		u.mu.Lock()
		s.unit.Active, s.unit.Sub, s.unit.ActiveSince, s.unit.MainPID = "active", "running", time.Now(), os.Getpid()
		u.mu.Unlock()
	}
}

func (u *units) restartAfter(name string) time.Duration {
	seconds, err := strconv.ParseFloat(strings.TrimSuffix(u.setting(name, "RestartSec"), "s"), 64)
	if err != nil {
		seconds = 0.1 // systemd's default
	}
	return time.Duration(seconds * pace * float64(time.Second))
}

// program is what a unit's ExecStart lines amount to.
func (u *units) program(name string) func(context.Context) int {
	m := u.machine
	switch name {
	case ssmagent.UnitName, ssmagent.SnapUnit:
		return func(ctx context.Context) int {
			return (&simagent.SSM{Place: m.place(m.root, nil), Version: m.ssmVersion()}).Main(ctx, nil)
		}
	case ecsagent.Unit, suseUnit:
		return m.runInit
	}
	if name == "anywhere-upgrade.service" { // while a run is at work it does nothing
		return func(context.Context) int { return 0 }
	}
	if strings.HasSuffix(name, ".timer") { // time in a rehearsal is too short for one to elapse
		return func(ctx context.Context) int {
			<-ctx.Done()
			return 0
		}
	}
	return nil
}

// ssmVersion is what the installed package's program would say; it is none of the agent's files.
func (m *machine) ssmVersion() string {
	p, err := m.packages().Package(ssmagent.Package)
	if err != nil {
		return ""
	}
	return ssmagent.Upstream(p.Version)
}

// runInit is ecs.service: pre-start and start; when it is stopped, stop and then SIGTERM for what still runs; post-stop.
func (m *machine) runInit(ctx context.Context) int {
	run := func(ctx context.Context, verb string) int {
		return (&simagent.Init{Place: m.place(m.root, simagent.UnitEnv(m.root))}).Main(ctx, []string{verb})
	}
	if status := run(ctx, "pre-start"); status != 0 {
		return status
	}
	after := context.WithoutCancel(ctx)
	started, terminate := context.WithCancel(after)
	defer terminate()
	defer context.AfterFunc(ctx, func() {
		run(after, "stop")
		terminate()
	})()
	status := run(started, "start")
	run(after, "post-stop")
	return status
}
