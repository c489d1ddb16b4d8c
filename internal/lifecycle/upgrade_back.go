package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const (
	stateKind     = "upgrade.state"
	identityKind  = "upgrade.identity"
	imageKind     = "upgrade.image"
	imageGoneKind = "upgrade.image-gone"
	activeKind    = "upgrade.active"
	holdKind      = "upgrade.hold"
)

// savedState is the ECS agent's state as the old version left it.
type savedState struct {
	Instances []string    `json:"instances"` // container instances that it was bound to
	Files     []savedFile `json:"files"`
}

// savedFile is a copy of a file of it.
type savedFile struct {
	Path string `json:"path"`
	Copy string `json:"copy"`
}

// stateKept puts the state back where the new version has bound the host to another container instance, or spoilt it: with
// such a state the old version is not what it was. Else what the new one has written of tasks is the newer truth.
func stateKept() engine.Kind {
	return engine.Kind{Undo: func(_ context.Context, h host.Host, data []byte) ([]string, error) {
		var saved savedState
		if err := json.Unmarshal(data, &saved); err != nil {
			return nil, err
		}
		if len(saved.Files) == 0 {
			return nil, nil
		}
		binding, err := ecsagent.ReadBinding(h.Reader)
		var now []string
		for _, arn := range binding.Instances {
			now = append(now, arn.String())
		}
		if err == nil && slices.Equal(now, saved.Instances) {
			return nil, nil
		}
		return nil, putBack(h, saved.Files)
	}}
}

func putBack(h host.Host, files []savedFile) error {
	for _, f := range files {
		text, err := h.Files.ReadFile(f.Copy)
		if err != nil {
			return err
		}
		if err := h.Disk.WriteFile(f.Path, bytes.NewReader(text), 0o600, host.Owner{}); err != nil { // as both agents have them
			return err
		}
	}
	return nil
}

// savedIdentity is the managed node as it was.
type savedIdentity struct {
	Node  string      `json:"node"`
	Files []savedFile `json:"files"`
}

// identityKept puts the SSM agent's identity back where the host is another managed node by then, or none. One that is the
// same stays as it is, for the agent may have renewed its key.
func identityKept() engine.Kind {
	return engine.Kind{Undo: func(_ context.Context, h host.Host, data []byte) ([]string, error) {
		var saved savedIdentity
		if err := json.Unmarshal(data, &saved); err != nil {
			return nil, err
		}
		if now, err := ssmagent.ReadIdentity(h.Reader); err != nil || now.InstanceID == saved.Node && len(now.Damaged) == 0 {
			return nil, err
		}
		return nil, putBack(h, saved.Files)
	}}
}

// keepIdentity copies the SSM agent's identity for the time of the operation. An upgrade does not touch it, and the watch
// holds it to that.
func (u *upgrade) keepIdentity(ctx context.Context, tx *engine.Tx) error {
	saved := savedIdentity{Node: u.node}
	for _, file := range ssmagent.StoreFiles() {
		held, err := tx.Backup(file)
		if err != nil {
			return err
		}
		if held != "" {
			saved.Files = append(saved.Files, savedFile{file, held})
		}
	}
	return tx.Effect(ctx, identityKind, saved, func(context.Context) error { return nil })
}

// replacedImage is the image of the ECS agent that goes with the old package.
type replacedImage struct {
	Old string `json:"old"`
}

// imageReplaced gives the agent's name back to the old image, and removes the new one: the old package's start would load
// its own again, and the new one would stay for ever. A Docker that does not answer cannot be helped here; the old package
// brings its image along.
func imageReplaced() engine.Kind {
	return engine.Kind{Undo: func(ctx context.Context, h host.Host, data []byte) ([]string, error) {
		var image replacedImage
		if err := json.Unmarshal(data, &image); err != nil {
			return nil, err
		}
		now, there, err := docker.Image(ctx, h.Reader, ecsagent.Image)
		if failure.Is(err, failure.DockerDown) || err == nil && (!there || now == image.Old) {
			return nil, nil
		}
		if err == nil && image.Old != "" {
			err = docker.Tag(ctx, h.Reader, image.Old, ecsagent.Image)
		}
		if err == nil {
			err = docker.RemoveImage(ctx, h.Reader, now, true) // the agent's container, at rest, is made of it
		}
		if failure.Is(err, failure.ServiceFailed) || failure.Is(err, failure.DockerDown) {
			return nil, nil // an image more is no reason to keep the old agent from coming back
		}
		return nil, err
	}}
}

// heldPackage is a package that is held.
type heldPackage struct {
	Package string `json:"package"`
}

// heldAgain holds a package again: whatever installs a package's file ends its hold.
func heldAgain() engine.Kind {
	return engine.Kind{Undo: func(ctx context.Context, h host.Host, data []byte) ([]string, error) {
		var held heldPackage
		if err := json.Unmarshal(data, &held); err != nil {
			return nil, err
		}
		p, err := h.Packages.Package(held.Package)
		if err != nil || p.Held || !p.Installed {
			return nil, err
		}
		result, err := h.Runner.Run(ctx, holdCommand(held.Package))
		if err != nil || result.ExitCode != 0 {
			return []string{held.Package + " was held, and is not any more: apt-mark hold " + held.Package}, nil //nolint:nilerr // see there
		}
		return nil, nil
	}}
}

