package ecsagent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

var lifeStart = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// said is a line of the agent's log, so many seconds after the start of its life.
func said(second int, msg string) string {
	at := lifeStart.Add(time.Duration(second) * time.Second).Format(time.RFC3339)
	return fmt.Sprintf("level=info msg=%q time=%s\n", msg, at)
}

func lifeOf(t *testing.T, files map[string]string) Life {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		local := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(local, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	now := func() time.Time { return lifeStart.Add(time.Hour) }
	life, err := ReadLife(host.Reader{Files: host.NewDir(root), Now: now}, lifeStart)
	if err != nil {
		t.Fatal(err)
	}
	return life
}

func TestReadLife(t *testing.T) {
	after := func(second int) time.Time { return lifeStart.Add(time.Duration(second) * time.Second) }
	const (
		connected  = "Connected to ACS endpoint"
		registered = "Registered container instance with cluster!"
		provider   = "Successfully got ECS instance credentials from provider: RotatingSharedCredentialsProvider"
		closed     = "ACS WebSocket connection closed for a valid reason"
		inactive   = "Container instance is deregistered"
	)
	for _, test := range []struct {
		name                  string
		log, init             string
		registered, connected time.Time
		lost                  time.Time
		why                   string // in the line of the loss
		gone                  bool
		provider              string
		deaths                int
	}{
		{name: "no logs"},
		{name: "connected", log: said(1, provider) + said(2, registered) + said(3, connected),
			registered: after(2), connected: after(3), provider: RotatingProvider},
		{name: "another life", log: said(-9, provider) + said(-8, registered) + said(-7, connected)},
		{name: "keys of its own", log: said(1, "Successfully got ECS instance credentials from provider: EnvConfigCredentials"),
			provider: "EnvConfigCredentials"},
		{name: "connected anew every half hour", log: said(3, connected) + said(9, closed) +
			said(9, "Reconnecting to ACS immediately without waiting") + said(10, connected), connected: after(10)},
		{name: "lost without a reason", log: said(3, connected) + said(9, "Waiting before reconnecting to ACS"),
			connected: after(3), lost: after(9), why: "Waiting before"},
		{name: "lost, with the reason", log: said(3, connected) + said(9, closed) +
			said(10, "Failed to connect to ACS: no such host") + said(11, "Waiting before reconnecting to ACS"),
			connected: after(3), lost: after(9), why: "no such host"},
		{name: "deregistered", log: said(3, connected) + said(9, "Failed to connect to ACS: InactiveInstanceException: x") +
			said(9, inactive) + said(9, "Waiting before reconnecting to ACS"),
			connected: after(3), lost: after(9), why: inactive, gone: true},
		{name: "deregistered, and registered anew", log: said(3, inactive) + said(20, registered) + said(21, connected),
			registered: after(20), connected: after(21)},
		{name: "never connected", log: said(2, registered) + said(3, "ACS: Unable to discover poll endpoint"),
			registered: after(2), lost: after(3), why: "poll endpoint"},
		{name: "stopped and started by somebody",
			init: said(5, "Agent exited with code 0") + said(9, "Agent exited with code 42") + said(20, "Agent exited with code 0")},
		{name: "dies", log: said(2, registered) + said(3, connected),
			init:       said(9, "Agent exited with code 1") + said(9, "ECS Agent failed to start, retrying in 1s") + said(20, "Agent exited with code 1"),
			registered: after(2), connected: after(3), deaths: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := map[string]string{}
			if test.log != "" {
				files[LogPath] = test.log
			}
			if test.init != "" {
				files[InitLogPath] = test.init
			}
			got := lifeOf(t, files)
			if !got.Registered.Equal(test.registered) || !got.Connected.Equal(test.connected) || !got.LostSince.Equal(test.lost) ||
				got.Gone != test.gone || got.Provider != test.provider || len(got.Deaths) != test.deaths ||
				!strings.Contains(got.Lost.Text, test.why) {
				t.Errorf("%+v\nwant %+v", got, test)
			}
		})
	}
}

// A busy agent's last word on its connection may be far above the log's end, or in the file before.
func TestReadLifeSearchesBack(t *testing.T) {
	noise := strings.Repeat(said(60, "Managed task [x]: task at steady state: RUNNING"), logTail/80+1000)
	if len(noise) <= logTail {
		t.Fatal("the noise is too short")
	}
	connected := said(1, "Successfully got ECS instance credentials from provider: EC2RoleProvider") + said(2, "Connected to ACS endpoint")
	for name, files := range map[string]map[string]string{
		"in the same file":  {LogPath: connected + noise},
		"in the one before": {LogPath: noise, LogPath + ".3": connected + noise},
	} {
		got := lifeOf(t, files)
		if !got.Connected.Equal(lifeStart.Add(2*time.Second)) || got.Provider != "EC2RoleProvider" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := lifeOf(t, map[string]string{LogPath: said(-60, "Connected to ACS endpoint") + noise}); !got.Connected.IsZero() {
		t.Errorf("of another life: %+v", got)
	}
}

func TestCachedVersion(t *testing.T) {
	for target, want := range map[string]string{
		"/var/cache/ecs/ecs-agent-v1.105.1-1.tar": "1.105.1", // the deb's
		"ecs-agent-v1.105.1.tar":                  "1.105.1", // the rpm's
		"ecs-agent-arm64-v1.99.0.tar":             "1.99.0",
		"something.tar":                           "",
		"":                                        "", // no link
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, CacheDir), 0o755); err != nil {
			t.Fatal(err)
		}
		if target != "" {
			if err := os.Symlink(target, filepath.Join(root, CachedImage)); err != nil {
				t.Fatal(err)
			}
		}
		if got := CachedVersion(host.Reader{Files: host.NewDir(root)}); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
}

func BenchmarkReadLife(b *testing.B) {
	root := b.TempDir()
	if err := os.MkdirAll(filepath.Join(root, LogDir), 0o755); err != nil {
		b.Fatal(err)
	}
	text := said(2, "Connected to ACS endpoint") + strings.Repeat(said(60, "Managed task [x]: task at steady state: RUNNING"), 5<<20/110)
	if err := os.WriteFile(filepath.Join(root, LogPath), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	r := host.Reader{Files: host.NewDir(root), Now: func() time.Time { return lifeStart.Add(time.Hour) }}
	for b.Loop() {
		if life, err := ReadLife(r, lifeStart); err != nil || life.Connected.IsZero() {
			b.Fatal(life, err)
		}
	}
}
