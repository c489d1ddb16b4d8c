package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// anywhere is a command line with JSON output.
func anywhere(args ...string) lab.Cmd {
	return lab.Cmd{Args: append(append([]string{"anywhere"}, args...), "-o", "json")}
}

func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	s := waiting(t)
	h := s.host(lab.Host{})
	token := s.token(1)
	first := s.begin(h, s.register(token))
	release := first.at(ssmWaits)

	holder := h.MustShell("pgrep -x anywhere")
	res := h.Run(s.register(token))
	if d := s.read(res); d.RC != 13 || d.Error.Code != "locked" || !strings.Contains(d.Error.Message, "pid "+holder+",") || d.Changed {
		t.Errorf("while pid %s is at work: %v", holder, res)
	}
	second := s.begin(h, s.register("", "--lock-timeout", "3m"))
	time.Sleep(300 * time.Millisecond)
	if second.over() {
		t.Errorf("--lock-timeout did not wait: %v", second.res)
	}
	stop := releaseAll(h)
	defer stop()
	release()
	if d := s.read(first.end()); d.RC != 0 || !d.Changed {
		t.Fatalf("the first run: %+v %+v", d, d.Error)
	}
	if d := s.read(second.end()); d.RC != 0 || d.Changed {
		t.Errorf("the run that waited: %+v %+v", d, d.Error)
	}
	if left := s.left(token); left != 0 {
		t.Errorf("%d slots are left of 1", left)
	}
}