// holdCommand is what apt-mark hold does in the end (dpkg(1)); apt itself need not be there.
func holdCommand(name string) host.Cmd {
	return host.Cmd{Path: "/usr/bin/dpkg", Args: []string{"--set-selections"}, Stdin: strings.NewReader(name + " hold\n")}
}

// behindCommit is of what comes behind the point of no return.
func behindCommit() engine.Kind {
	return engine.Kind{Undo: func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil }}
}

const (
	failedPath = DataDir + "/failed-upgrades.json"
	failedLogs = DataDir + "/failed"
	keptFailed = 10 // the newest of them
	// Around the name of each log that the file of a failed version has the end of.
	keptBegin, keptEnd = "\n==> ", " <==\n"
)

// FailedUpgrade is a version that was taken back on this host.
type FailedUpgrade struct {
	Package string       `json:"package"` // its package
	Version string       `json:"version"` // the version
	At      string       `json:"at"`      // when, RFC 3339 in UTC
	Code    failure.Code `json:"code"`    // why, as docs/errors.md has it
	Reason  string       `json:"reason"`  // and in words
	Logs    string       `json:"logs"`    // the file with the ends of the agents' logs of then
}

// readFailed is which versions were taken back here.
func readFailed(r host.Reader) ([]FailedUpgrade, error) {
	text, err := r.Files.ReadFile(failedPath)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadableFailed(err)
	}
	var all []FailedUpgrade
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, nil //nolint:nilerr // what cannot be read forbids nothing; the next failure writes it anew
	}
	return all, nil
}

func unreadableFailed(err error) error {
	code := failure.Internal
	if missing(err) || strings.Contains(err.Error(), "permission denied") {
		code = failure.NotRoot
	}
	return failure.Wrap(code, err, "cannot read which upgrades have failed here, %s", failedPath)
}

// remember writes down that a version was taken back, with the agents' words of it. It is no part of the operation, whose
// undo would take it along.
func (u *upgrade) remember(o *engine.Outcome) {
	if u.guilty == nil || !o.RolledBack {
		return
	}
	h, root := u.deps.Host, host.Owner{}
	u.guilty.Logs = path.Join(failedLogs, fmt.Sprintf("%s-%s.log", u.guilty.Package, u.guilty.Version))
	var words bytes.Buffer
	fmt.Fprintf(&words, "%s %s was taken back at %s (run %s): %s\n", u.guilty.Package, u.guilty.Version, u.guilty.At, u.deps.RunID, u.guilty.Reason)
	for _, file := range []string{ecsagent.LogPath, ecsagent.InitLogPath, ssmagent.LogPath} {
		fmt.Fprint(&words, keptBegin, file, keptEnd, string(u.words[file]))
	}
	all := slices.DeleteFunc(u.failed, func(f FailedUpgrade) bool { return f.Package == u.guilty.Package && f.Version == u.guilty.Version })
	all = append(all, *u.guilty)
	all = all[max(0, len(all)-keptFailed):]
	text, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = h.Disk.Mkdir(failedLogs, 0o700, root)
	}
	if err == nil {
		err = h.Disk.WriteFile(u.guilty.Logs, &words, 0o600, root)
	}
	if err == nil {
		err = h.Disk.WriteFile(failedPath, bytes.NewReader(append(text, '\n')), 0o600, root)
	}
	if err != nil {
		u.warnings = append(u.warnings, "that this version was taken back could not be written down: "+failure.Of(err).Message)
		return
	}
	u.failed = all
}

// prune drops from the cache what is neither installed nor the version to go back to. That it stays is no failure.
func (u *upgrade) prune() {
	record, err := readRecord(u.deps.Host.Reader)
	if err != nil {
		return
	}
	for _, a := range u.both() {
		known, ours := record.Upgrades[a.name]
		if ours && u.pins[a.pin] != "" && !a.installed.Snap {
			_ = u.source.Prune(u.ref(a.product, known.From.Version), u.ref(a.product, known.To.Version))
		}
	}
}

// upgradeBack goes back to the versions that the last upgrade replaced. Their packages are in the cache, and are what was
// verified then; nothing is downloaded. done is false when there is no upgrade to go back from.
func upgradeBack(ctx context.Context, d Deps, req UpgradeRequest) (report Report, done bool, err error) {
	open, err := d.engine().Open()
	if err != nil || open != nil && open.Verb != verbUpgradeBack { // the undo needs no record, and tells what it cannot read itself
		return report, false, nil //nolint:nilerr // see above
	}
	record, err := readRecord(d.Host.Reader)
	if err != nil && open == nil {
		return report, false, nil // nobody knows of an upgrade
	}
	if err != nil {
		return report, false, err
	}
	req.AllowDowngrade = true
	u := newUpgrade(d, req, verbUpgradeBack)
	back := false
	for _, a := range u.both() {
		known, ok := record.Upgrades[a.name]
		installed, err := d.Host.Packages.Package(a.name)
		if err != nil {
			return report, false, err
		}
		a.in = ok && known.From.SHA256 != "" && (installed.Version == known.To.Version || sameVersion(installed.Version, known.To.Version))
		if ok && known.From.Snap != "" {
			if a.in, err = u.snapGoesBack(known); err != nil {
				return report, false, err
			}
		}
		if a.in {
			back, a.asked, a.back = true, known.From.Version, known
		}
	}
	if open == nil && !back {
		return report, false, nil
	}
	u.named = "back"
	u.trusts = record.Upgrades
	report, err = u.run(ctx)
	return report, true, err
}

