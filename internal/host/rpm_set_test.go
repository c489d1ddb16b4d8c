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

// rpmbase is rpm with a database: it knows which packages are there, and package files by their names.
type rpmbase struct {
	there  map[string]string
	files  map[string][]string // what a package brings
	ran    []string
	result Result // of the next change
	during func() // while it changes
	needed string // what refuses a removal
}

func (b *rpmbase) answer(args []string) Result {
	line := strings.Join(args, " ")
	b.ran = append(b.ran, line)
	last := args[len(args)-1]
	of := func(file string) (name, version string) {
		name, version, _ = strings.Cut(strings.TrimSuffix(filepath.Base(file), ".rpm"), "_")
		return name, version
	}
	var out string
	switch {
	case strings.HasPrefix(line, "-qp") && strings.Contains(line, "FILENAMES"):
		name, _ := of(last)
		for _, file := range b.files[name] {
			out += "@" + file + "\n"
		}
	case strings.HasPrefix(line, "-qp"):
		name, version := of(last)
		return output("@" + name + "\t" + version + "\n")
	case strings.HasPrefix(line, "-q") && strings.Contains(line, "FILEFLAGS"):
		for _, file := range b.files[last] {
			if strings.HasPrefix(file, "/etc/") {
				out += "@17\t" + strings.Repeat("0", 64) + "\t" + file + "\n"
			}
		}
	case strings.HasPrefix(line, "-q"):
		if b.there[last] == "" {
			return refusal("package " + last + " is not installed\n")
		}
		return output("@" + last + "\t" + b.there[last] + "\n")
	case strings.HasPrefix(line, "-e") && b.needed != "":
		return refusal(b.needed)
	default:
		if b.during != nil {
			b.during()
		}
		if b.result.ExitCode != 0 {
			return b.result
		}
		for _, arg := range args {
			name, version := of(arg)
			switch {
			case strings.HasSuffix(arg, ".rpm"):
				b.there[name] = version
			case args[0] == "-e":
				delete(b.there, arg)
			}
		}
		return b.result
	}
	return output(out)
}

// newRPMBase is a host whose front end has brought two packages; one of them replaces another that was there.
func newRPMBase(t *testing.T) (b *rpmbase, r *Rpm, at func(string) string) {
	t.Helper()
	b = &rpmbase{there: map[string]string{"lib": "1-1"}, files: map[string][]string{"docker": {"/usr/bin/dockerd", "/etc/docker.conf"}, "lib": {"/usr/lib/lib.so"}}}
	files, root := newDir(t)
	at = func(name string) string { return filepath.Join(root, name) }
	put(t, at(rpmProgram), "")
	put(t, at("/usr/bin/dnf"), "")
	put(t, at("/set/cache/repo/docker_2-1.rpm"), "")
	put(t, at("/set/cache/repo/lib_2-1.rpm"), "")
	return b, NewRpm(files, files, answering(b.answer)), at
}

var killedSet = PackageSet{Names: []string{"docker"}, Dir: "/set"}

func (b *rpmbase) noted(t *testing.T, r *Rpm) (names []string) {
	t.Helper()
	state, err := r.State()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range state.Unfinished {
		names = append(names, p.Name+" "+p.State)
	}
	return names
}

// A set is noted before rpm begins with it, and the note goes when it is done.
func TestRPMSetIsNoted(t *testing.T) {
	b, r, at := newRPMBase(t)
	var noted []string
	b.during = func() { noted = b.noted(t, r) }
	if err := r.InstallSet(t.Context(), killedSet); err != nil {
		t.Fatal(err)
	}
	if want := []string{"docker interrupted in install", "lib interrupted in install"}; !cmp.Equal(noted, want) {
		t.Errorf("noted %q; want %q", noted, want)
	}
	if _, err := os.Stat(at(rpmWork)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the notes are left: %v", err)
	}
	for _, test := range []struct {
		said  string
		noted bool
	}{
		{"error: can't create transaction lock on /var/lib/rpm/.rpm.lock\n", false},
		{"error: Failed dependencies:\n\tx is needed by docker-2-1\n", false},
		{"error: unpacking of archive failed on file /usr/bin/dockerd: cpio: write failed\n", true},
	} {
		b.result = refusal(test.said)
		if err := r.InstallSet(t.Context(), killedSet); err == nil {
			t.Errorf("%s: no error", test.said)
		}
		if left := b.noted(t, r); (len(left) > 0) != test.noted {
			t.Errorf("%s: noted is %q", test.said, left)
		}
	}
	// A script that fails is for the daemon to show; rpm does not mind it.
	b.result = output("warning: %post(docker-2-1.x86_64) scriptlet failed, exit status 1\n")
	if err := r.InstallSet(t.Context(), killedSet); err != nil {
		t.Error(err)
	}
}