func TestUnfinishedOperation(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	token := s.token(1)
	before := stateOf(h)
	kill := func() {
		t.Helper()
		r := s.begin(h, s.register(token))
		if !r.until(line(`"is":"step"`, "ssm.package")) {
			t.Fatalf("it ended: %v", r.end())
		}
		r.killed()
		await(t, "dpkg is through", func() bool { return len(h.Pids("dpkg")) == 0 })
	}
	show := func() string {
		t.Helper()
		res := h.Run(anywhere("operation", "show"))
		if res.Exit != 0 {
			t.Fatal(res)
		}
		return res.Stdout
	}
	if out := show(); !strings.Contains(out, `"unfinished":false`) {
		t.Errorf("operation show on a fresh host: %s", out)
	}

	kill()
	if out := show(); !strings.Contains(out, `"unfinished":true`) || !strings.Contains(out, `"undoable":true`) {
		t.Errorf("operation show: %s", out)
	}
	half := h.Tree(treeOf...)
	other := s.register("", "--cluster", "other", "--region", region)
	for _, cmd := range []lab.Cmd{other, {Args: append(slices.Clone(other.Args), "--dry-run")}} {
		res := h.Run(cmd)
		if d := s.read(res); d.RC != 12 || d.Error.Code != "operation_unfinished" || !strings.Contains(d.Error.Remedy, "anywhere rollback") ||
			!strings.Contains(d.Error.Remedy, "same anywhere register") {
			t.Errorf("another cluster, with %v: %v", cmd.Args, res)
		}
	}
	if diff := lab.Diff(half, h.Tree(treeOf...)); len(diff) > 0 {
		t.Errorf("a refused command changed %v", diff)
	}
	if res := h.Run(anywhere("rollback")); res.Exit != 0 {
		t.Errorf("rollback: %v", res)
	}
	s.mustBeAsBefore(h, before, "after rollback")
	res := h.Run(anywhere("rollback"))
	if d := s.read(res); d.RC != 12 || d.Error.Code != "nothing_to_roll_back" {
		t.Errorf("a second rollback: %v", res)
	}

	kill()
	half = h.Tree("/etc", "/usr", "/var/lib/amazon", "/var/lib/ecs")
	if res := h.Run(anywhere("operation", "abandon")); res.Exit != 0 {
		t.Errorf("operation abandon: %v", res)
	}
	if diff := lab.Diff(half, h.Tree("/etc", "/usr", "/var/lib/amazon", "/var/lib/ecs")); len(diff) > 0 || h.Exists(openJournal) {
		t.Errorf("operation abandon changed %v, or left the journal", diff)
	}
	s.proceed(h, s.register(token))

	// An unreadable journal is never "none", and there is a way out.
	h.WriteFile(openJournal, []byte("rubbish\n"), 0o600)
	res = h.Run(s.register(""))
	if d := s.read(res); d.RC != 12 || d.Error.Code != "journal_unreadable" {
		t.Errorf("with an unreadable journal: %v", res)
	}
	if res := h.Run(anywhere("operation", "abandon")); res.Exit != 0 {
		t.Errorf("abandon an unreadable journal: %v", res)
	}
	if d := s.mustRegister(h, s.register("")); d.Changed {
		t.Errorf("it was registered already: %+v", d)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	token := s.token(1)
	look := append(slices.Clone(treeOf), "/var/log/anywhere", "/run/lock")
	before := h.Tree(look...)
	for _, c := range []struct {
		exit int
		args []string
	}{{0, []string{"--dry-run"}}, {11, []string{"--dry-run", "--detailed-exitcode"}}} {
		res := h.Run(s.register(token, c.args...))
		d := s.read(res)
		if d.RC != c.exit || d.Failed || d.Changed || len(d.Steps) < 8 {
			t.Errorf("%v: %v", c.args, res)
		}
		for _, step := range d.Steps {
			// Docker is there. What only an agent could have left behind, a fresh host does not have.
			so := []string{"docker.package", "ecs.state", "record"}
			if step.Status != "planned" && !slices.Contains(so, step.ID) {
				t.Errorf("%v: %+v", c.args, step)
			}
		}
	}
	if diff := lab.Diff(before, h.Tree(look...)); len(diff) > 0 {
		t.Errorf("a dry run changed %v", diff)
	}
	if n := len(s.aws.Requests()); n > 0 {
		t.Errorf("a dry run made %d requests: %+v", n, s.aws.Requests())
	}

	// The same without a token, and on a registered host. Meanwhile the canary: who has the code in its arguments?
	if d := s.read(h.Run(s.register("", "--dry-run", "--region", region, "--cluster", cluster))); d.RC != 0 {
		t.Errorf("without a token: %+v %+v", d, d.Error)
	}
	parsed, err := control.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	r := s.begin(h, s.register(token))
	seen := exposed(r, parsed.Code.Reveal(), token)
	if d := s.read(r.end()); d.RC != 0 {
		t.Fatalf("register: %+v %+v", d, d.Error)
	}
	if len(seen) == 0 {
		t.Error("nobody saw amazon-ssm-agent -register: this looks at the wrong place")
	}
	for _, process := range seen {
		if !strings.HasPrefix(process, "/usr/bin/amazon-ssm-agent -register ") {
			t.Errorf("a secret is in the arguments or the environment of %s", process)
		}
	}
	s.mustKeepSecrets(h, token)
	for _, args := range [][]string{{"--dry-run"}, {"--dry-run", "--detailed-exitcode"}} {
		d := s.read(h.Run(s.register("", args...)))
		if d.RC != 0 || d.Changed {
			t.Errorf("%v on a registered host: %+v %+v", args, d, d.Error)
		}
		for _, step := range d.Steps {
			if step.Status != "unchanged" {
				t.Errorf("%v on a registered host: %+v", args, step)
			}
		}
	}

	// After a failure, too: the slot is used up.
	other := s.host(lab.Host{Name: "other"})
	state := stateOf(other)
	res := other.Run(s.register(token))
	if d := s.read(res); d.RC != 7 || d.Error.Code != "activation_used_up" || !d.Error.RolledBack {
		t.Errorf("with a used up activation: %v", res)
	}
	s.mustBeAsBefore(other, state, "after a refused registration")
	s.mustKeepSecrets(other, token)
}

// exposed lists the processes that have a secret in their arguments or environment, while a command runs.
func exposed(r *running, secrets ...string) (found []string) {
	has := func(text []byte) bool {
		return slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(string(text), s) })
	}
	for !r.over() {
		files, _ := filepath.Glob("/proc/[0-9]*")
		for _, dir := range files {
			argv, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
			line := strings.ReplaceAll(string(argv), "\x00", " ")
			if (has(argv) || has(environ)) && !slices.Contains(found, line) {
				found = append(found, line)
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return found
}
