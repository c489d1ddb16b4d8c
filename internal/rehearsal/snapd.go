package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// snapd is what keeps the throw-away host's snaps, by the command that a real one has. There is one snap, Ubuntu's of the
// SSM agent (packaging/snap/snapcraft.yml of aws/amazon-ssm-agent: classic, a simple daemon). A change is carried out to its
// end whatever becomes of the program that has asked for it.
type snapd struct {
	*machine
	mu       sync.Mutex
	follows  string
	channels []host.SnapRelease
	newest   int
	held     bool
	refuses  string // what the next change fails with
	silent   bool   // the store cannot be reached
}

const (
	snapCommand = "/usr/bin/snap"
	snapBase    = "/snap/" + ssmagent.Package + "/"
	snapUnit    = "[Unit]\nDescription=Service for snap application amazon-ssm-agent.amazon-ssm-agent\nX-Snappy=yes\n\n[Service]\n" +
		"ExecStart=/usr/bin/snap run amazon-ssm-agent\nRestart=always\nRestartSec=1\nTimeoutStopSec=60\nType=simple\n\n" +
		"[Install]\nWantedBy=multi-user.target\n"
)

// ubuntu makes the host one whose SSM agent is a snap, as Ubuntu's images bring it: running, and no managed node.
func (m *machine) ubuntu() error {
	m.snapd = &snapd{machine: m, follows: "latest/stable/ubuntu-24.04", newest: 11000}
	release := m.snapd.publish("latest/stable", ssmVersion)
	err := m.disk.WriteFile("/etc/os-release", strings.NewReader(ubuntu2404), 0o644, host.Owner{})
	if err == nil {
		err = m.disk.WriteFile(snapCommand, strings.NewReader(program), 0o755, host.Owner{})
	}
	if err == nil {
		err = m.disk.WriteFile(adminDir+ssmagent.SnapUnit, strings.NewReader(snapUnit), 0o644, host.Owner{})
	}
	if err == nil {
		err = m.units.Enable(context.Background(), ssmagent.SnapUnit)
	}
	if err == nil {
		err = m.snapd.bring(release)
	}
	return err
}

// publish puts a version into a channel of the store.
func (s *snapd) publish(channel, version string) host.SnapRelease {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest += 7
	release := host.SnapRelease{Channel: channel, Version: version, Revision: fmt.Sprint(s.newest)}
	for i, known := range s.channels {
		if known.Channel == channel {
			s.channels[i] = release
			return release
		}
	}
	s.channels = append(s.channels, release)
	return release
}

// bring makes a release the current one: downloads it where it is not at hand, stops the service, changes the link, starts
// the service. Two revisions are kept.
func (s *snapd) bring(release host.SnapRelease) error {
	dir, ctx := snapBase+release.Revision, context.Background()
	now, _, err := host.ReadSnap(s.disk, ssmagent.Package)
	if err != nil {
		return err
	}
	if _, err := s.disk.Lstat(dir); err != nil {
		files := map[string]string{"/meta/snap.yaml": "name: amazon-ssm-agent\nversion: " + release.Version + "\nconfinement: classic\n"}
		for _, name := range []string{"amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "ssm-document-worker", "ssm-cli"} {
			files["/"+name] = program + "# " + name + " " + release.Version + "\n"
		}
		for name, text := range files {
			if err := s.disk.WriteFile(dir+name, strings.NewReader(text), 0o755, host.Owner{}); err != nil {
				return err
			}
		}
	}
	unit, err := s.units.Unit(ctx, ssmagent.SnapUnit)
	if err == nil {
		err = s.units.Stop(ctx, ssmagent.SnapUnit)
	}
	if err == nil {
		err = s.disk.Symlink(release.Revision, snapBase+"current")
	}
	if err == nil && unit.IsEnabled() {
		err = s.units.Start(ctx, ssmagent.SnapUnit)
	}
	if err != nil {
		return err
	}
	return s.prune(now.Revision)
}

// prune removes the revisions that are neither the current one nor the one before it.
func (s *snapd) prune(before string) error {
	now, _, err := host.ReadSnap(s.disk, ssmagent.Package)
	if err != nil {
		return err
	}
	for _, kept := range now.Kept {
		if kept.Revision == now.Revision || kept.Revision == before {
			continue
		}
		if err := s.disk.RemoveAll(snapBase + kept.Revision); err != nil {
			return err
		}
	}
	return nil
}

