package host

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Snaps changes snaps that are installed. What is changed is downloaded and verified by snapd, against assertions that the
// store has signed, before anything is stopped.
type Snaps interface {
	// Offer asks for what the store has. It needs no root.
	Offer(ctx context.Context, name string) (SnapOffer, error)
	// Settle waits until snapd, which refreshes snaps by itself and goes on with what a killed run has asked it for, is not at
	// work on the snap.
	Settle(ctx context.Context, name string) error
	// Refresh brings the snap to the newest revision of a channel, and has it follow that one from then on; an empty channel
	// is the one that it follows.
	Refresh(ctx context.Context, name, channel string) error
	// Revert brings a revision back that is at hand. The channel stays.
	Revert(ctx context.Context, name, revision string) error
	// Switch has the snap follow another channel, and changes nothing else.
	Switch(ctx context.Context, name, channel string) error
}

// Snapd is snapd, by its command. It implements [Snaps].
type Snapd struct {
	files  Files
	runner Runner
}

// NewSnapd returns snapd with its command run by runner.
func NewSnapd(files Files, runner Runner) *Snapd { return &Snapd{files, runner} }

// snapCommands are where snapd's packages have it, and one that was built by hand.
var snapCommands = []string{"/usr/bin/snap", "/usr/local/bin/snap"}

// Offer implements Snaps.
func (s *Snapd) Offer(ctx context.Context, name string) (SnapOffer, error) {
	result, err := s.ask(ctx, "info", "--color=never", "--unicode=never", name)
	if err != nil {
		return SnapOffer{}, err
	}
	offer := parseSnapInfo(result.Output)
	if len(offer.Channels) > 0 {
		return offer, nil
	}
	// Where the store does not answer it leaves the channels out, and says nothing of that. This one says why.
	if result, err = s.ask(ctx, "refresh", "--list"); err != nil {
		return offer, err
	}
	if result.ExitCode != 0 {
		return offer, snapComplaint(result, "find out which versions there are of the snap "+name)
	}
	offer.addRefresh(result.Output, name)
	return offer, nil
}

// snapAtWork are the states of a change that snapd has not ended. Source: overlord/state/change.go of canonical/snapd 2.72,
// read 2026-11-25; Wait is for a reboot, which nobody waits for here.
var snapAtWork = []string{"Do", "Doing", "Undo", "Undoing", "Abort"}

// Settle implements Snaps.
func (s *Snapd) Settle(ctx context.Context, name string) error {
	result, err := s.ask(ctx, "changes", name)
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		if snapAway.MatchString(result.Output) {
			return snapComplaint(result, "see whether snapd is at work on "+name)
		}
		return nil // "error: no changes found"; should it be another, snapd itself refuses a second change beside the first
	}
	for line := range strings.Lines(result.Output) { // ID Status Spawn Ready Summary
		words := strings.Fields(line)
		if len(words) < 2 || !slices.Contains(snapAtWork, words[1]) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		// How it ended is told by the snap: a change that failed is one that snapd has taken back.
		if _, err := s.run(ctx, "watch", words[0]); err != nil {
			return err
		}
	}
	return nil
}

// Refresh implements Snaps.
func (s *Snapd) Refresh(ctx context.Context, name, channel string) error {
	args := []string{"refresh", name}
	if channel != "" {
		args = append(args, "--channel="+channel)
	}
	return s.change(ctx, "refresh the snap "+name, name, args)
}

// Revert implements Snaps.
func (s *Snapd) Revert(ctx context.Context, name, revision string) error {
	return s.change(ctx, "bring revision "+revision+" of the snap "+name+" back", name, []string{"revert", name, "--revision=" + revision})
}

// Switch implements Snaps.
func (s *Snapd) Switch(ctx context.Context, name, channel string) error {
	return s.change(ctx, "have the snap "+name+" follow "+channel, name, []string{"switch", "--channel=" + channel, name})
}

// snapTries is how often a change is begun that finds another one at work: snapd has begun one by itself just then.
const snapTries = 4

func (s *Snapd) change(ctx context.Context, doing, name string, args []string) error {
	for try := 1; ; try++ {
		if err := s.Settle(ctx, name); err != nil {
			return err
		}
		result, err := s.run(ctx, args...)
		if err != nil || result.ExitCode == 0 {
			return err
		}
		if !snapBusy.MatchString(result.Output) || try == snapTries {
			return snapComplaint(result, doing)
		}
	}
}

// run runs the command, which outlives ctx.
func (s *Snapd) run(ctx context.Context, args ...string) (Result, error) {
	return s.start(ctx, Cmd{Args: args})
}

// ask runs the command where it only asks: it ends with ctx.
func (s *Snapd) ask(ctx context.Context, args ...string) (Result, error) {
	return s.start(ctx, Cmd{Args: args, Disposable: true})
}

func (s *Snapd) start(ctx context.Context, cmd Cmd) (Result, error) {
	for _, name := range snapCommands {
		if _, err := s.files.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			cmd.Path = name
			return s.runner.Run(ctx, cmd)
		}
	}
	return Result{}, failure.New(failure.ToolMissing, "there is no %s, and a snap is to be worked on", snapCommands[0]).
		WithRemedy("apt-get install snapd, then run the command again")
}

// What snapd's command says when it cannot. Source: overlord/snapstate/conflict.go, client/client.go and store/errors.go of
// canonical/snapd 2.72, read 2026-11-25; aws/amazon-ssm-agent's snapmanager.go for exit status 10.
var (
	snapBusy    = regexp.MustCompile(`change in progress`)
	snapAway    = regexp.MustCompile(`cannot communicate with server|snapd\.socket`)
	snapOffline = regexp.MustCompile(`unable to contact snap store|no such host|dial tcp|[Tt]emporary failure|i/o timeout|` +
		`network is unreachable|TLS handshake|deadline exceeded|cannot query the store|too many requests`)
	snapError = regexp.MustCompile(`(?m)^error: (.+(?:\n {2,}.+)*)`)
)

// snapComplaint is the error of a command that failed, with its own words.
func snapComplaint(result Result, doing string) error {
	why := "exit status unknown"
	if found := snapError.FindStringSubmatch(result.Output); found != nil {
		why = strings.Join(strings.Fields(found[1]), " ")
	} else if text := strings.TrimSpace(result.Output); text != "" {
		why = lastLines(text)
	}
	code, remedy := failure.PackageInstall, ""
	switch {
	case snapBusy.MatchString(result.Output):
		code, remedy = failure.PackagesLocked, "snap changes shows what snapd is doing; once it has finished, run the command again"
	case snapAway.MatchString(result.Output):
		code, remedy = failure.PackagesBroken, "systemctl status snapd.socket snapd.service, then run the command again"
	case snapOffline.MatchString(result.Output):
		code, remedy = failure.Network, "snapd reaches the store through a proxy setting of its own: snap get system proxy shows it, snap set system proxy.https=URL changes it, snap debug connectivity tries it"
	}
	f := failure.New(code, "cannot %s: %s", doing, why).WithEvidence("%s", lastLines(result.Output))
	if remedy != "" {
		f = f.WithRemedy("%s", remedy)
	}
	return f
}
