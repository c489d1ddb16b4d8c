package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// snapBox makes a snap with its revisions, of which one is current.
func snapBox(t *testing.T, root, at, current string) {
	t.Helper()
	for revision, line := range map[string]string{"7": "version: 1.0.0.0", "12": "version: '1.1.0.0'", "x1": `version: "2"`} {
		file := filepath.Join(root, at, "box", revision, "meta/snap.yaml")
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte("name: box\n"+line+"\nbase: core22\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if current == "" {
		return
	}
	if err := os.Symlink(current, filepath.Join(root, at, "box/current")); err != nil {
		t.Fatal(err)
	}
}

func TestReadSnap(t *testing.T) {
	kept := []SnapRevision{{"12", "1.1.0.0"}, {"7", "1.0.0.0"}, {"x1", "2"}}
	for _, test := range []struct {
		name  string
		make  func(t *testing.T, root string)
		want  Snap
		found bool
		store bool
	}{
		{"none", func(*testing.T, string) {}, Snap{}, false, false},
		{"one", func(t *testing.T, root string) { snapBox(t, root, "/snap", "12") },
			Snap{"box", "12", "1.1.0.0", "/snap/box/current", kept}, true, true},
		{"where there is no /snap", func(t *testing.T, root string) { snapBox(t, root, "/var/lib/snapd/snap", "7") },
			Snap{"box", "7", "1.0.0.0", "/var/lib/snapd/snap/box/current", kept}, true, true},
		{"from a file", func(t *testing.T, root string) { snapBox(t, root, "/snap", "x1") },
			Snap{"box", "x1", "2", "/snap/box/current", kept}, true, false},
		{"disabled", func(t *testing.T, root string) { snapBox(t, root, "/snap", "") },
			Snap{"box", "", "", "/snap/box/current", kept}, true, false},
		{"not mounted", func(t *testing.T, root string) { snapBox(t, root, "/snap", "13") },
			Snap{"box", "13", "", "/snap/box/current", kept}, true, true},
		{"removed, but for its folder", func(t *testing.T, root string) {
			if err := os.MkdirAll(filepath.Join(root, "/snap/box"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, Snap{}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			test.make(t, root)
			got, found, err := ReadSnap(NewDir(root), "box")
			if err != nil || found != test.found || found && got.Store() != test.store {
				t.Fatal(got, found, err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if got.Whole() != (test.want.Version != "") || got.Keeps("7") != found || got.Keeps("13") {
				t.Errorf("%+v", got)
			}
		})
	}
}

type packageTable map[string]Package

func (p packageTable) Package(name string) (Package, error) { return p[name], nil }
func (packageTable) State() (ManagerState, error)           { return ManagerState{Family: "deb"}, nil }

func TestWithSnaps(t *testing.T) {
	root := t.TempDir()
	snapBox(t, root, "/snap", "12")
	disabled := t.TempDir()
	snapBox(t, disabled, "/snap", "")
	for _, test := range []struct {
		name, root string
		has        Package
		want       Package
	}{
		{"neither", t.TempDir(), Package{}, Package{}},
		{"the package", t.TempDir(), Package{Name: "box", Version: "1-1", Installed: true}, Package{Name: "box", Version: "1-1", Installed: true}},
		{"the snap", root, Package{}, Package{Name: "box", Version: "1.1.0.0", Installed: true, Snap: true}},
		{"the snap, and what purging the package would remove", root, Package{Name: "box", Residual: true},
			Package{Name: "box", Version: "1.1.0.0", Installed: true, Snap: true}},
		{"the snap, disabled", disabled, Package{}, Package{Name: "box", Partial: true, Snap: true}},
		{"both", root, Package{Name: "box", Version: "1-1", Installed: true}, Package{Name: "box", Version: "1-1", Installed: true, Beside: true}},
	} {
		got, err := WithSnaps(packageTable{"box": test.has}, NewDir(test.root)).Package("box")
		if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

// As "snap info amazon-ssm-agent" prints it, with --color=never and --unicode=never, of snapd 2.72; the arrow is of a terminal.
const snapInfo = `name:      amazon-ssm-agent
summary:   Agent to enable remote management of your Amazon EC2 instance configuration
publisher: Amazon Web Services (aws**)
store-url: https://snapcraft.io/amazon-ssm-agent
license:   unset
description: |
  The SSM Agent runs on EC2 instances and enables you to quickly and easily
  channels: this is no channel
commands:
  - amazon-ssm-agent.ssm-cli
services:
  amazon-ssm-agent: simple, enabled, active
snap-id:      0m6GDWJpVkm6mxRsNzVI7TzXZGhv1qzM
tracking:     latest/stable/ubuntu-24.04
refresh-date: 12 days ago, at 10:20 UTC
channels:
  latest/stable:    3.3.2299.0 2026-07-01 (11797) 27MB classic
  latest/candidate: 3.3.2746.0 2026-08-13 (11891) 27MB classic
  latest/beta:      ^
  latest/edge:      ↑
  old/stable:       --
installed:          3.3.1611.0            (9881) 26MB classic
`

func TestParseSnapInfo(t *testing.T) {
	got := parseSnapInfo(snapInfo)
	want := SnapOffer{Follows: "latest/stable/ubuntu-24.04", Channels: []SnapRelease{
		{"latest/stable", "3.3.2299.0", "11797"}, {"latest/candidate", "3.3.2746.0", "11891"},
		{"latest/beta", "3.3.2746.0", "11891"}, {"latest/edge", "3.3.2746.0", "11891"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if held := parseSnapInfo(strings.Replace(snapInfo, "channels:\n  latest", "hold:  forever\nchannels:\n  latest", 1)); !held.Held || len(held.Channels) != 4 {
		t.Errorf("%+v", held)
	}
	for follows, version := range map[string]string{
		"latest/stable/ubuntu-24.04": "3.3.2299.0", "latest/stable": "3.3.2299.0", "stable": "3.3.2299.0", "latest/edge": "3.3.2746.0", "candidate": "3.3.2746.0",
		"old/stable": "", "2.0/stable/fix": "", "": "",
	} {
		got.Follows = follows
		if release, ok := got.Followed(); ok != (version != "") || release.Version != version {
			t.Errorf("%s: %v", follows, release)
		}
	}
}

// snapRunner answers for /usr/bin/snap: each command has its answers, the last one again and again.
type snapRunner struct {
	answers map[string][]Result
	ran     []string
}

func (r *snapRunner) Run(_ context.Context, cmd Cmd) (Result, error) {
	line := strings.Join(cmd.Args, " ")
	r.ran = append(r.ran, line)
	known := r.answers[line]
	if len(known) == 0 {
		return Result{}, nil
	}
	if len(known) > 1 {
		r.answers[line] = known[1:]
	}
	return known[0], nil
}

func (*snapRunner) Wait(context.Context, Child) error { return nil }

// snapFiles have the command, and nothing else.
type snapFiles struct{ Files }

func (snapFiles) Stat(string) (fs.FileInfo, error) { return nil, nil }

const (
	quiet   = "error: no changes found\n"
	working = "ID   Status  Spawn                 Ready                 Summary\n" +
		"17   Done    today at 10:00 UTC    today at 10:00 UTC    Refresh \"box\" snap\n" +
		"18   Doing   today at 11:00 UTC    -                     Auto-refresh snap \"box\"\n" +
		"19   Error   today at 11:00 UTC    today at 11:01 UTC    Doing something\n"
	busy = "error: snap \"box\" has \"auto-refresh\" change in progress\n"
)

func TestSnapd(t *testing.T) {
	ctx := context.Background()
	refresh := func(s *Snapd) error { return s.Refresh(ctx, "box", "latest/candidate") }
	for _, test := range []struct {
		name    string
		answers map[string][]Result
		do      func(*Snapd) error
		ran     []string
		code    failure.Code
		says    []string // the message, evidence and remedy
	}{
		{name: "a refresh", do: func(s *Snapd) error { return s.Refresh(ctx, "box", "") },
			answers: map[string][]Result{"changes box": {{1, quiet}}}, ran: []string{"changes box", "refresh box"}},
		{name: "from a channel", do: refresh, ran: []string{"changes box", "refresh box --channel=latest/candidate"}},
		{name: "a revert", do: func(s *Snapd) error { return s.Revert(ctx, "box", "7") }, ran: []string{"changes box", "revert box --revision=7"}},
		{name: "a switch", do: func(s *Snapd) error { return s.Switch(ctx, "box", "latest/edge") },
			ran: []string{"changes box", "switch --channel=latest/edge box"}},
		{name: "what snapd is at work on is waited for", do: refresh,
			answers: map[string][]Result{"changes box": {{0, working}, {0, quiet}}},
			ran:     []string{"changes box", "watch 18", "refresh box --channel=latest/candidate"}},
		{name: "that it has begun just now too", do: refresh,
			answers: map[string][]Result{
				"changes box": {{1, quiet}, {0, working}}, "refresh box --channel=latest/candidate": {{10, busy}, {0, ""}},
			},
			ran: []string{
				"changes box", "refresh box --channel=latest/candidate", "changes box", "watch 18", "refresh box --channel=latest/candidate",
			}},
		{name: "but not for ever", do: refresh,
			answers: map[string][]Result{"changes box": {{1, quiet}}, "refresh box --channel=latest/candidate": {{10, busy}}},
			code:    failure.PackagesLocked, says: []string{"auto-refresh", "snap changes"}},
		{name: "the store cannot be reached", do: refresh,
			answers: map[string][]Result{"refresh box --channel=latest/candidate": {{1,
				"error: cannot refresh \"box\": cannot query the store for updates: Post https://api.snapcraft.io/v2/snaps/refresh:\n" +
					"       dial tcp: lookup api.snapcraft.io: no such host\n"}}},
			code: failure.Network, says: []string{"Post https://api.snapcraft.io/v2/snaps/refresh: dial tcp", "snap debug connectivity"}},
		{name: "snapd does not run", do: func(s *Snapd) error { return s.Settle(ctx, "box") },
			answers: map[string][]Result{"changes box": {{1, "error: cannot communicate with server: dial unix /run/snapd.socket: connect: connection refused\n"}}},
			code:    failure.PackagesBroken, says: []string{"cannot communicate with server", "systemctl status snapd.socket"}},
		{name: "it is refused", do: refresh,
			answers: map[string][]Result{"refresh box --channel=latest/candidate": {{1, "error: snap \"box\" has running apps (box), pids: 12\n"}}},
			code:    failure.PackageInstall, says: []string{`cannot refresh the snap box: snap "box" has running apps (box), pids: 12`}},
		{name: "an answer without channels", do: func(s *Snapd) error { _, err := s.Offer(ctx, "box"); return err },
			answers: map[string][]Result{"refresh --list": {{1, "error: unable to contact snap store\n"}}},
			code:    failure.Network, says: []string{"which versions there are of the snap box: unable to contact snap store"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			runner := &snapRunner{answers: test.answers}
			err := test.do(NewSnapd(snapFiles{}, runner))
			if test.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.ran, runner.ran); diff != "" {
					t.Error(diff)
				}
				return
			}
			f := failure.Of(err)
			if f == nil || f.Code != test.code {
				t.Fatalf("%v", err)
			}
			for _, says := range test.says {
				if !strings.Contains(f.Message+"\n"+f.Evidence+"\n"+f.Advice(), says) {
					t.Errorf("%q is not in %q, %q, %q", says, f.Message, f.Evidence, f.Advice())
				}
			}
		})
	}
	runner := &snapRunner{answers: map[string][]Result{"info --color=never --unicode=never box": {{0, snapInfo}}}}
	if offer, err := NewSnapd(snapFiles{}, runner).Offer(ctx, "box"); err != nil || offer.Follows == "" {
		t.Error(offer, err)
	}
	for list, newer := range map[string]SnapRelease{
		"Name  Version  Rev  Size  Publisher  Notes\nbox   1.2.0.0  14   27MB  aws**      classic\n": {"", "1.2.0.0", "14"},
		"All snaps up to date.\n": {},
	} {
		runner := &snapRunner{answers: map[string][]Result{"refresh --list": {{0, list}}}}
		offer, err := NewSnapd(snapFiles{}, runner).Offer(ctx, "box")
		if release, known := offer.Followed(); err != nil || release != newer || offer.Newest == known {
			t.Errorf("%q: %+v, %v", list, offer, err)
		}
	}
	if err := NewSnapd(NewDir(t.TempDir()), runner).Settle(ctx, "box"); !failure.Is(err, failure.ToolMissing) {
		t.Error(err)
	}
}
