package rehearsal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// refusesToLeave runs a deregister that has to be refused with nothing touched, on the host and in AWS.
func (s *stage) refusesToLeave(t *testing.T, operator bool, rc int, code, message, remedy string, flags ...string) farewell {
	t.Helper()
	before, had := s.everything(t), s.left()
	record, _ := os.ReadFile(filepath.Join(s.machine.root, "var/lib/anywhere/record.json"))
	d := s.leave(t, operator, flags...)
	t.Logf("exit %d: %s\n  evidence: %s\n  try: %s", d.RC, d.Error.Message, d.Error.Evidence, d.Error.Remedy)
	if d.RC != rc || d.Error.Code != code || d.Changed || !strings.Contains(d.Error.Message, message) || !strings.Contains(d.Error.Remedy, remedy) {
		t.Errorf("%+v; want %d, %s, %q, %q", d, rc, code, message, remedy)
	}
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("a refusal has changed %v", diff)
	}
	if now := s.left(); !slices.Equal(now, had) {
		t.Errorf("AWS had %q and has %q", had, now)
	}
	if now, _ := os.ReadFile(filepath.Join(s.machine.root, "var/lib/anywhere/record.json")); string(now) != string(record) {
		t.Error("a refusal has changed the record")
	}
	return d
}

// on is a registered host.
func on(t *testing.T) (*stage, register, map[string]string) {
	t.Helper()
	s := empty(t)
	before := s.everything(t)
	return s, s.settled(t), before
}

// What is gone already, on one side or both, is no failure.
func TestDeregisterWhatIsGone(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(*stage, register){
		"ECS": func(s *stage, first register) { s.aws.SetInstanceStatus(first.Result.ContainerInstanceARN, "INACTIVE") },
		"SSM": func(s *stage, first register) { s.aws.DeregisterNode(first.Result.ManagedInstanceID) },
		"both": func(s *stage, first register) {
			s.aws.SetInstanceStatus(first.Result.ContainerInstanceARN, "INACTIVE")
			s.aws.DeregisterNode(first.Result.ManagedInstanceID)
		},
		"the cluster": func(s *stage, _ register) { s.aws.RemoveCluster(cluster) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, first, before := on(t)
			gone(s, first)
			d := s.leave(t, true)
			if d.RC != 0 || !d.Changed || d.Result.Verified != "aws" {
				t.Fatalf("%+v", d)
			}
			s.atRest(t)
			if diff := differs(before, s.everything(t)); len(diff) > 0 {
				t.Errorf("%v", diff)
			}
			if name != "the cluster" && len(s.left()) > 0 {
				t.Errorf("AWS still has %q", s.left())
			}
		})
	}
}

// Who may do what is settled before anything is touched.
func TestDeregisterAndCredentials(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	operator := s.operator
	as := func(deny ...string) {
		s.operator = operator
		s.aws.AddOperator(emulator.Key{ID: operator.ID, Secret: operator.Secret, Deny: deny})
	}
	s.refusesToLeave(t, false, 4, "credentials_invalid", "takes an operator's credentials", "--keep-ssm")
	s.refusesToLeave(t, false, 4, "credentials_invalid", "takes an operator's credentials", "--local-only")
	for _, denied := range []string{"ecs:DeregisterContainerInstance", "ssm:DeregisterManagedInstance", "ecs:UpdateContainerInstancesState"} {
		as(denied)
		s.refusesToLeave(t, true, 4, "access_denied", denied, "allow")
	}
	as()
	s.operator = emulator.Key{ID: "AKIAUNKNOWN000000001", Secret: secret.NewText("unknown")}
	s.refusesToLeave(t, true, 4, "credentials_invalid", "", "")
	s.operator = operator
	s.refusesToLeave(t, true, 2, "usage", "--region is us-east-1", "leave --region out", "--region", "us-east-1")
	s.refusesToLeave(t, true, 2, "usage", "--cluster is other", "leave --cluster out", "--cluster", "other")
	s.refusesToLeave(t, true, 2, "usage", "--cluster is arn", "leave --cluster out", "--cluster",
		"arn:aws:ecs:eu-west-1:999999999999:cluster/"+cluster)

	// The node's own role does ECS's half, where the node stays.
	d := s.leave(t, false, "--keep-ssm", "--cluster", cluster)
	if d.RC != 0 || !d.Changed || d.Result.Verified != "local" || len(s.aws.Nodes()) != 1 {
		t.Fatalf("%+v", d)
	}
	if status := s.aws.Instances()[0].Status; status != "INACTIVE" {
		t.Errorf("ECS still has it %s", status)
	}
	unit, _ := s.machine.units.Unit(t.Context(), "amazon-ssm-agent.service")
	if !unit.Running() || !unit.IsEnabled() {
		t.Errorf("the managed node's agent: %+v", unit)
	}
	if !slices.ContainsFunc(d.Result.Kept, func(k string) bool { return strings.HasPrefix(k, "managed node "+first.Result.ManagedInstanceID) }) {
		t.Errorf("kept %q", d.Result.Kept)
	}
	// The same node in another cluster's place: registered again without a token, and then all of it goes.
	again := s.run(t, plain, "--cluster", cluster)
	if again.RC != 0 || again.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Fatalf("%+v", again)
	}
	s.finished(t, again, true, before, s.leave(t, true))
}

