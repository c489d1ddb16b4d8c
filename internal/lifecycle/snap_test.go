package lifecycle

import (
	"context"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// snapd only answers: what changes snaps is tested with the engine, and in the rehearsal.
type snapd struct {
	host.Snaps
	offer host.SnapOffer
	asked *int
}

func (s snapd) Offer(context.Context, string) (host.SnapOffer, error) {
	*s.asked++
	return s.offer, nil
}

func TestChooseSnap(t *testing.T) {
	stable := host.SnapRelease{Channel: "latest/stable", Version: "3.3.2299.0", Revision: "11797"}
	candidate := host.SnapRelease{Channel: "latest/candidate", Version: "3.3.3000.0", Revision: "12000"}
	offer := func(follows string) host.SnapOffer {
		return host.SnapOffer{Follows: follows, Channels: []host.SnapRelease{stable, candidate}}
	}
	for _, test := range []struct {
		name, current, asked string
		offer                host.SnapOffer
		version              string
		want                 engine.SnapWant
		code                 failure.Code
		says                 string // the message, or the remedy
	}{
		{name: "the newest", current: "11797", offer: offer("latest/stable"), version: "3.3.2299.0", want: engine.SnapWant{Follows: "latest/stable"}},
		{name: "latest", current: "11797", asked: artifact.Latest, offer: offer("latest/candidate"),
			version: "3.3.3000.0", want: engine.SnapWant{Follows: "latest/candidate"}},
		{name: "of the channel that Ubuntu's images follow", current: "11797", offer: offer("latest/stable/ubuntu-22.04"),
			version: "3.3.2299.0", want: engine.SnapWant{Follows: "latest/stable/ubuntu-22.04"}},
		{name: "what the followed channel has, by name", current: "11891", asked: "3.3.2299.0", offer: offer("latest/stable"),
			version: "3.3.2299.0", want: engine.SnapWant{Follows: "latest/stable"}},
		{name: "of another channel", current: "11797", asked: "3.3.3000.0", offer: offer("latest/stable"),
			version: "3.3.3000.0", want: engine.SnapWant{Channel: "latest/candidate", Follows: "latest/stable"}},
		{name: "that snapd keeps", current: "11797", asked: "3.3.2746.0", offer: offer("latest/stable"),
			version: "3.3.2746.0", want: engine.SnapWant{Revision: "11891", Follows: "latest/stable"}},
		{name: "that nobody has", current: "11797", asked: "3.3.9.0", offer: offer("latest/stable"),
			code: failure.ArtifactMissing, says: "no channel of the snap amazon-ssm-agent has version 3.3.9.0"},
		{name: "of a channel that has nothing", current: "11797", offer: offer("2.0/edge"),
			code: failure.ArtifactMissing, says: "snap switch --channel=latest/stable"},
		{name: "snapd has nothing newer, and does not know the channels", current: "11797", offer: host.SnapOffer{Follows: "latest/stable", Newest: true},
			version: "3.3.2299.0", want: engine.SnapWant{Follows: "latest/stable"}},
		{name: "from a file", current: "x1", offer: offer(""), code: failure.SnapAgent, says: "snap refresh --amend"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.snap(test.current)
			r, asked := m.registration(RegisterRequest{}), 0
			r.deps.Host.Snaps = snapd{offer: test.offer, asked: &asked}
			for range 2 { // the store is asked once
				version, want, err := r.chooseSnap(t.Context(), test.asked)
				if test.code == "" && (err != nil || version != test.version || want != test.want || asked != 1) {
					t.Fatalf("%s, %+v, %v, asked %d times", version, want, err, asked)
				}
				if f := failure.Of(err); test.code != "" && (f == nil || f.Code != test.code || !strings.Contains(f.Message+f.Advice(), test.says)) {
					t.Fatalf("%v", err)
				}
			}
		})
	}
}

// What is pinned is how the snap comes to another version; nobody is asked where it has the version already.
func TestResolveSnap(t *testing.T) {
	m, asked := newMachine(t), 0
	m.snap("11797")
	r := m.registration(RegisterRequest{})
	r.deps.Host.Snaps = snapd{asked: &asked, offer: host.SnapOffer{
		Follows: "latest/stable", Channels: []host.SnapRelease{{Channel: "latest/candidate", Version: "3.3.3000.0"}},
	}}
	pins := map[string]string{pinSSM: "3.3.2299.0"}
	if err := r.resolveSnap(t.Context(), pins); err != nil || len(pins) != 1 || asked != 0 {
		t.Fatal(pins, err)
	}
	pins[pinSSM] = "3.3.3000.0"
	for range 2 { // a run that goes on has its pins
		if err := r.resolveSnap(t.Context(), pins); err != nil || asked != 1 || pins[pinSnapFrom] != "11797" ||
			pins[pinSnapChannel] != "latest/candidate" || pins[pinSnapFollows] != "latest/stable" || pins[pinSnapRevision] != "" {
			t.Fatal(pins, err)
		}
	}
	if len(r.warnings) != 1 || !strings.Contains(r.warnings[0], "snap switch --channel=latest/stable amazon-ssm-agent") {
		t.Error(r.warnings)
	}
}

// ECS Exec's programs come out of the snap, unless it is somebody's own, or lacks one.
func TestSnapPrograms(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*machine)
		whole  bool
	}{
		"none":        {func(*machine) {}, false},
		"the store's": {func(m *machine) { m.snap("11891") }, true},
		"from a file": {func(m *machine) { m.snap("x1") }, false},
		"one is empty": {func(m *machine) {
			m.snap("11891")
			m.write("/snap/amazon-ssm-agent/11891/ssm-session-worker", "")
		}, false},
		"beside the package": {func(m *machine) {
			m.snap("11891")
			m.install(ssmagent.Package, "3.3.2299.0-1")
		}, false},
	} {
		m := newMachine(t)
		test.change(m)
		snap, err := snapPrograms(m.host().Reader)
		if err != nil || snap.Whole() != test.whole || test.whole && snap.Version != "3.3.2746.0" {
			t.Errorf("%s: %+v, %v", name, snap, err)
		}
	}
}

// Going back from an upgrade of a snap is for what the upgrade has brought, as long as snapd keeps what was before.
func TestSnapGoesBack(t *testing.T) {
	known := func(from, to string) Upgraded {
		return Upgraded{From: OwnedPackage{Snap: from}, To: OwnedPackage{Snap: to}}
	}
	for name, test := range map[string]struct {
		current string
		known   Upgraded
		back    bool
		says    string
	}{
		"it can":                          {"11891", known("11797", "11891"), true, ""},
		"it is back":                      {"11797", known("11797", "11891"), false, ""},
		"snapd has refreshed it since":    {"11891", known("11700", "11797"), false, "revision 11891 since"},
		"snapd does not keep what it was": {"11891", known("11700", "11891"), false, "does not keep revision 11700"},
	} {
		m := newMachine(t)
		m.snap(test.current)
		u := newUpgrade(Deps{Host: m.host(), RunID: "run-1"}, UpgradeRequest{}, verbUpgradeBack)
		back, err := u.snapGoesBack(test.known)
		if err != nil || back != test.back || !strings.Contains(strings.Join(u.warnings, ""), test.says) || (test.says == "") != (len(u.warnings) == 0) {
			t.Errorf("%s: %t, %v, %q", name, back, err, u.warnings)
		}
	}
}