// trust takes a package out of the cache by the sum that the record has of it, which was verified when it came there.
func (u *upgrade) trust() error {
	for _, a := range u.both() {
		known, ok := u.trusts[a.name]
		if !ok || a.installed.Snap {
			continue
		}
		for _, one := range []OwnedPackage{known.From, known.To} {
			ref := u.ref(a.product, one.Version)
			file := u.source.File(ref)
			sum, err := sumOf(u.deps.Host.Files, file)
			if err != nil || sum != one.SHA256 {
				continue // it is fetched, or refused, as ever
			}
			f := &fetch{done: make(chan struct{}), pkg: artifact.Package{Ref: ref, Path: file, SHA256: sum, KeyFingerprint: one.Key}}
			close(f.done)
			u.fetched[ref] = f
		}
	}
	return nil
}

func sumOf(files host.Files, name string) (string, error) {
	f, err := files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Tend ends an upgrade whose run has ended before it: it is what the deadline's timer starts. It does nothing while a run
// is at work.
func Tend(ctx context.Context, d Deps) (Report, error) {
	report := Report{Result: OperationResult{}}
	release, err := engine.Lock(ctx, d.Host, LockPath, d.RunID, 0)
	if failure.Is(err, failure.Locked) {
		report.Message = "a run is at work: " + failure.Of(err).Message
		return report, nil
	}
	if err != nil {
		return report, err
	}
	defer release()
	op, err := d.engine().Open()
	if err != nil {
		return report, err
	}
	if op == nil || op.Verb != verbUpgrade && op.Verb != verbUpgradeBack {
		if op == nil { // a journal whose end is written is only cleared up by it
			if _, err := d.engine().Rollback(ctx); err != nil && !failure.Is(err, failure.NothingToRollBack) {
				return report, err
			}
		}
		report.Message = "no upgrade is unfinished"
		disarmed(ctx, d, &report)
		return report, nil
	}
	u := newUpgrade(d, UpgradeRequest{}, op.Verb)
	u.named = op.Key
	forward := op.Committed
	if !forward && !op.Undoing {
		forward = u.installedWhole(op)
	}
	var inner Report
	if forward {
		inner, err = u.goOn(ctx, op)
	} else {
		inner, err = u.giveUp(ctx, op)
	}
	result := operationResult(op)
	if left, openErr := d.engine().Open(); openErr == nil && left == nil { // its journal is closed
		result.Unfinished, result.Undoable = false, false
	}
	inner.Result = result
	return inner, err
}

// installedWhole reports whether every package that an operation replaces has the new version already. Then the new agents
// are given their chance; else the way back is the shorter one.
func (u *upgrade) installedWhole(op *engine.Operation) bool {
	for _, a := range u.both() {
		wanted := op.Pins[a.pin]
		if wanted == "" {
			continue
		}
		p, err := u.deps.Host.Packages.Package(a.name)
		if err != nil || !p.Installed || p.Partial || !sameVersion(p.Version, wanted) {
			return false
		}
	}
	return true
}

// goOn ends an upgrade whose packages are installed: it starts and watches the new agents, and commits or goes back. Where it
// cannot even be seen what they must come to, it goes back too: the journal alone is enough for that.
func (u *upgrade) goOn(ctx context.Context, op *engine.Operation) (Report, error) {
	err := u.settleSource()
	if err == nil {
		err = u.settle(ctx)
	}
	switch {
	case err != nil && op.Committed:
		return Report{}, err
	case err != nil:
		report, undone := u.giveUp(ctx, op)
		report.Warnings = append(report.Warnings, "it could not be gone on with: "+failure.Of(err).Message)
		return report, undone
	}
	if d, err := readDeadline(u.deps.Host.Reader); err == nil && d != nil && u.deps.Host.Now().After(d.DecideBy) {
		u.goal.Patience = min(u.goal.Patience, u.goal.Steady+reachEvery)
	}
	return u.apply(ctx)
}

// giveUp takes an unfinished upgrade back, from its journal alone.
func (u *upgrade) giveUp(ctx context.Context, op *engine.Operation) (Report, error) {
	outcome, err := u.engine.Rollback(ctx)
	report := Report{Steps: outcome.Steps, Changed: op.Changes > 0, Kept: outcome.Kept}
	if err != nil {
		return report, err
	}
	report.Message = fmt.Sprintf("took the unfinished %s of %s back", op.Verb, stamp(op.Started))
	disarmed(ctx, u.deps, &report)
	return report, nil
}
