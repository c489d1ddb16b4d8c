package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// farewell is what the tests look at in deregister's document.
type farewell struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Steps           []struct{ ID, Status, Detail string }
	Result          lifecycle.DeregisterResult
	Error           struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// leave runs "anywhere deregister --yes" with more flags.
func (s *stage) leave(t *testing.T, operator bool, flags ...string) farewell {
	t.Helper()
	l := line{args: append([]string{"deregister", "--yes"}, flags...), operator: operator}
	c, err := s.play(context.Background(), l, cli.RehearseRequest{})
	if err != nil && c.RC == 0 {
		t.Fatal(err)
	}
	var d farewell
	if err := json.Unmarshal(c.Document, &d); err != nil {
		t.Fatalf("%v: %s", err, c.Document)
	}
	return d
}

// empty is a stage whose host is bare.
func empty(t *testing.T) *stage {
	t.Helper()
	env, _, _ := world()
	root, err := os.MkdirTemp("/dev/shm", "anywhere-rehearsal-") // in memory: the engine waits for the disk at every line
	if err != nil {
		root = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	s, err := newStage(root, env, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	// A real host has these, and a real package manager does not leave them behind.
	for _, dir := range []string{"etc/systemd/system/multi-user.target.wants", "lib/systemd/system", "usr/libexec", "var/cache"} {
		if err := os.MkdirAll(filepath.Join(s.machine.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// everything is the throw-away host by path, folders too, but for logs, what anywhere keeps for itself and the package
// manager's own books.
func (s *stage) everything(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(s.machine.root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(at, s.machine.root)
		for _, own := range []string{"/var/log", "/run", lifecycle.DataDir, "/var/lib/dpkg", oldDatabase, newDatabase, "/var/lib/docker"} {
			if name == own {
				return filepath.SkipDir
			}
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := ""
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			text = string(content)
		}
		all[name] = fmt.Sprintf("%s %s", info.Mode(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// differs names what is new, other or gone.
func differs(before, after map[string]string) (names []string) {
	for name := range after {
		if was, there := before[name]; !there {
			names = append(names, "+"+name)
		} else if was != after[name] {
			names = append(names, "~"+name)
		}
	}
	for name := range before {
		if _, there := after[name]; !there {
			names = append(names, "-"+name)
		}
	}
	slices.Sort(names)
	return names
}

// at rest: no agent runs, and none would after a boot.
func (s *stage) atRest(t *testing.T) {
	t.Helper()
	for _, name := range []string{"ecs.service", "amazon-ssm-agent.service"} {
		unit, err := s.machine.units.Unit(t.Context(), name)
		if err != nil || unit.Active == "active" || unit.Active == "activating" || unit.IsEnabled() {
			t.Errorf("%s: %+v, %v", name, unit, err)
		}
	}
}

func TestDeregisterWithoutAWS(t *testing.T) {
	t.Parallel()
	s := empty(t)
	before := s.everything(t)
	s.anotherToken()
	first := s.run(t, withToken)
	if first.RC != 0 {
		t.Fatalf("%+v", first)
	}
	calls := len(s.aws.Requests())
	d := s.leave(t, false, "--local-only")
	if d.RC != 0 || !d.Changed || d.Result.Verified != "local" {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("the host is not as it was before it was registered:\n%s", strings.Join(diff, "\n"))
	}
	if after := len(s.aws.Requests()); after != calls {
		t.Errorf("AWS was asked: %d calls, then %d", calls, after)
	}
	want := []string{
		"aws ecs deregister-container-instance --region eu-west-1 --cluster rehearsal --container-instance " + first.Result.ContainerInstanceARN + " --force",
		"aws ssm deregister-managed-instance --region eu-west-1 --instance-id " + first.Result.ManagedInstanceID,
	}
	if !slices.Equal(d.Result.Owed, want) {
		t.Errorf("owed %q", d.Result.Owed)
	}
	if d = s.leave(t, false, "--local-only"); d.RC != 0 || d.Changed || !strings.HasPrefix(d.Msg, "not registered") || len(d.Result.Owed) > 0 {
		t.Errorf("and again: %+v", d)
	}
	s.anotherToken()
	if again := s.run(t, withToken); again.RC != 0 || again.Result.ManagedInstanceID == first.Result.ManagedInstanceID {
		t.Errorf("and registered anew: %+v", again)
	}
}

// Killed anywhere, the same command finishes what it began: nothing is left in AWS or on the host, and no host registers by
// itself.
func TestDeregisterKilled(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name     string
		operator bool
		flags    []string
	}{{"everything", true, nil}, {"without AWS", false, []string{"--local-only"}}} {
		// Each run is killed a line later than the last one: together they meet every line, most by a run that goes on.
		t.Run(way.name+", again and again", func(t *testing.T) {
			t.Parallel()
			s := empty(t)
			before := s.everything(t)
			first := s.settled(t)
			kills := 0
			for s.killed(t, kills+1, way.operator, way.flags...) {
				kills++
			}
			if kills < 8 {
				t.Errorf("killed only %d times", kills)
			}
			s.finished(t, first, way.operator, before, s.leave(t, way.operator, way.flags...))
		})
		// And a run that begins, at lines all over.
		for from := range 2 {
			t.Run(fmt.Sprint(way.name, ", once ", from), func(t *testing.T) {
				t.Parallel()
				s := empty(t)
				before := s.everything(t)
				kills := 0
				for lines := from * 9; ; lines += 18 {
					first := s.settled(t)
					if !s.killed(t, lines, way.operator, way.flags...) {
						break
					}
					kills++
					d := s.leave(t, way.operator, way.flags...)
					s.finished(t, first, way.operator, before, d)
					if t.Failed() {
						t.Fatalf("it was killed at line %d", lines)
					}
				}
				if kills < 3 {
					t.Errorf("killed only %d times", kills)
				}
			})
		}
	}
}

// settled is a host that is registered.
func (s *stage) settled(t *testing.T) register {
	t.Helper()
	s.anotherToken()
	d := s.run(t, withToken)
	if d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	return d
}

// killed deregisters the host with a kill near a line of the journal, before or after it; false says that it came through.
func (s *stage) killed(t *testing.T, lines int, operator bool, flags ...string) bool {
	t.Helper()
	return s.kill(t, line{args: append([]string{"deregister", "--yes"}, flags...), operator: operator}, 2*lines+1+lines%2)
}

// finished checks that a deregistration has left nothing, neither here nor in AWS.
func (s *stage) finished(t *testing.T, first register, operator bool, before map[string]string, d farewell) {
	t.Helper()
	if d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("the host is not as it was before it was registered:\n%s", strings.Join(diff, "\n"))
	}
	if !d.Changed {
		return // the run before it had done all
	}
	want := []string{"package amazon-ecs-init", "package amazon-ssm-agent", "/etc/ecs/ecs.config"}
	if operator {
		want = append(want, "container instance "+first.Result.ContainerInstanceARN, "managed node "+first.Result.ManagedInstanceID)
		if left := s.left(); len(left) > 0 || d.Result.Verified != "aws" {
			t.Errorf("AWS still has %q, verified %q", left, d.Result.Verified)
		}
	}
	for _, thing := range want {
		if !slices.Contains(d.Result.Removed, thing) {
			t.Errorf("what the operation has removed is not told: %q lacks %q", d.Result.Removed, thing)
		}
	}
}

// left is what the emulated AWS still has of hosts.
func (s *stage) left() (all []string) {
	for _, i := range s.aws.Instances() {
		if i.Status != "INACTIVE" {
			all = append(all, i.ARN+" "+i.Status)
		}
	}
	for _, n := range s.aws.Nodes() {
		all = append(all, n.ID)
	}
	return all
}

func TestDeregister(t *testing.T) {
	t.Parallel()
	s := empty(t)
	before := s.everything(t)
	first := s.settled(t)
	d := s.leave(t, true)
	s.finished(t, first, true, before, d)
	if !d.Changed || len(d.Result.Owed) > 0 {
		t.Fatalf("%+v", d)
	}
	if d = s.leave(t, true); d.RC != 0 || d.Changed || !strings.HasPrefix(d.Msg, "not registered") {
		t.Errorf("and again: %+v", d)
	}
	if again := s.settled(t); again.Result.ManagedInstanceID == first.Result.ManagedInstanceID {
		t.Errorf("and registered anew: %+v", again)
	}
}

// A life of twenty rounds leaves no ghost in AWS, and the host as it was.
func TestTwentyRounds(t *testing.T) {
	t.Parallel()
	s := empty(t)
	before := s.everything(t)
	for range 20 {
		first := s.settled(t)
		s.finished(t, first, true, before, s.leave(t, true))
		if t.Failed() {
			return
		}
	}
}

// The story of a deregistration, and what its faults look like: a refusal leaves everything as it was.
func TestTheStoryOfADeregistration(t *testing.T) {
	t.Parallel()
	env, _, _ := world()
	report, err := Run(context.Background(), env, cli.RehearseRequest{Scenario: "deregister", JSON: true})
	if err != nil {
		t.Fatal(err)
	}
	commands := report.Result.(Result).Commands
	if len(commands) != 4 || commands[2].RC != 0 || !slices.Contains(commands[2].Changed, "-/root/.aws/credentials") {
		t.Errorf("%+v", commands)
	}
	for fault, rc := range map[string]int{"throttled": 5, "server-error": 5} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			env, _, _ := world()
			report, err := Run(context.Background(), env, cli.RehearseRequest{Scenario: "deregister", JSON: true, Faults: []string{fault}})
			if err != nil {
				t.Fatal(err)
			}
			commands := report.Result.(Result).Commands
			last := commands[len(commands)-1]
			if len(commands) != 3 || last.RC != rc || len(withoutLogs(last.Changed)) > 0 {
				t.Errorf("%+v", last)
			}
		})
	}
}