// killedInSet is a host on which rpm was killed while it unpacked the set: nothing of it is in rpm's database.
func killedInSet(t *testing.T) (b *rpmbase, r *Rpm, at func(string) string) {
	t.Helper()
	b, r, at = newRPMBase(t)
	b.result = Result{ExitCode: -1}
	if err := r.InstallSet(t.Context(), killedSet); !failure.Is(err, failure.PackageInstall) {
		t.Fatalf("%v; want it to have failed", err)
	}
	b.result, b.ran = Result{}, nil
	put(t, at("/usr/bin/dockerd;65a1b2c3"), "half")
	put(t, at("/usr/lib/lib.so;65a1b2c3"), "half")
	if p, err := r.Package("docker"); err != nil || !p.Partial || p.Installed {
		t.Fatalf("it counts as %+v, %v", p, err)
	}
	return b, r, at
}

func gone(t *testing.T, at func(string) string, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(at(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}

// The same again installs it, and leaves nothing of the killed run.
func TestRPMSetGoesOn(t *testing.T) {
	b, r, at := killedInSet(t)
	if err := r.InstallSet(t.Context(), killedSet); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"docker": "2-1", "lib": "2-1"}; !cmp.Equal(b.there, want) {
		t.Errorf("there is %v", b.there)
	}
	gone(t, at, rpmWork, "/usr/bin/dockerd;65a1b2c3", "/usr/lib/lib.so;65a1b2c3")
}

// Taken back, rpm removes the files that it had written and did not know of; what was there before, and may be half of each
// version, is made whole. Configuration that is somebody's stays.
func TestRPMSetIsTakenBack(t *testing.T) {
	b, r, at := killedInSet(t)
	put(t, at("/etc/docker.conf"), "somebody's")
	known := ""
	b.during = func() {
		if last := b.ran[len(b.ran)-1]; strings.HasPrefix(last, "-e") {
			known = b.there["docker"]
			_ = os.Rename(at("/etc/docker.conf"), at("/etc/docker.conf.rpmsave"))
		}
	}
	called := false
	if err := r.Purge(t.Context(), killedSet, func() error { called = true; return nil }); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"lib": "2-1"}; !cmp.Equal(b.there, want) || known != "2-1" || !called {
		t.Errorf("there is %v; rpm knew of version %q when it removed it; called %t; ran %q", b.there, known, called, b.ran)
	}
	gone(t, at, rpmWork, "/usr/bin/dockerd;65a1b2c3", "/usr/lib/lib.so;65a1b2c3", "/etc/docker.conf.rpmsave")
	if text, err := os.ReadFile(at("/etc/docker.conf")); string(text) != "somebody's" {
		t.Errorf("the configuration is %q, %v", text, err)
	}
}

// A removal that is killed is noted, and the same again finishes it.
func TestRPMPurgeKilled(t *testing.T) {
	for _, installing := range []bool{false, true} {
		b, r, at := newRPMBase(t)
		if installing {
			b, r, at = killedInSet(t)
		} else if err := r.InstallSet(t.Context(), killedSet); err != nil {
			t.Fatal(err)
		}
		b.during = func() {
			if strings.HasPrefix(b.ran[len(b.ran)-1], "-e") {
				b.result = Result{ExitCode: -1}
			}
		}
		nothing := func() error { return nil }
		if err := r.Purge(t.Context(), killedSet, nothing); err == nil {
			t.Fatal("no error")
		}
		if noted := b.noted(t, r); len(noted) != 1 {
			t.Errorf("noted %q", noted)
		}
		b.during, b.result = nil, Result{}
		if err := r.Purge(t.Context(), killedSet, nothing); err != nil {
			t.Fatal(err)
		}
		if b.there["docker"] != "" {
			t.Errorf("there is %v", b.there)
		}
		gone(t, at, rpmWork)
	}
}

// What another package needs stays as it is, and nothing is noted of it.
func TestRPMPurgeOfWhatIsNeeded(t *testing.T) {
	b, r, at := newRPMBase(t)
	if err := r.InstallSet(t.Context(), killedSet); err != nil {
		t.Fatal(err)
	}
	b.needed = "error: Failed dependencies:\n\tdocker is needed by (installed) other-1-1.x86_64\n"
	err := r.Purge(t.Context(), killedSet, func() error { t.Error("called"); return nil })
	if !errors.Is(err, ErrNeeded) || b.there["docker"] == "" {
		t.Errorf("%v; there is %v", err, b.there)
	}
	if p, err := r.Package("docker"); err != nil || !p.Installed {
		t.Errorf("it counts as %+v, %v", p, err)
	}
	gone(t, at, rpmWork)
}

// answering is a runner whose children are a function.
type answering func(args []string) Result

func (a answering) Run(_ context.Context, cmd Cmd) (Result, error) { return a(cmd.Args), nil }

func (answering) Wait(context.Context, Child) error { return nil }
