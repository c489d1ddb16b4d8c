package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// The deadline of an upgrade: whoever dies, loses their connection or their power in the middle of one leaves a host that
// ends it by itself. It is a file, a copy of this program, and a timer that starts the copy every few seconds and at
// every boot. The copy does nothing while the run that upgrades is at work (it holds the lock), and else ends the
// upgrade: it watches the new agents and commits, or goes back.
//
// The deadline is not part of what an undo takes back, for it must outlive a power cut in the middle of that too. It goes
// when the operation's journal is closed, whichever way.
const (
	deadlinePath = DataDir + "/deadline.json"
	deadlineUnit = "anywhere-upgrade"
	tenderDir    = DataDir + "/bin"
	unitFolder   = "/etc/systemd/system"
	deadlineKind = "upgrade.deadline"

	tenderService = unitFolder + "/" + deadlineUnit + ".service"
	tenderTimer   = unitFolder + "/" + deadlineUnit + ".timer"
)

// tendEvery is how often the copy looks whether the run still lives.
const tendEvery = 15 * time.Second

// deadlineSchema grows when an older program could no longer read a deadline rightly.
const deadlineSchema = 1

// deadline is what another process needs to end an upgrade.
type deadline struct {
	Schema   int       `json:"schema"`
	Run      string    `json:"run"`  // that armed it
	Verb     string    `json:"verb"` // of the operation
	Armed    time.Time `json:"armed"`
	DecideBy time.Time `json:"decideBy"` // from here on nobody waits any longer for the agents
	Goal     watchGoal `json:"goal"`
	// Packages are those that the upgrade works with, which were verified: by name and version.
	Packages map[string]OwnedPackage `json:"packages"`
}

// tender is where the copy of the program is.
func (d deadline) tender() string { return path.Join(tenderDir, d.Run, "anywhere") }

// readDeadline returns nil when none is armed.
func readDeadline(r host.Reader) (*deadline, error) {
	text, err := r.Files.ReadFile(deadlinePath)
	if missing(err) {
		return nil, nil
	}
	var d deadline
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	switch {
	case err != nil:
		return nil, failure.Wrap(failure.JournalUnreadable, err, "cannot read the deadline of an upgrade, %s", deadlinePath)
	case d.Schema > deadlineSchema:
		return nil, failure.New(failure.NewerRecord, "%s has schema %d; this anywhere knows %d", deadlinePath, d.Schema, deadlineSchema)
	}
	return &d, nil
}

// armed reports whether a deadline stands whole: file, program and timer.
func armed(ctx context.Context, r host.Reader) (bool, error) {
	d, err := readDeadline(r)
	if err != nil || d == nil {
		return false, err
	}
	if _, err := r.Files.Stat(d.tender()); err != nil {
		return false, nil //nolint:nilerr // it is armed anew
	}
	timer, err := r.Units.Unit(ctx, deadlineUnit+".timer")
	return err == nil && timer.Loaded && timer.Active == "active" && timer.IsEnabled(), err
}

// guard arms the deadline, before anything else is changed.
func (u *upgrade) guard() engine.Step {
	return engine.Step{
		ID: "upgrade.deadline", Title: "Arm the deadline of the upgrade",
		Observe: func(ctx context.Context, r host.Reader) (engine.Obs, error) {
			if !u.due {
				return engine.Obs{State: engine.OK, Detail: "nothing to guard"}, nil
			}
			stands, err := armed(ctx, r)
			if err != nil || !stands {
				return engine.Obs{State: engine.Pending, Detail: "whatever becomes of this run, the host ends the upgrade by itself"}, err
			}
			return engine.Obs{State: engine.OK, Detail: deadlineUnit + ".timer"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			if err := u.settleGoal(ctx); err != nil {
				return err
			}
			return tx.Effect(ctx, deadlineKind, struct{}{}, u.arm)
		},
	}
}

// deadlineArmed has nothing to take back: see the deadline.
func deadlineArmed() engine.Kind {
	return engine.Kind{Undo: func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil }}
}

// arm writes what the deadline consists of. The timer comes last: until it runs nobody looks.
func (u *upgrade) arm(ctx context.Context) error {
	h, now := u.deps.Host, u.deps.Host.Now()
	d := deadline{
		Schema: deadlineSchema, Run: u.deps.RunID, Verb: u.verb, Armed: now.UTC(), DecideBy: now.Add(u.longest()).UTC(), Goal: u.goal,
		Packages: map[string]OwnedPackage{},
	}
	for _, a := range u.both() {
		for _, version := range []string{u.pins[a.from], u.pins[a.pin]} {
			if known := u.cachedPackage(a, version); known.SHA256 != "" {
				d.Packages[packageKey(a, version)] = known
			}
		}
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return failure.Wrap(failure.Internal, err, "write the deadline")
	}
	program, err := openSelf()
	if err != nil {
		return failure.Wrap(failure.Internal, err, "read this program, to leave a copy")
	}
	defer func() { _ = program.Close() }()
	root := host.Owner{}
	for _, dir := range []string{DataDir, tenderDir, path.Dir(d.tender())} {
		if err := h.Disk.Mkdir(dir, 0o700, root); err != nil {
			return err
		}
	}
	if err := h.Disk.WriteFile(d.tender(), program, 0o700, root); err != nil {
		return err
	}
	u.labelProgram(ctx, d.tender())
	if err := h.Disk.WriteFile(deadlinePath, bytes.NewReader(append(text, '\n')), 0o600, root); err != nil {
		return err
	}
	if err := h.Disk.WriteFile(tenderService, strings.NewReader(tenderUnit(d)), 0o644, root); err != nil {
		return err
	}
	if err := h.Disk.WriteFile(tenderTimer, strings.NewReader(timerUnit()), 0o644, root); err != nil {
		return err
	}
	if err := h.Manager.Reload(ctx); err != nil {
		return err
	}
	if err := h.Manager.Enable(ctx, deadlineUnit+".timer"); err != nil {
		return err
	}
	if err := h.Manager.Start(ctx, deadlineUnit+".timer"); err != nil {
		return err
	}
	// Its first start proves that the copy can run here (a file system without programs, SELinux): it sees the lock, and ends.
	if err := h.Manager.Start(ctx, deadlineUnit+".service"); err != nil {
		f := failure.Of(err)
		return failure.Wrap(failure.ServiceFailed, err, "the program that would end the upgrade if this run could not does not start").
			WithEvidence("%s", first(f.Evidence, f.Message)).
			WithRemedy("journalctl -u %s.service -n 20; is %s on a file system that is mounted noexec, or does SELinux deny it "+
				"(ausearch -m AVC -ts recent)?", deadlineUnit, tenderDir)
	}
	return nil
}