// Without a network nothing is touched; then the host is cleaned without AWS.
func TestDeregisterWithoutANetwork(t *testing.T) {
	t.Parallel()
	s, _, before := on(t)
	if err := s.aws.Close(); err != nil {
		t.Fatal(err)
	}
	d := s.leave(t, true)
	if d.RC != 5 || d.Changed || d.Error.Remedy == "" {
		t.Fatalf("%+v", d)
	}
	d = s.leave(t, true, "--local-only")
	if d.RC != 0 || len(d.Result.Owed) != 2 {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("%v", diff)
	}
}

// Docker that is dead hinders nothing: the agent in it is dead too.
func TestDeregisterWithDockerDead(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	s.machine.socket = "/nonexistent/docker.sock"
	d := s.leave(t, true)
	s.finished(t, first, true, before, d)
	if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, "cannot be listed") }) {
		t.Errorf("%q", d.Warnings)
	}
}

// Tasks are drained, or named; what runs on is told.
func TestDeregisterAndTasks(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	arn := s.aws.AddTask(first.Result.ContainerInstanceARN, emulator.Task{Family: "batch"})
	s.refusesToLeave(t, true, 12, "tasks_running", "1 task", "--force --accept-risk running-tasks", "--no-drain")
	s.refusesToLeave(t, true, 12, "tasks_running", "1 task", "--accept-risk running-tasks", "--no-drain", "--force")
	s.refusesToLeave(t, true, 2, "usage", "--on-timeout force stops tasks", "--accept-risk running-tasks", "--on-timeout", "force")
	d := s.leave(t, true, "--drain-timeout", "1s")
	if d.RC != 12 || d.Error.Code != "drain_timeout" || !strings.Contains(d.Error.Evidence, "batch") || s.aws.Instances()[0].Status != "ACTIVE" {
		t.Fatalf("%+v\n%+v", d, s.aws.Instances())
	}
	d = s.leave(t, true, "--drain-timeout", "0s", "--on-timeout", "leave", "--timeout", "10s")
	if d.RC != 12 || d.Error.Code != "drain_timeout" || s.aws.Instances()[0].Status != "DRAINING" || !d.Changed {
		t.Fatalf("%+v\n%+v", d, s.aws.Instances())
	}
	d = s.leave(t, true, "--drain-timeout", "1s", "--force", "--accept-risk", "running-tasks")
	s.finished(t, first, true, before, d)
	if !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, arn[strings.LastIndexByte(arn, '/')+1:]) }) {
		t.Errorf("the task that was given up is not named: %q", d.Warnings)
	}

	// A task that leaves is waited for.
	first = s.settled(t)
	s.aws.AddTask(first.Result.ContainerInstanceARN, emulator.Task{Family: "batch"})
	d = s.leave(t, true, "--drain-timeout", "1s", "--on-timeout", "force", "--accept-risk", "running-tasks")
	s.finished(t, first, true, before, d)
}

// Ghosts of this host in the cluster go with it; a copy of it that is connected forbids that.
func TestDeregisterTakesItsGhostsAlong(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	if err := s.machine.units.Stop(t.Context(), "ecs.service"); err != nil {
		t.Fatal(err)
	}
	s.remove(t, stateDB)
	if err := s.machine.units.Start(t.Context(), "ecs.service"); err != nil {
		t.Fatal(err)
	}
	until(t, "a second instance", func() bool { return len(s.aws.Instances()) == 2 })
	d := s.leave(t, true)
	if d.RC != 0 || len(s.left()) > 0 || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Fatalf("%+v\nAWS has %q", d, s.left())
	}
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("%v", diff)
	}
}

