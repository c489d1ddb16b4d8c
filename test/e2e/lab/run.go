package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Cmd is a command to run in a host.
type Cmd struct {
	Args  []string
	Env   []string // NAME=value, beside systemd's own clean environment. Arguments can be read by all: no secrets here
	Stdin string   // the way for secrets
	Dir   string   // working directory; / when empty
	// Outlived leaves alone what the command has started when it ends itself, as a shell does. Without it systemd kills
	// the rest.
	Outlived bool
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Exit           int // 255 also when a signal ended it
}

// String shows all of it, for a failing test.
func (r Result) String() string {
	return fmt.Sprintf("exit %d\nstdout: %s\nstderr: %s", r.Exit, r.Stdout, r.Stderr)
}

// Process is a command that was started in a host.
type Process struct {
	m              *Machine
	unit           string
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// Start runs a command as a transient service of the host: in its own cgroup, without a terminal, with systemd's
// environment. It ends with the host.
func (m *Machine) Start(c Cmd) *Process {
	m.t.Helper()
	m.running++
	p := &Process{m: m, unit: "lab-" + strconv.Itoa(m.running) + ".service"}
	if m.host.VM != nil {
		p.cmd = m.startVM(c, p.pidFile())
		return p.begin(c)
	}
	args := []string{
		"-t", strconv.Itoa(m.leader), "-a", "--", "systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--unit=" + p.unit,
	}
	for _, env := range c.Env {
		args = append(args, "--setenv="+env)
	}
	if c.Dir != "" {
		args = append(args, "--working-directory="+c.Dir)
	}
	if c.Outlived {
		args = append(args, "--property=KillMode=process")
	}
	args = append(args, "--")
	for _, arg := range c.Args {
		args = append(args, strings.ReplaceAll(arg, "$", "$$")) // systemd would expand variables
	}
	p.cmd = exec.Command("nsenter", args...)
	p.cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	p.cmd.Stdin = io.Reader(strings.NewReader(c.Stdin))
	return p.begin(c)
}

func (p *Process) begin(c Cmd) *Process {
	p.m.t.Helper()
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if err := p.cmd.Start(); err != nil {
		p.m.t.Fatalf("lab: start %q on %s: %v", c.Args, p.m.host.Name, err)
	}
	return p
}

// pidFile is where a virtual machine notes the command's process.
func (p *Process) pidFile() string { return "/run/" + p.unit }

// Wait returns how the process ended.
func (p *Process) Wait() Result {
	p.m.t.Helper()
	err := p.cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		p.m.t.Fatalf("lab: wait for %s on %s: %v", p.unit, p.m.host.Name, err)
	}
	code := p.cmd.ProcessState.ExitCode()
	if code < 0 { // the host went down under it
		code = 255
	}
	return Result{Stdout: p.stdout.String(), Stderr: p.stderr.String(), Exit: code}
}

// Signal sends a signal, such as KILL or INT, to the command's first process alone.
func (p *Process) Signal(name string) {
	p.m.t.Helper()
	if p.m.host.VM != nil {
		if out, err := p.m.ssh(nil, `kill -s "$1" "$(cat "$2")"`, name, p.pidFile()).CombinedOutput(); err != nil {
			p.m.t.Fatalf("lab: send %s to %s on %s: %v: %s", name, p.unit, p.m.host.Name, err, out)
		}
		return
	}
	if out, err := p.m.enter("systemctl", "kill", "--kill-whom=main", "--signal="+name, p.unit).CombinedOutput(); err != nil {
		p.m.t.Fatalf("lab: send %s to %s on %s: %v: %s", name, p.unit, p.m.host.Name, err, out)
	}
}

// Pids are the host's processes of this name, by the numbers that they have for the test process.
func (m *Machine) Pids(name string) []int {
	m.t.Helper()
	if m.host.VM != nil {
		m.t.Fatal("lab: no process of a virtual machine is one of the test's")
	}
	host, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", m.leader))
	if err != nil {
		m.t.Fatalf("lab: %v", err)
	}
	files, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		m.t.Fatalf("lab: %v", err)
	}
	var pids []int
	for _, file := range files {
		comm, err := os.ReadFile(file)
		if err != nil || strings.TrimSpace(string(comm)) != name {
			continue // another, or gone meanwhile
		}
		namespace, _ := os.Readlink(filepath.Join(filepath.Dir(file), "ns/pid"))
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && namespace == host {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Run runs a command and waits for it.
func (m *Machine) Run(c Cmd) Result {
	m.t.Helper()
	return m.Start(c).Wait()
}

// Shell runs a script with /bin/sh.
func (m *Machine) Shell(script string) Result {
	m.t.Helper()
	return m.Run(Cmd{Args: []string{"/bin/sh", "-c", script}})
}

// MustShell runs a script that has to succeed, and returns its standard output without surrounding blanks.
func (m *Machine) MustShell(script string) string {
	m.t.Helper()
	res := m.Shell(script)
	if res.Exit != 0 {
		m.t.Fatalf("lab: on %s: %s\n%v", m.host.Name, script, res)
	}
	return strings.TrimSpace(res.Stdout)
}

// Unit is the state of a service as systemd tells it.
type Unit struct {
	Load     string // loaded, not-found, masked
	Active   string // active, inactive, failed, activating
	Sub      string // running, dead, auto-restart
	Enabled  string // enabled, disabled, static; empty when there is no unit file
	MainPID  int
	Exit     int // status of the main process that ended last
	Restarts int
}

// Unit reads the state of a service; a unit that does not exist has Load not-found.
func (m *Machine) Unit(name string) Unit {
	m.t.Helper()
	const properties = "LoadState,ActiveState,SubState,UnitFileState,MainPID,ExecMainStatus,NRestarts"
	out, err := m.enter("systemctl", "show", "--property="+properties, name).Output()
	if err != nil {
		m.t.Fatalf("lab: systemctl show %s on %s: %v", name, m.host.Name, err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	number := func(key string) int { n, _ := strconv.Atoi(values[key]); return n }
	return Unit{
		Load: values["LoadState"], Active: values["ActiveState"], Sub: values["SubState"], Enabled: values["UnitFileState"],
		MainPID: number("MainPID"), Exit: number("ExecMainStatus"), Restarts: number("NRestarts"),
	}
}

// Units lists the services that are enabled or running, for a comparison of before and after: name to "enabled active".
func (m *Machine) Units() map[string]string {
	m.t.Helper()
	units := map[string]string{}
	list := func(args ...string) [][]string {
		out, err := m.enter(append([]string{"systemctl", "--no-legend", "--plain", "--type=service,timer,socket"}, args...)...).Output()
		if err != nil {
			m.t.Fatalf("lab: systemctl %v on %s: %v", args, m.host.Name, err)
		}
		var rows [][]string
		for line := range strings.Lines(string(out)) {
			if fields := strings.Fields(line); len(fields) > 1 && !strings.HasPrefix(fields[0], "lab-") {
				rows = append(rows, fields)
			}
		}
		return rows
	}
	for _, row := range list("list-unit-files", "--state=enabled") {
		units[row[0]] = "enabled inactive"
	}
	for _, row := range list("list-units", "--state=running") {
		if units[row[0]] == "" {
			units[row[0]] = "not-enabled running"
			continue
		}
		units[row[0]] = "enabled running"
	}
	return units
}