var errNoSuchSnap = errors.New("snap not found")

// run is the command snap.
func (s *snapd) run(args []string) host.Result {
	var channel, revision string
	var words []string
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "--channel":
			channel = value
		case "--revision":
			revision = value
		case "--color", "--unicode":
		case "--list":
			words = append(words, "list", ssmagent.Package)
		default:
			words = append(words, arg)
		}
	}
	said, err := "", errNoSuchSnap
	if len(words) == 3 && words[1] == "list" { // refresh --list
		words = words[1:]
	}
	if len(words) == 2 && (words[0] == "watch" || words[1] == ssmagent.Package) {
		said, err = s.do(words[0], channel, revision)
	}
	if err != nil {
		return host.Result{ExitCode: 1, Output: "error: " + err.Error() + "\n"}
	}
	return host.Result{Output: said}
}

func (s *snapd) do(verb, channel, revision string) (string, error) {
	now, _, err := host.ReadSnap(s.disk, ssmagent.Package)
	if err != nil {
		return "", err
	}
	if verb == "refresh" || verb == "revert" || verb == "switch" {
		s.mu.Lock()
		refuses := s.refuses
		s.refuses = ""
		s.mu.Unlock()
		if refuses != "" {
			return "", errors.New(refuses)
		}
	}
	if s.silent && verb == "info" {
		return "name:      " + now.Name + "\ntracking:     " + s.follows + "\ninstalled: " + now.Version + "\n", nil
	}
	switch verb {
	case "list":
		if s.silent {
			return "", errors.New("cannot list updates: cannot refresh: Post https://api.snapcraft.io/v2/snaps/refresh: dial tcp: no such host")
		}
		return "All snaps up to date.\n", nil
	case "info":
		return s.info(now), nil
	case "changes":
		return "", errors.New("no changes found")
	case "watch":
		return "", nil
	case "switch":
		s.follow(channel)
		return fmt.Sprintf("%q switched to the %q channel\n", now.Name, channel), nil
	case "refresh":
		s.follow(channel)
		release, ok := s.offer().Followed()
		if !ok || release.Revision == now.Revision {
			return fmt.Sprintf("snap %q has no updates available\n", now.Name), nil
		}
		return fmt.Sprintf("%s %s from Amazon Web Services (aws) refreshed\n", now.Name, release.Version), s.bring(release)
	case "revert":
		for _, kept := range now.Kept {
			if kept.Revision == revision && revision != now.Revision {
				return fmt.Sprintf("%s reverted to %s\n", now.Name, kept.Version),
					s.bring(host.SnapRelease{Version: kept.Version, Revision: kept.Revision})
			}
		}
		return "", fmt.Errorf("cannot find revision %s for snap %q", revision, now.Name)
	}
	return "", fmt.Errorf("unknown command %q", verb)
}

func (s *snapd) follow(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if channel != "" {
		s.follows = channel
	}
}

func (s *snapd) offer() host.SnapOffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return host.SnapOffer{Follows: s.follows, Channels: append([]host.SnapRelease{}, s.channels...)}
}

func (s *snapd) info(now host.Snap) string {
	offer := s.offer()
	var b strings.Builder
	fmt.Fprintf(&b, "name:      %s\nsummary:   Agent to enable remote management\npublisher: Amazon Web Services (aws**)\ntracking:     %s\n",
		now.Name, offer.Follows)
	if s.held {
		b.WriteString("hold:         forever\n")
	}
	b.WriteString("channels:\n")
	for _, r := range offer.Channels {
		fmt.Fprintf(&b, "  %s: %s 2026-11-01 (%s) 27MB classic\n", r.Channel, r.Version, r.Revision)
	}
	fmt.Fprintf(&b, "installed: %s (%s) 27MB classic\n", now.Version, now.Revision)
	return b.String()
}

// runSnap is the host's runner for it.
func (r *runner) runSnap(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if r.snapd == nil {
		return host.Result{}, fmt.Errorf("%s: there is no such program on the throw-away host", cmd.Path)
	}
	host.ChildHook(ctx)(host.Child{PID: os.Getpid(), Argv: append([]string{path.Base(cmd.Path)}, cmd.Args...)})
	return r.snapd.run(cmd.Args), nil
}