// A machine that is a copy of another one is cleaned without AWS only, and AWS is owed nothing for it.
func TestDeregisterACopy(t *testing.T) {
	t.Parallel()
	s, _, _ := on(t)
	s.write(t, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	s.refusesToLeave(t, true, 12, "fingerprint_mismatch", "a copy of another", "--local-only")
	d := s.leave(t, false, "--local-only")
	if d.RC != 0 || len(d.Result.Owed) > 0 {
		t.Errorf("%+v", d)
	}
	s.atRest(t)
}

// A host of AWS's own script has no record: ECS's half goes, and the rest only when that is asked for.
func TestDeregisterAHostOfAWSsScript(t *testing.T) {
	t.Parallel()
	s, first, _ := on(t)
	for _, name := range []string{"var/lib/anywhere/record.json", "etc/systemd/system/ecs.service.d/50-anywhere.conf"} {
		s.remove(t, name)
	}
	d := s.leave(t, true)
	if d.RC != 0 || !d.Changed || len(s.aws.Nodes()) != 1 || s.aws.Instances()[0].Status != "INACTIVE" {
		t.Fatalf("%+v", d)
	}
	for _, want := range []string{"managed node " + first.Result.ManagedInstanceID, "package amazon-ecs-init", "package amazon-ssm-agent", "/etc/ecs/ecs.config"} {
		if !slices.ContainsFunc(d.Result.Kept, func(k string) bool { return strings.HasPrefix(k, want+" (") }) {
			t.Errorf("kept %q, and not %q", d.Result.Kept, want)
		}
	}
	unit, _ := s.machine.units.Unit(t.Context(), "ecs.service")
	if unit.Active == "active" || unit.IsEnabled() {
		t.Errorf("%+v", unit)
	}
	if again := s.leave(t, true); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
	d = s.leave(t, true, "--remove-ssm", "--purge", "--accept-risk", "purge-data")
	if d.RC != 0 || len(s.left()) > 0 || d.Result.Verified != "aws" {
		t.Fatalf("%+v", d)
	}
	for _, gone := range []string{"etc/ecs", "etc/amazon/ssm", "var/lib/ecs", "var/lib/amazon/ssm", "var/log/ecs", "var/log/amazon/ssm", "var/lib/anywhere",
		"etc/amazon", "var/lib/amazon", "var/log/amazon", "usr/libexec/amazon-ecs-init", "usr/bin/amazon-ssm-agent", "root/.aws/credentials"} {
		if _, err := os.Lstat(filepath.Join(s.machine.root, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	if _, err := os.Lstat(filepath.Join(s.machine.root, "var/log/anywhere/anywhere.log")); err != nil {
		t.Errorf("our own log is gone: %v", err)
	}
	s.settled(t)
}

// What a move has written into somebody's configuration goes with the registration too.
func TestDeregisterAfterAMove(t *testing.T) {
	t.Parallel()
	s := empty(t)
	const settings = "# the platform team's\nECS_LOGLEVEL=debug\n"
	s.write(t, "etc/ecs/ecs.config", settings)
	first := s.settled(t)
	s.tag(t, first.Result.ContainerInstanceARN)
	if d := s.move(t, other); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	if text := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(text, `{"rack":"7"}`) || !strings.Contains(text, "ECS_CLUSTER="+other) {
		t.Fatalf("moved with %s", text)
	}
	if d := s.leave(t, true); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	if text := s.read(t, "etc/ecs/ecs.config"); text != settings {
		t.Errorf("the configuration is\n%s\nand was\n%s", text, settings)
	}
}

// What is somebody's stays to the letter.
func TestDeregisterKeepsWhatIsSomebodys(t *testing.T) {
	t.Parallel()
	s := empty(t)
	const mine = "# mine\n[ops]\naws_access_key_id=AKIAMINE000000000001\naws_secret_access_key = mine" // the agent lines it up
	s.write(t, "root/.aws/credentials", mine)
	s.write(t, "root/.aws/config", "[default]\nregion=eu-west-1\n")
	const settings = "# the platform team's\nECS_LOGLEVEL=debug\nECS_RESERVED_MEMORY=64"
	s.write(t, "etc/ecs/ecs.config", settings+"\n")
	s.write(t, "etc/ecs/notes", "mine")
	s.write(t, "var/lib/ecs/data/ecs_volume_plugin.json", "{}")
	s.write(t, "var/lib/ecs/volumes/v/file", "precious")
	s.write(t, "etc/amazon/other/file", "mine")
	if err := os.Chmod(filepath.Join(s.machine.root, "root/.aws/credentials"), 0o640); err != nil {
		t.Fatal(err)
	}
	before := s.everything(t)
	first := s.settled(t)
	s.write(t, "etc/ansible/facts.d/anywhere.fact", "{}")
	if text := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(text, "ECS_CLUSTER=") {
		t.Fatalf("registered with %s", text)
	}
	d := s.leave(t, true)
	d.Result.Removed = append(d.Result.Removed, "/etc/ecs/ecs.config") // it stays
	s.finished(t, first, true, s.with(t, before, "etc/ansible/facts.d"), d)
	if text := s.read(t, "root/.aws/credentials"); text != mine {
		t.Errorf("the credentials are now:\n%s", text)
	}

	// One copy of it serves all lives; what is edited meanwhile is not lost to a copy.
	s.settled(t)
	if names := s.backups(t); len(names) != 1 {
		t.Errorf("the copies are %q", names)
	}
	s.write(t, "root/.aws/credentials", s.read(t, "root/.aws/credentials")+"# and this\n[more]\nregion = eu-west-1\n")
	if d := s.leave(t, true); d.RC != 0 {
		t.Errorf("%+v", d)
	}
	if text := s.read(t, "root/.aws/credentials"); !strings.HasPrefix(text, "# mine\n[ops]\naws_access_key_id     = AKIAMINE000000000001\n") ||
		!strings.HasSuffix(text, "# and this\n[more]\nregion = eu-west-1\n") {
		t.Errorf("the edited credentials are now:\n%s", text)
	}
}

// with is a tree with folders that may stay.
func (s *stage) with(t *testing.T, tree map[string]string, dirs ...string) map[string]string {
	t.Helper()
	for name, what := range s.everything(t) {
		for _, dir := range dirs {
			if name == "/"+dir || strings.HasPrefix("/"+dir, name+"/") {
				if _, there := tree[name]; !there {
					tree[name] = what
				}
			}
		}
	}
	return tree
}

// A link in the place of an agent's folder is not followed, and nothing is begun.
func TestDeregisterDoesNotFollowLinks(t *testing.T) {
	t.Parallel()
	s, _, _ := on(t)
	precious := filepath.Join(s.machine.root, "srv/precious")
	if err := os.MkdirAll(filepath.Join(precious, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write(t, "srv/precious/data/agent.db", "precious")
	s.write(t, "srv/precious/ecs.config", "precious")
	for _, folder := range []string{"var/lib/ecs", "etc/ecs"} {
		local := filepath.Join(s.machine.root, folder)
		if err := os.Rename(local, local+".real"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/srv/precious", local); err != nil {
			t.Fatal(err)
		}
		s.refusesToLeave(t, true, 12, "unsafe_path", "symbolic link", "by hand", "--local-only", "--force", "--accept-risk", "running-tasks")
		s.refusesToLeave(t, true, 12, "unsafe_path", "symbolic link", "by hand", "--purge", "--accept-risk", "purge-data")
		if err := os.Remove(local); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(local+".real", local); err != nil {
			t.Fatal(err)
		}
	}
	if text := s.read(t, "srv/precious/data/agent.db") + s.read(t, "srv/precious/ecs.config"); text != "preciousprecious" {
		t.Error("what is behind the link was touched")
	}
	if d := s.leave(t, true); d.RC != 0 {
		t.Errorf("%+v", d)
	}
}

// In a session of Systems Manager the branch is not sawn off unasked.
func TestDeregisterInASession(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	s.around = func(h host.Host) host.Host {
		h.Files = inSession{h.Files}
		return h
	}
	s.refusesToLeave(t, true, 12, "ssm_session", "the session ends", "--accept-risk lose-ssm-session")
	d := s.leave(t, true, "--accept-risk", "lose-ssm-session")
	s.finished(t, first, true, before, d)
}

type inSession struct{ host.Files }

func (f inSession) ReadFile(name string) ([]byte, error) {
	switch name {
	case "/proc/self/stat":
		return []byte("9 (anywhere) S 8 9"), nil
	case "/proc/8/stat":
		return []byte("8 (ssm-session-wor) S 1 8"), nil
	}
	return f.Files.ReadFile(name)
}

// Another operation that is not finished comes first; one whose journal cannot be read, or a record, does not keep a host
// from being cleaned without AWS.
func TestDeregisterAndWhatIsUnfinished(t *testing.T) {
	t.Parallel()
	s := empty(t)
	before := s.everything(t)
	token := s.anotherToken()
	token.Cluster = "gone"
	s.token = token.Encode()
	if d := s.run(t, withToken); d.RC != 8 {
		t.Fatalf("%+v", d)
	}
	s.refusesToLeave(t, true, 12, "operation_unfinished", "register was begun", "same anywhere register command")
	s.refusesToLeave(t, false, 12, "operation_unfinished", "register was begun", "same anywhere register command", "--local-only")

	s.write(t, "var/lib/anywhere/journal/open.jsonl", "not a journal\n")
	s.write(t, "var/lib/anywhere/record.json", "{not a record")
	s.refusesToLeave(t, true, 12, "journal_unreadable", "", "abandon")
	if d := s.leave(t, false, "--local-only", "--dry-run", "--detailed-exitcode"); d.RC != 11 || d.Changed {
		t.Errorf("a dry run: %+v", d)
	}
	d := s.leave(t, false, "--local-only", "--remove-ssm", "--purge", "--accept-risk", "purge-data")
	if d.RC != 0 || len(d.Warnings) < 2 {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if diff := slices.DeleteFunc(differs(before, s.everything(t)), func(n string) bool {
		return strings.HasPrefix(n, "+/root/.aws") || strings.HasPrefix(n, "+/var/lib/amazon") || strings.HasPrefix(n, "+/etc/amazon") || strings.HasPrefix(n, "+/etc/systemd/system/ecs.service.d")
	}); len(diff) > 0 {
		t.Errorf("%v", diff)
	}
}

// --keep-packages: the agents stay installed, at rest, and a registration takes them up again.
func TestDeregisterKeepsPackages(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	d := s.leave(t, true, "--keep-packages")
	if d.RC != 0 || !slices.Contains(d.Result.Kept, "package amazon-ecs-init (--keep-packages)") || len(s.left()) > 0 {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if again := s.leave(t, true, "--keep-packages"); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
	again := s.settled(t)
	if again.Result.ManagedInstanceID == first.Result.ManagedInstanceID {
		t.Errorf("%+v", again)
	}
	s.finished(t, again, true, before, s.leave(t, true))
}

// --remote-only: AWS's side alone.
func TestDeregisterRemoteOnly(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	as := s.everything(t)
	d := s.leave(t, true, "--remote-only")
	if d.RC != 0 || !d.Changed || d.Result.Verified != "aws" || len(s.left()) > 0 {
		t.Fatalf("%+v", d)
	}
	for name := range s.everything(t) {
		if _, there := as[name]; !there && !strings.Contains(name, "/var/lib/amazon") && !strings.Contains(name, "/var/lib/ecs") {
			t.Errorf("the host has %s now", name)
		}
	}
	if again := s.leave(t, true, "--remote-only"); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
	d = s.leave(t, true)
	if d.RC != 0 || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("%v", diff)
	}
}

// A dry run tells, and does nothing; what it would remove of AWS's side too.
func TestDeregisterDryRun(t *testing.T) {
	t.Parallel()
	s, _, _ := on(t)
	before, had := s.everything(t), s.left()
	d := s.leave(t, true, "--dry-run", "--detailed-exitcode")
	if d.RC != 11 || d.Changed || d.Failed {
		t.Fatalf("%+v", d)
	}
	planned := 0
	for _, step := range d.Steps {
		if step.Status == "planned" {
			planned++
		}
	}
	if planned < 8 {
		t.Errorf("%+v", d.Steps)
	}
	if diff := differs(before, s.everything(t)); len(diff) > 0 || !slices.Equal(had, s.left()) {
		t.Errorf("a dry run has changed %v; AWS had %q and has %q", diff, had, s.left())
	}
	if d := s.leave(t, false, "--dry-run", "--local-only"); d.RC != 0 || len(d.Result.Owed) != 2 {
		t.Errorf("%+v", d)
	}
}

// A failure on the host before anything is final is undone; one after it is kept, and the same command goes on.
func TestDeregisterThatFails(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	registered := s.everything(t)
	refuses := func(h host.Host) host.Host {
		h.Packager = refusing{h.Packager}
		return h
	}
	s.around = refuses
	d := s.leave(t, false, "--local-only")
	if d.RC != 7 || d.Error.Code != "package_install" || !d.Error.RolledBack || d.Changed {
		t.Fatalf("%+v", d)
	}
	if diff := slices.DeleteFunc(differs(registered, s.everything(t)), func(n string) bool { // agents that were started anew write
		return strings.Contains(n, "/var/lib/amazon/ssm") || strings.Contains(n, "/var/lib/ecs/data") || strings.Contains(n, "/root/.aws") || strings.Contains(n, "/var/cache/ecs")
	}); len(diff) > 0 {
		t.Errorf("not undone: %v", diff)
	}
	d = s.leave(t, true)
	if d.RC != 8 || d.Error.Code != "package_install" || len(d.Error.Kept) == 0 || !strings.Contains(d.Error.Remedy, "same command again") {
		t.Fatalf("%+v", d)
	}
	s.around = nil
	s.finished(t, first, true, before, s.leave(t, true))
}

type refusing struct{ host.Packager }

func (refusing) Remove(context.Context, string, bool) error { return errors.New("dependency problems") }

// until waits for what agents do in their own time.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// A machine that is gone is given up from a workstation: no root, nothing of this host is looked at.
func TestDeregisterAMachineThatIsGone(t *testing.T) {
	t.Parallel()
	s, first, _ := on(t)
	node, arn := first.Result.ManagedInstanceID, first.Result.ContainerInstanceARN
	refused := func(rc int, code, message, remedy string, flags ...string) {
		t.Helper()
		s.refusesToLeave(t, true, rc, code, message, remedy, flags...)
	}
	refused(12, "live_instance", "is not gone", "--accept-risk live-instance", "--instance", node)
	refused(12, "live_instance", "is not gone", "--accept-risk live-instance", "--instance", arn)
	for _, bad := range []string{"web-1", "mi-123", "i-0123456789abcdef0", "10.0.0.7", arn[:len(arn)-40] + "/x y"} {
		if d := s.leave(t, true, "--instance", bad); d.RC != 2 || d.Error.Code != "usage" {
			t.Errorf("%s: %+v", bad, d)
		}
	}
	refused(2, "usage", "neither a managed node", "", "--instance", "web-1")
	refused(2, "usage", "cluster nowhere does not exist", "list-clusters", "--instance", node, "--cluster", "nowhere")
	refused(2, "usage", "--cluster is other", "leave --cluster out", "--instance", arn, "--cluster", "other")
	refused(2, "usage", "--region is us-east-1", "leave --region out", "--instance", arn, "--region", "us-east-1")
	refused(2, "usage", "of account 999999999999", "--profile", "--instance", strings.Replace(arn, account, "999999999999", 1))
	for _, flag := range []string{"--local-only", "--stop-tasks", "--keep-packages", "--drain-timeout=1m", "--on-timeout=leave"} {
		name, _, _ := strings.Cut(flag, "=")
		refused(2, "usage", name, "", "--instance", node, flag)
	}
	s.refusesToLeave(t, false, 4, "credentials_invalid", "", "", "--instance", node)

	s.machine.units.stopAll() // the machine is switched off
	until(t, "ECS has noticed", func() bool { return !s.aws.Instances()[0].Connected })
	refused(12, "live_instance", "is not gone", "", "--instance", node) // Systems Manager has not, yet
	s.aws.AddTask(arn, emulator.Task{Family: "batch"})
	gone := []string{"--instance", node, "--accept-risk", "live-instance"}
	refused(12, "tasks_running", "1 task", "--force --accept-risk running-tasks", gone...)

	s.around = ordinary
	before := s.everything(t)
	s.may("ssm:DeregisterManagedInstance")
	if d := s.leave(t, true, append(gone, "--dry-run", "--force", "--accept-risk", "running-tasks")...); d.RC != 4 || d.Error.Code != "access_denied" {
		t.Errorf("a dry run without the right: %+v", d)
	}
	s.may("nothing:Else")
	plan := s.leave(t, true, append(gone, "--dry-run", "--detailed-exitcode", "--force", "--accept-risk", "running-tasks")...)
	if plan.RC != 11 || len(plan.Steps) != 3 || !strings.Contains(plan.Steps[0].Detail, "last ping") || !strings.Contains(plan.Steps[0].Detail, "IP address") {
		t.Errorf("%+v", plan)
	}
	d := s.leave(t, true, append(gone, "--force", "--accept-risk", "running-tasks")...)
	if d.RC != 0 || !d.Changed || d.Result.Verified != "aws" || len(s.left()) > 0 || d.Result.ContainerInstanceARN != arn || len(d.Result.Removed) != 2 {
		t.Fatalf("%+v\nAWS has %q", d, s.left())
	}
	for _, id := range []string{node, arn} {
		if again := s.leave(t, true, "--instance", id); again.RC != 0 || again.Changed || !strings.HasPrefix(again.Msg, "not registered") {
			t.Errorf("and again %s: %+v", id, again)
		}
	}
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("this host was touched: %v", diff)
	}
}

// ordinary makes whoever runs the command an ordinary user.
func ordinary(h host.Host) host.Host {
	h.Self.EUID = 1000
	return h
}

// A node with instances in several clusters is taken out of one after the other; the last takes the node along.
func TestDeregisterAMachineInTwoClusters(t *testing.T) {
	t.Parallel()
	s, first, _ := on(t)
	node := first.Result.ManagedInstanceID
	s.aws.AddCluster("second")
	if err := s.machine.units.Stop(t.Context(), "ecs.service"); err != nil {
		t.Fatal(err)
	}
	s.remove(t, stateDB)
	s.write(t, "etc/ecs/ecs.config", strings.Replace(s.read(t, "etc/ecs/ecs.config"), "ECS_CLUSTER="+cluster, "ECS_CLUSTER=second", 1))
	if err := s.machine.units.Start(t.Context(), "ecs.service"); err != nil {
		t.Fatal(err)
	}
	until(t, "a second instance", func() bool { return len(s.aws.Instances()) == 2 })
	s.machine.units.stopAll()
	until(t, "ECS has noticed", func() bool {
		return !slices.ContainsFunc(s.aws.Instances(), func(i emulator.Instance) bool { return i.Connected })
	})
	risk := []string{"--accept-risk", "live-instance"}
	s.refusesToLeave(t, true, 2, "usage", "2 clusters: rehearsal, second", "--cluster", append(risk, "--instance", node)...)
	d := s.leave(t, true, append(risk, "--instance", node, "--cluster", "second")...)
	if d.RC != 0 || len(s.aws.Nodes()) != 1 || len(d.Result.Kept) != 1 || !strings.Contains(d.Result.Kept[0], "further container instances") {
		t.Fatalf("%+v", d)
	}
	d = s.leave(t, true, append(risk, "--instance", node)...)
	if d.RC != 0 || len(s.left()) > 0 {
		t.Fatalf("%+v\nAWS has %q", d, s.left())
	}
}

// A copy that has the same identity and is connected, too, would lose its node with this one.
func TestDeregisterWithATwinConnected(t *testing.T) {
	t.Parallel()
	s, first, _ := on(t)
	twin := s.aws.AddTwin(cluster, first.Result.ManagedInstanceID)
	d := s.refusesToLeave(t, true, 12, "fingerprint_mismatch", "2 agents are connected", "--local-only")
	if !strings.Contains(d.Error.Evidence, twin) {
		t.Errorf("the evidence is %q", d.Error.Evidence)
	}
	if d := s.leave(t, false, "--local-only"); d.RC != 0 {
		t.Errorf("%+v", d)
	}
	s.atRest(t)
}

// On a terminal the cluster's name is to be typed, when it is known what would go and before anything does.
func TestDeregisterAsks(t *testing.T) {
	t.Parallel()
	s, first, _ := on(t)
	s.json = false
	ask := func(answer string, flags ...string) (rc int, said string) {
		t.Helper()
		var out, errs bytes.Buffer
		s.base.Streams.Out, s.base.Streams.Err = &out, &errs
		s.base.Streams.InTTY, s.base.Streams.ErrTTY = true, true
		c, _ := s.play(t.Context(), line{args: append([]string{"deregister"}, flags...), operator: true, types: answer}, cli.RehearseRequest{})
		s.base.Streams.InTTY, s.base.Streams.ErrTTY = false, false
		return c.RC, errs.String() + out.String()
	}
	before, had := s.everything(t), s.left()
	for _, answer := range []string{"yes\n", "\n", "y", "Rehearsal\n"} {
		if rc, said := ask(answer); rc != 12 || !strings.Contains(said, "not confirmed") {
			t.Errorf("%q: exit status %d\n%s", answer, rc, said)
		}
	}
	if diff := differs(before, s.everything(t)); len(diff) > 0 || !slices.Equal(had, s.left()) {
		t.Errorf("changed: %v, AWS has %q", diff, s.left())
	}
	rc, said := ask(cluster + "\n")
	if rc != 0 || len(s.left()) > 0 {
		t.Errorf("exit status %d\n%s", rc, said)
	}
	for _, want := range []string{"container instance " + first.Result.ContainerInstanceARN, "managed node " + first.Result.ManagedInstanceID, "(" + cluster + "): "} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if rc, said := ask("\n"); rc != 0 || strings.Contains(said, "To go on") {
		t.Errorf("with nothing to do it asks: %d\n%s", rc, said)
	}
}

// What only root may read stays out of everything that is written or told.
func TestDeregisterKeepsSecrets(t *testing.T) {
	t.Parallel()
	s, _, _ := on(t)
	var secrets []string
	for _, word := range strings.Fields(s.read(t, "root/.aws/credentials")) {
		if len(word) > 24 && !strings.HasPrefix(word, "aws_") {
			secrets = append(secrets, word)
		}
	}
	secrets = append(secrets, s.operator.Secret.Reveal())
	if len(secrets) < 3 {
		t.Fatalf("found only %d secrets", len(secrets))
	}
	c, err := s.play(t.Context(), line{args: []string{"deregister", "--yes", "-v"}, operator: true}, cli.RehearseRequest{})
	if err != nil {
		t.Fatal(err)
	}
	all := string(c.Document)
	for _, dir := range []string{"var/lib/anywhere", "var/log/anywhere"} {
		err := filepath.WalkDir(filepath.Join(s.machine.root, dir), func(at string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(at)
			all += string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, secret := range secrets {
		if strings.Contains(all, secret) {
			t.Errorf("secret %d of %d is told or left behind", i+1, len(secrets))
		}
	}
}

// Systems Manager has forgotten the node, and no operator is here: the SSM agent's own log says so, and ECS's half goes by
// the node's credentials, which live on for a while.
func TestDeregisterANodeThatIsForgotten(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	s.aws.DeregisterNode(first.Result.ManagedInstanceID)
	const runtime = "var/lib/amazon/ssm/runtimeconfig/identity_config.json"
	if err := s.machine.units.Stop(t.Context(), "amazon-ssm-agent.service"); err != nil {
		t.Fatal(err)
	}
	was := s.read(t, runtime) // an agent that thinks its credentials have expired asks for others
	s.write(t, runtime, strings.NewReplacer(`"CredentialsExpiresAt":"20`, `"CredentialsExpiresAt":"19`, `"CredentialsRetrievedAt":"20`, `"CredentialsRetrievedAt":"19`).Replace(was))
	if err := s.machine.units.Start(t.Context(), "amazon-ssm-agent.service"); err != nil {
		t.Fatal(err)
	}
	until(t, "the agent hears of it", func() bool {
		return strings.Contains(s.read(t, "var/log/amazon/ssm/amazon-ssm-agent.log"), "InvalidInstanceId")
	})
	d := s.leave(t, false)
	if d.RC != 0 || s.aws.Instances()[0].Status != "INACTIVE" || !slices.ContainsFunc(d.Warnings, func(w string) bool { return strings.Contains(w, "taken at its word") }) {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("%v", diff)
	}
}

// AWS was told, the run was killed, and the network is gone: the host's half needs none, and only the call that is left is
// owed.
func TestDeregisterGoesOnWithoutAWS(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	gone := func() bool { return s.aws.Instances()[0].Status == "INACTIVE" }
	if !s.perish(t, line{args: []string{"deregister", "--yes"}, operator: true}, &mortal{when: gone}) || len(s.aws.Nodes()) != 1 {
		t.Fatalf("the kill was not between the two: AWS has %q", s.left())
	}
	d := s.leave(t, false, "--local-only")
	if d.RC != 0 || !d.Changed {
		t.Fatalf("%+v", d)
	}
	s.atRest(t)
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("%v", diff)
	}
	call := "aws ssm deregister-managed-instance --region eu-west-1 --instance-id " + first.Result.ManagedInstanceID
	if !slices.Contains(d.Result.Owed, call) || len(d.Result.Owed) > 2 {
		t.Errorf("owed %q", d.Result.Owed)
	}
}

// Credentials behind a link: what it leads to loses the agent's keys, and neither goes.
func TestDeregisterAndALinkToCredentials(t *testing.T) {
	t.Parallel()
	s := empty(t)
	s.write(t, "srv/credentials", "")
	if err := os.MkdirAll(filepath.Join(s.machine.root, "root/.aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../srv/credentials", filepath.Join(s.machine.root, "root/.aws/credentials")); err != nil {
		t.Fatal(err)
	}
	s.settled(t)
	if s.leave(t, true).RC != 0 {
		t.Fatal("it failed")
	}
	if text, err := os.ReadFile(filepath.Join(s.machine.root, "srv/credentials")); err != nil || len(text) > 0 && strings.Contains(string(text), "ASIA") {
		t.Errorf("%q, %v", text, err)
	}
}

// --purge leaves our log, and copies of what was somebody's.
func TestDeregisterPurges(t *testing.T) {
	t.Parallel()
	purge := []string{"--purge", "--accept-risk", "purge-data"}
	s, _, _ := on(t)
	d := s.leave(t, true, purge...)
	if d.RC != 0 || !slices.Contains(d.Result.Removed, "/var/lib/anywhere") || !slices.Contains(d.Result.Removed, "/var/log/ecs") ||
		!slices.Contains(d.Result.Removed, "/root/.aws/credentials") || len(d.Result.Kept) > 0 {
		t.Fatalf("%+v", d)
	}
	for _, gone := range []string{"var/lib/anywhere", "var/lib/ecs", "var/lib/amazon", "etc/ecs", "etc/amazon", "var/log/ecs", "var/log/amazon", "root/.aws"} {
		if _, err := os.Lstat(filepath.Join(s.machine.root, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	if again := s.leave(t, true, purge...); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
	s.write(t, "var/lib/anywhere/packages/old.deb", "") // a kill came before anywhere's own went
	if d := s.leave(t, true, purge...); d.RC != 0 || !d.Changed || !strings.Contains(d.Msg, "was not registered") {
		t.Errorf("anywhere's own alone: %+v", d)
	}

	const mine = "[ops]\naws_access_key_id     = AKIAMINE000000000001\naws_secret_access_key = mine\n\n"
	s.write(t, "root/.aws/credentials", mine)
	s.settled(t)
	d = s.leave(t, true, purge...)
	copies := s.backups(t)
	if d.RC != 0 || len(copies) != 1 || s.read(t, "var/lib/anywhere/backup/"+copies[0]) != mine || s.read(t, "root/.aws/credentials") != mine {
		t.Fatalf("%+v\n%q", d, copies)
	}
	if !slices.ContainsFunc(d.Result.Kept, func(k string) bool { return strings.HasPrefix(k, "/var/lib/anywhere/backup/"+copies[0]) }) {
		t.Errorf("kept %q", d.Result.Kept)
	}
}

// AWS goes away between its two halves: what is done is kept, and there are two ways on.
func TestDeregisterLosesAWSHalfWay(t *testing.T) {
	t.Parallel()
	s, first, before := on(t)
	s.way = halfWay{}
	d := s.leave(t, true)
	s.way = nil
	if !slices.Contains(d.Error.Kept, "the deregistration of container instance "+first.Result.ContainerInstanceARN) {
		t.Errorf("kept %q", d.Error.Kept)
	}
	if d.RC != 8 || d.Error.Code != "network" || len(d.Error.Kept) == 0 || !strings.Contains(d.Error.Remedy, "same command again") ||
		!strings.Contains(d.Error.Remedy, "--local-only") || !d.Changed || s.aws.Instances()[0].Status != "INACTIVE" {
		t.Fatalf("%+v", d)
	}
	if r := s.run(t, line{args: []string{"rollback"}}); r.RC != 12 {
		t.Errorf("it was rolled back: %+v", r)
	}
	s.refuses(t, plain, 12, "operation_unfinished", "deregister was begun", "anywhere deregister")
	d = s.leave(t, false, "--local-only")
	if d.RC != 0 || len(d.Result.Owed) != 1 || !strings.Contains(d.Result.Owed[0], "ssm deregister-managed-instance") {
		t.Fatalf("%+v", d)
	}
	if !slices.Contains(d.Result.Removed, "container instance "+first.Result.ContainerInstanceARN) {
		t.Errorf("what an earlier run has removed is missing: %q", d.Result.Removed)
	}
	s.atRest(t)
	if diff := differs(before, s.everything(t)); len(diff) > 0 {
		t.Errorf("%v", diff)
	}
}

// halfWay is a way to AWS on which no call about a real node gets through that would deregister it.
type halfWay struct{}

func (halfWay) Do(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "DeregisterManagedInstance") {
		text, err := io.ReadAll(r.Body)
		if err != nil || !strings.Contains(string(text), "mi-00000000000000000") {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EHOSTUNREACH}
		}
		r.Body = io.NopCloser(bytes.NewReader(text))
	}
	return http.DefaultClient.Do(r)
}