// labelProgram gives a program SELinux's type of programs: what is written below /var/lib has that of data, which systemd may
// not start under Fedora's and Red Hat's policy. Where it cannot be given, the first start tells whether it was needed.
// Source: https://github.com/libnyanpasu/nyanpasu-runtime/issues/107, read 2026-11-26.
func (u *upgrade) labelProgram(ctx context.Context, program string) {
	h := u.deps.Host
	if h.Kernel.SELinux() == "disabled" {
		return
	}
	_, _ = h.Runner.Run(ctx, host.Cmd{Path: "/usr/bin/chcon", Args: []string{"-t", "bin_t", h.Disk.Local(program)}})
}

// longest is how long an upgrade can take while somebody waits for it.
func (u *upgrade) longest() time.Duration {
	longest := longestWatch + u.goal.Patience
	if u.drain != nil {
		longest += u.drain.timeout
	}
	return longest
}

func packageKey(a *upgradedAgent, version string) string { return a.name + " " + version }

// openSelf opens this program, also where its file was replaced since it was started.
func openSelf() (*os.File, error) {
	if f, err := os.Open("/proc/self/exe"); err == nil {
		return f, nil
	}
	name, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.Open(name)
}

// tenderUnit says nothing of a time for its start: a oneshot has no limit, and systemd 219 of CentOS 7 and Amazon Linux 2 cannot start a service with
// TimeoutStartSec=infinity (manticoresoftware/manticoresearch issue 1351).
func tenderUnit(d deadline) string {
	return fmt.Sprintf(`# Written by anywhere for the time of an upgrade (run %s), and removed with its end.
[Unit]
Description=anywhere: end an upgrade whose run has ended
After=docker.service network.target
ConditionPathExists=%s

[Service]
Type=oneshot
ExecStart=%s operation tend
KillMode=process
`, d.Run, deadlinePath, d.tender())
}

func timerUnit() string {
	seconds := int(tendEvery / time.Second)
	return fmt.Sprintf(`# Written by anywhere for the time of an upgrade, and removed with its end.
[Unit]
Description=anywhere: end an upgrade whose run has ended

[Timer]
OnActiveSec=%[1]ds
OnUnitInactiveSec=%[1]ds
AccuracySec=1s

[Install]
WantedBy=timers.target
`, seconds)
}

// disarm removes the deadline once no operation is open that it could end. Killed in between, it leaves files that do
// nothing, and the next command that changes the host removes them.
func disarm(ctx context.Context, d Deps) error {
	h := d.Host
	ctx = context.WithoutCancel(ctx)
	if _, err := h.Files.Lstat(deadlinePath); missing(err) {
		if _, err := h.Files.Lstat(tenderTimer); missing(err) {
			return nil
		}
	}
	op, err := d.engine().Open()
	if err != nil || op != nil && (op.Verb == verbUpgrade || op.Verb == verbUpgradeBack) {
		return err
	}
	if timer, err := h.Units.Unit(ctx, deadlineUnit+".timer"); err == nil && timer.Loaded {
		if err := h.Manager.Disable(ctx, deadlineUnit+".timer"); err != nil {
			return err
		}
		if err := h.Manager.Stop(ctx, deadlineUnit+".timer"); err != nil {
			return err
		}
	}
	for _, file := range []string{tenderTimer, tenderService} {
		if err := h.Disk.Remove(file); err != nil {
			return err
		}
	}
	if err := h.Manager.Reload(ctx); err != nil {
		return err
	}
	if err := h.Disk.RemoveAll(tenderDir); err != nil { // ours: the programs of deadlines, nothing else
		return err
	}
	return h.Disk.Remove(deadlinePath)
}

// disarmed is disarm for a verb whose own work is done: what stays of the deadline is no failure of it.
func disarmed(ctx context.Context, d Deps, report *Report) {
	if err := disarm(ctx, d); err != nil {
		report.Warnings = append(report.Warnings, fmt.Sprintf("what an upgrade's deadline was made of could not be removed, "+
			"and does nothing any more: %s; the next anywhere upgrade removes it", failure.Of(err).Message))
	}
}
