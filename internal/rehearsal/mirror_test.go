package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// mirrored is what the tests look at in mirror's document.
type mirrored struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Result          lifecycle.MirrorResult
	Error           struct{ Code, Message, Remedy string }
}

func (s *stage) mirror(t *testing.T, flags ...string) mirrored {
	t.Helper()
	l := line{args: []string{"mirror", "/srv/mirror", "--region", region, "--arch", goarch(), "--os-family", "deb"}, extra: true}
	c, err := s.play(context.Background(), l, cli.RehearseRequest{Args: flags})
	var d mirrored
	if broken := json.Unmarshal(c.Document, &d); broken != nil {
		t.Fatalf("%v, %v: %s", err, broken, c.Document)
	}
	return d
}

// bucketsAsked counts the objects that AWS was asked for so far.
func (s *stage) bucketsAsked() (n int) {
	for _, r := range s.aws.Requests() {
		if strings.HasPrefix(r.Operation, "s3:") {
			n++
		}
	}
	return n
}

// A site without a way to AWS's buckets: a mirror is filled, and a host is registered and upgraded from its folder alone.
func TestMirrorThenRegisterAndUpgradeFromIt(t *testing.T) {
	t.Parallel()
	s := empty(t)
	if d := s.mirror(t, "--dry-run", "--detailed-exitcode"); d.RC != 11 || d.Changed || len(d.Result.Packages) != 2 || d.Result.Packages[0].Status != "planned" {
		t.Fatalf("a dry run: %+v", d)
	}
	if _, err := os.Lstat(filepath.Join(s.machine.root, "srv/mirror")); err == nil {
		t.Error("a dry run has made the folder")
	}
	d := s.mirror(t)
	if d.RC != 0 || !d.Changed || d.Result.Downloaded == 0 || d.Result.Packages[0].Status != "downloaded" || !d.Result.Packages[1].Latest ||
		d.Result.Packages[0].SHA256 == "" || d.Result.Packages[0].SignedAt == "" {
		t.Fatalf("%+v", d)
	}
	packages := func() (n int) { // requests for whole packages, not for what latest means
		for _, r := range s.aws.Requests() {
			if strings.HasPrefix(r.Operation, "s3:") && strings.HasSuffix(r.Operation, ".deb") && !strings.Contains(r.Operation, "-latest") {
				n++
			}
		}
		return n
	}
	before := packages()
	if again := s.mirror(t); again.RC != 0 || again.Changed || again.Result.Downloaded != 0 || again.Result.Packages[0].Status != "present" ||
		!strings.HasPrefix(again.Msg, "nothing to do") {
		t.Errorf("the second run: %+v", again)
	}
	if after := packages(); after != before {
		t.Errorf("the second run asked for %d packages", after-before)
	}

	asked := s.bucketsAsked()
	s.anotherToken()
	joined := s.run(t, withToken, "--artifacts", "/srv/mirror")
	if joined.RC != 0 || joined.Result.Verified != "local" {
		t.Fatalf("register from the mirror: %+v", joined)
	}
	if n := s.bucketsAsked() - asked; n != 0 {
		t.Errorf("AWS's buckets were asked %d times", n)
	}

	s.publish(t, nextSSM, nextECS, "")
	if d := s.mirror(t, "--ecs-agent-version", ecsVersion+",latest"); d.RC != 0 || len(d.Result.Packages) != 3 || d.Result.Packages[1].Latest || !d.Result.Packages[2].Latest {
		t.Fatalf("newer versions: %+v", d)
	}
	asked = s.bucketsAsked()
	l := line{args: []string{"upgrade", "--watch-time", "200ms"}, extra: true}
	c, err := s.play(context.Background(), l, cli.RehearseRequest{Args: []string{"--artifacts", "/srv/mirror"}})
	var u upgraded
	if broken := json.Unmarshal(c.Document, &u); broken != nil {
		t.Fatalf("%v, %v", err, broken)
	}
	if u.RC != 0 || !u.Changed || u.Result.ECSAgent.Installed != nextECS || u.Result.SSMAgent.Installed != nextSSM+"-1" {
		t.Fatalf("upgrade from the mirror: %+v", u)
	}
	if n := s.bucketsAsked() - asked; n != 0 {
		t.Errorf("AWS's buckets were asked %d times by upgrade", n)
	}
}

// What a mirror lacks is named all at once, by mirror, register and upgrade, before anything is touched.
func TestAllMissingPiecesAtOnce(t *testing.T) {
	t.Parallel()
	s := empty(t)
	d := s.mirror(t, "--ecs-agent-version", "9.9.9", "--ssm-agent-version", "9.9.9.9,latest")
	if d.RC != 5 || d.Error.Code != string(failure.ArtifactMissing) || d.Changed ||
		!strings.Contains(d.Error.Message, "9.9.9.9/debian") || !strings.Contains(d.Error.Message, "amazon-ecs-init-9.9.9-1") {
		t.Errorf("%+v", d)
	}
	if _, err := os.Lstat(filepath.Join(s.machine.root, "srv/mirror")); err == nil {
		t.Error("a mirror that could not be filled was begun")
	}
	if err := os.MkdirAll(filepath.Join(s.machine.root, "srv/mirror"), 0o755); err != nil {
		t.Fatal(err)
	}

	s.anotherToken()
	tree, _ := s.tree()
	for _, c := range []struct {
		name  string
		flags []string
		names []string
	}{
		{"an empty folder", nil, []string{"latest/VERSION", "amazon-ecs-init-latest"}},
		{"with versions", []string{"--ecs-agent-version", "9.9.9", "--ssm-agent-version", "9.9.9.9"},
			[]string{"amazon-ecs-init-9.9.9-1", ".deb.asc", "9.9.9.9/debian", ".deb.sig"}},
	} {
		r := s.run(t, withToken, append([]string{"--artifacts", "/srv/mirror"}, c.flags...)...)
		if r.RC != 5 || r.Error.Code != string(failure.ArtifactMissing) || r.Changed {
			t.Fatalf("%s: %+v", c.name, r)
		}
		for _, part := range c.names {
			if !strings.Contains(r.Error.Message, part) {
				t.Errorf("%s: %q does not name %s", c.name, r.Error.Message, part)
			}
		}
		if !strings.Contains(r.Error.Remedy, "anywhere mirror DIR --region "+region) {
			t.Errorf("%s: %s", c.name, r.Error.Remedy)
		}
		after, _ := s.tree()
		if left := withoutLogs(differences(tree, after)); len(left) > 0 {
			t.Errorf("%s: the host was touched: %v", c.name, left)
		}
	}
	if r := s.run(t, withToken); r.RC != 0 { // from AWS
		t.Fatalf("%+v", r)
	}
	l := line{args: []string{"upgrade"}, extra: true, unchanged: true}
	c, _ := s.play(context.Background(), l, cli.RehearseRequest{Args: []string{"--artifacts", "/srv/mirror", "--ecs-agent-version", "9.9.9"}})
	var u upgraded
	if err := json.Unmarshal(c.Document, &u); err != nil {
		t.Fatal(err)
	}
	if u.RC != 5 || u.Changed || !strings.Contains(u.Error.Message, "latest/VERSION") || !strings.Contains(u.Error.Message, "amazon-ecs-init-9.9.9-1") {
		t.Errorf("upgrade: %+v", u)
	}
}

// The agent's image that is gone from the cache would be downloaded from us-east-1 at the next start: register puts it back,
// from the mirror.
func TestTheImageThatIsGoneIsPutBack(t *testing.T) {
	t.Parallel()
	s, _ := joined(t)
	if d := s.mirror(t); d.RC != 0 {
		t.Fatalf("%+v", d)
	}
	cache := filepath.Join(s.machine.root, "var/cache/ecs")
	link := filepath.Join(cache, "ecs-agent.tar")
	whole := s.read(t, "var/cache/ecs/ecs-agent-v"+ecsVersion+".tar")
	if err := os.RemoveAll(filepath.Join(s.machine.root, "var/lib/anywhere/packages")); err != nil {
		t.Fatal(err)
	}
	image := func() string { // which a register that put it back has made a file of its own
		path, err := filepath.EvalSymlinks(link)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, spoil := range map[string]func() error{
		"the image is gone":   func() error { return os.Remove(image()) },
		"the image is empty":  func() error { return os.Truncate(image(), 0) },
		"the folder is empty": func() error { return errors.Join(os.RemoveAll(cache), os.Mkdir(cache, 0o755)) },
		"the link leads outside": func() error {
			return errors.Join(os.Remove(link), os.Symlink("/srv/gone", link))
		},
		"only the state is missing": func() error { return os.Remove(filepath.Join(cache, "state")) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(name, err)
		}
		asked := s.bucketsAsked()
		d := s.run(t, line{args: []string{"register"}}, "--artifacts", "/srv/mirror")
		if d.RC != 0 || !d.Changed {
			t.Fatalf("%s: %+v", name, d)
		}
		if got, err := s.machine.disk.ReadFile("/var/cache/ecs/ecs-agent.tar"); err != nil || string(got) != whole {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(whole))
		}
		if state := s.read(t, "var/cache/ecs/state"); strings.TrimSpace(state) == "" {
			t.Errorf("%s: the state is empty", name)
		}
		if n := s.bucketsAsked() - asked; n != 0 {
			t.Errorf("%s: AWS's buckets were asked %d times", name, n)
		}
		if again := s.run(t, line{args: []string{"register"}}); again.RC != 0 || again.Changed {
			t.Errorf("%s: the second run: %+v", name, again)
		}
	}
}
