package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// newRPMHost is a host with rpm and the programs of a front end.
func newRPMHost(t *testing.T, s *scripted, programs ...string) (*Rpm, string) {
	t.Helper()
	files, root := newDir(t)
	for _, program := range append(programs, rpmProgram) {
		put(t, filepath.Join(root, program), "")
	}
	return NewRpm(files, files, s), root
}

const (
	inNew  = "@agent\t2.0-1\n"
	inOld  = "@agent\t1.0-1\n"
	absent = "package agent is not installed\n"
)

func output(text string) Result { return Result{Output: text} }
func refusal(text string) Result {
	return Result{ExitCode: 1, Output: text}
}

func TestRPMPackage(t *testing.T) {
	for _, test := range []struct {
		name, note string
		answer     Result
		want       Package
		code       failure.Code
	}{
		{"absent", "", refusal(absent), Package{}, ""},
		{"there", "", output(inNew), Package{Version: "2.0-1", Installed: true}, ""},
		{"warned of", "", output("warning: something\n" + inNew), Package{Version: "2.0-1", Installed: true}, ""},
		{"two of them, after a killed upgrade", "", output(inOld + inNew), Package{Version: "2.0-1", Partial: true}, ""},
		{"killed in its script", `{"doing":"install","file":"/p.rpm"}`, output(inNew), Package{Version: "2.0-1", Partial: true}, ""},
		{"killed while its files came", `{"doing":"install","file":"/p.rpm"}`, refusal(absent), Package{Partial: true}, ""},
		{"a database that is broken", "", refusal("error: rpmdb: BDB0113 Thread/process 1/2 failed\n"), Package{}, failure.PackagesBroken},
		{"no answer", "", refusal("Killed\n"), Package{}, failure.PackagesBroken},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, root := newRPMHost(t, &scripted{answers: []answer{{words: "rpm -q", result: test.answer}}})
			if test.note != "" {
				put(t, filepath.Join(root, RPMNote("agent")), test.note)
			}
			got, err := r.Package("agent")
			test.want.Name = "agent"
			if !failure.Is(err, test.code) && (err != nil || test.code != "") {
				t.Fatalf("%v; want %q", err, test.code)
			}
			if err == nil && got != test.want {
				t.Errorf("%+v; want %+v", got, test.want)
			}
			state, err := r.State()
			if err != nil || state.Family != "rpm" || state.Interrupted != (test.note != "") {
				t.Errorf("%+v, %v", state, err)
			}
			if test.note != "" && !cmp.Equal(state.Unfinished, []UnfinishedPackage{{"agent", "interrupted in install", true}}) {
				t.Errorf("%+v", state)
			}
		})
	}
}

func TestRPMInstall(t *testing.T) {
	const file = "/packages/agent-2.rpm"
	for _, test := range []struct {
		name   string
		result Result
		after  string // what the database has afterwards
		code   failure.Code
		words  string
		begun  bool // it counts as interrupted
	}{
		{"well", output("RPM should not be used directly\n"), inNew, "", "", false},
		{"lacks what it needs", refusal("error: Failed dependencies:\n\tiptables is needed by agent-2.0-1.x86_64\n\tprocps is needed by agent-2.0-1.x86_64\n"),
			absent, failure.PackageInstall, "iptables; procps", false},
		{"locked", refusal("error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)\n"),
			absent, failure.PackagesLocked, "another process", false},
		{"a script that fails", output("warning: %post(agent-2.0-1.x86_64) scriptlet failed, exit status 1\n"),
			inNew, failure.PackageInstall, "%post(agent-2.0-1.x86_64) scriptlet failed, exit status 1", true},
		{"the old one's script fails", output("warning: %postun(agent-1.0-1.x86_64) scriptlet failed, exit status 1\n"), inNew, "", "", false},
		{"killed", Result{ExitCode: -1}, absent, failure.PackageInstall, "without a word", true},
		{"another version came", output(""), inOld, failure.PackageInstall, "versions 1.0-1", true},
		{"two are there", output(""), inOld + inNew, failure.PackageInstall, "1.0-1, 2.0-1", true},
		{"no room, seen before it begins", refusal("error: installing package agent-2.0-1.x86_64 needs 12MB on the /usr filesystem\n"),
			absent, failure.DiskFull, "", false},
		{"no room, in the words of rpm 6", refusal("\tinstalling package agent-2.0-1.x86_64 needs 212KB more space on the /usr filesystem\n"),
			absent, failure.DiskFull, "", false},
		{"no inodes", refusal("error: installing package agent-2.0-1.x86_64 needs 3 more inodes on the /usr filesystem\n"),
			absent, failure.DiskFull, "", false},
		{"no room", refusal("error: unpacking of archive failed on file /x: cpio: write failed - No space left on device\n"),
			absent, failure.DiskFull, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r *Rpm
			var root string
			s := &scripted{}
			s.answers = []answer{
				{words: "rpm -qp", result: output(inNew)},
				{words: "rpm -U", result: test.result, then: func() {
					if text, err := os.ReadFile(filepath.Join(root, RPMNote("agent"))); err != nil || !strings.Contains(string(text), file) {
						t.Errorf("it is not noted before it begins: %s, %v", text, err)
					}
				}},
				{words: "rpm -q", result: output(test.after)},
			}
			r, root = newRPMHost(t, s, "/usr/bin/dnf")
			err := r.Install(context.Background(), file)
			if test.code == "" && err != nil || test.code != "" && (!failure.Is(err, test.code) || !strings.Contains(err.Error(), test.words)) {
				t.Errorf("%v; want %q with %q", err, test.code, test.words)
			}
			if strings.Contains(test.name, "lacks") && !strings.Contains(failure.Of(err).Remedy, "dnf install iptables procps") {
				t.Errorf("the remedy is %q", failure.Of(err).Remedy)
			}
			_, statErr := os.Stat(filepath.Join(root, rpmWork))
			if gone := errors.Is(statErr, os.ErrNotExist); gone == test.begun {
				t.Errorf("what is noted is gone: %t", gone)
			}
			if !slices.ContainsFunc(s.ran, func(line string) bool {
				return strings.HasPrefix(line, "rpm -U --oldpackage --replacepkgs --nosignature ") && strings.HasSuffix(line, file)
			}) {
				t.Errorf("ran %q", s.ran)
			}
		})
	}
}

// TestRPMAfterAKill goes back, or takes away, what a killed run wrote of another package file: rpm is told of it first, and
// the files that it was writing are removed.
func TestRPMAfterAKill(t *testing.T) {
	for _, back := range []bool{true, false} {
		s := &scripted{}
		r, root := newRPMHost(t, s, "/usr/bin/dnf")
		put(t, filepath.Join(root, RPMNote("agent")), `{"doing":"install","file":"/packages/agent-2.rpm"}`)
		put(t, filepath.Join(root, "/packages/agent-2.rpm"), "")
		for _, name := range []string{"agent;65a1b2c3", "agent;odd", "other;65a1b2c3"} {
			put(t, filepath.Join(root, "/usr/bin", name), "")
		}
		known := false
		s.answers = []answer{
			{words: "rpm -qp FILENAMES", result: output("@/usr/bin/agent\n")},
			{words: "rpm -qp agent-2", result: output(inNew)},
			{words: "rpm -qp agent-1", result: output(inOld)},
			{words: "rpm -i --justdb", then: func() { known = true }},
			{words: "FILEFLAGS", result: output("")},
			{words: "rpm -q", result: output(inOld)},
		}
		var err error
		if back {
			err = r.Install(context.Background(), "/packages/agent-1.rpm")
		} else {
			err = r.Remove(context.Background(), "agent", true)
		}
		if err != nil || !known {
			t.Errorf("back %t: %v; rpm was told of it: %t", back, err, known)
		}
		for name, want := range map[string]bool{"agent;65a1b2c3": false, "agent;odd": true, "other;65a1b2c3": true} {
			if _, err := os.Stat(filepath.Join(root, "/usr/bin", name)); (err == nil) != want {
				t.Errorf("%s is there: %t", name, err == nil)
			}
		}
		if last := s.ran[len(s.ran)-1]; !back && last != "rpm -e --allmatches agent" {
			t.Errorf("ran %q", s.ran)
		}
	}
}

func TestRPMRemoveKeepsWhatSomebodyWrote(t *testing.T) {
	s := &scripted{}
	r, root := newRPMHost(t, s)
	at := func(name string) string { return filepath.Join(root, name) }
	sum := "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" // of "test"
	for name, text := range map[string]string{"/etc/ghost": "mine", "/etc/own": "test", "/etc/changed": "mine", "/var/ghost": "its"} {
		put(t, at(name), text)
	}
	s.answers = []answer{
		{words: "FILEFLAGS", result: output("@64\t\t/etc/ghost\n@17\t" + sum + "\t/etc/own\n@17\t" + sum + "\t/etc/changed\n@64\t\t/var/ghost\n@0\t" + sum + "\t/usr/x\n")},
		{words: "rpm -e", then: func() {
			for _, name := range []string{"/etc/ghost", "/etc/own", "/var/ghost"} {
				_ = os.Remove(at(name))
			}
			_ = os.Rename(at("/etc/changed"), at("/etc/changed.rpmsave"))
		}},
		{words: "rpm -q", result: output(inNew)},
	}
	if err := r.Remove(context.Background(), "agent", false); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"/etc/ghost": true, "/etc/own": false, "/etc/changed": true, "/etc/changed.rpmsave": false, "/var/ghost": false, rpmWork: false,
	} {
		if _, err := os.Stat(at(name)); (err == nil) != want {
			t.Errorf("%s is there: %t", name, err == nil)
		}
	}
	// Killed behind rpm: what was put aside comes back with the next run.
	put(t, at(keptPath("/etc/ghost")), "older")
	put(t, at(RPMNote("agent")), `{"doing":"remove"}`)
	_ = os.Remove(at("/etc/ghost"))
	s.answers = []answer{{words: "rpm -q", result: refusal(absent)}}
	if err := r.Remove(context.Background(), "agent", false); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(at("/etc/ghost")); string(text) != "older" {
		t.Errorf("it is %q, %v", text, err)
	}
}

// TestRPMRemovalTakenBack installs a package anew whose removal was killed: what was put aside is there before rpm begins, for
// it brings files of the same names.
func TestRPMRemovalTakenBack(t *testing.T) {
	s := &scripted{}
	r, root := newRPMHost(t, s)
	at := func(name string) string { return filepath.Join(root, name) }
	put(t, at(keptPath("/etc/ghost")), "mine")
	put(t, at(RPMNote("agent")), `{"doing":"remove"}`)
	s.answers = []answer{
		{words: "rpm -qp", result: output(inNew)},
		{words: "rpm -U", then: func() {
			if text, err := os.ReadFile(at("/etc/ghost")); string(text) != "mine" {
				t.Errorf("rpm begins, and it is %q, %v", text, err)
			}
		}},
		{words: "rpm -q", result: output(inNew)},
	}
	if err := r.Install(context.Background(), "/packages/agent-2.rpm"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(at("/etc/ghost")); string(text) != "mine" {
		t.Errorf("it is %q, %v", text, err)
	}
	if _, err := os.Stat(at(rpmWork)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is left in %s: %v", rpmWork, err)
	}
}

// TestRPMRemoveRefused leaves no mark of a removal that rpm has not begun: the package would count as half-way.
func TestRPMRemoveRefused(t *testing.T) {
	for said, code := range map[string]failure.Code{
		"error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)\n": failure.PackagesLocked,
		"error: Failed dependencies:\n\tagent is needed by (installed) other-1.0-1.x86_64\n":                  failure.PackageInstall,
	} {
		s := &scripted{}
		r, root := newRPMHost(t, s)
		put(t, filepath.Join(root, "/etc/ghost"), "mine")
		s.answers = []answer{
			{words: "FILEFLAGS", result: output("@64\t\t/etc/ghost\n")},
			{words: "rpm -e", result: refusal(said)},
			{words: "rpm -q", result: output(inNew)},
		}
		if err := r.Remove(context.Background(), "agent", true); !failure.Is(err, code) {
			t.Errorf("%v; want %s", err, code)
		}
		if p, err := r.Package("agent"); err != nil || !p.Installed {
			t.Errorf("%q: it counts as %+v, %v", said, p, err)
		}
	}
}

func TestRPMHolds(t *testing.T) {
	const (
		yums, dnfs  = "/etc/yum/pluginconf.d/versionlock.list", "/etc/dnf/plugins/versionlock.list"
		toml, zypps = "/etc/dnf/versionlock.toml", "/etc/zypp/locks"
	)
	for _, test := range []struct {
		program, file, text string
		held                bool
	}{
		{"/usr/bin/yum", yums, "# comment\n0:amazon-ssm-agent-3.3.4108.0-1.*\n", true},
		{"/usr/bin/yum", yums, "0:amazon-ssm-agent-3.3.4108.0-1.x86_64\n", true},
		{"/usr/bin/yum", yums, "amazon-ssm-agent\n", true},
		{"/usr/bin/yum", yums, "!0:amazon-ssm-agent-3.3.4108.0-1.*\n", false},
		{"/usr/bin/yum", yums, "# Added lock on Thu\n0:amazon-ssm-3.3-1.*\n", false},
		{"/usr/bin/dnf", dnfs, "amazon-ssm-agent-0:3.3.4108.0-1.*\n", true},
		{"/usr/bin/dnf", dnfs, "amazon-*\n", true},
		{"/usr/bin/dnf", dnfs, "amazon-ssm-agent\n", true},
		{"/usr/bin/dnf", dnfs, "amazon-ssm-agent.x86_64\n", true},
		{"/usr/bin/dnf", dnfs, "amazon-ssm-agent-*\n", true},
		{"/usr/bin/dnf", dnfs, "amazon-ssm-agent-3.3.4108.0\n", true},
		{"/usr/bin/dnf", dnfs, "!amazon-ssm-agent\n", false},
		{"/usr/bin/dnf", dnfs, "#amazon-ssm-agent\n", false},
		{"/usr/bin/dnf", dnfs, "amazon-ssm\namazon\nssm-agent\n", false},
		{"/usr/bin/dnf", dnfs, "amazon-ssm-agent-tools\namazon-ssm-agent-tools-0:1.0-1.*\n", false},
		{"/usr/bin/dnf5", toml, "version = \"1.0\"\n\n[[packages]]\nname = \"amazon-ssm-agent\"\n", true},
		{"/usr/bin/dnf5", toml, "version = '1.0'\n[[packages]]\nname = 'amazon-ssm-agent' # ours\n", true},
		{"/usr/bin/dnf5", toml, "[[packages]]\nname = \"amazon-ecs-init\"\n", false},
		{"/usr/bin/dnf5", toml, "[[packages]]\nname = \"amazon-*\"\n[[packages.conditions]]\nkey = \"evr\"\ncomparator = \"<\"\nvalue = \"4\"\n", true},
		{"/usr/bin/dnf5", toml, "[[packages]]\nname = \"amazon-ssm-agent\"\ncomment = \"kept\"\n[[packages.conditions]]\n" +
			"key = \"evr\"\ncomparator = \"=\"\nvalue = \"0:3.3.4108.0-1\"\n", true},
		{"/usr/bin/dnf5", toml, "[[packages]]\nname = \"amazon-ssm-agent\"\n[[packages.conditions]]\n" +
			"key = \"evr\"\ncomparator = \"!=\"\nvalue = \"0:3.3.4108.0-1\"\n\n[[packages]]\nname = \"kernel\"\n", false},
		{"/usr/bin/zypper", zypps, "type: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: amazon-ssm-agent\n", true},
		{"/usr/bin/zypper", zypps, "type: package\nmatch_type: glob\nsolvable_name: amazon-ssm*\nversion: 3.3.4108.0\n", true},
		{"/usr/bin/zypper", zypps, "type: package\nmatch_type: substring\nsolvable_name: ssm\n", true},
		{"/usr/bin/zypper", zypps, "type: package\nmatch_type: regex\ncase_sensitive: off\nsolvable_name: ^Amazon-ssm\n", true},
		{"/usr/bin/zypper", zypps, "type: pattern\nmatch_type: glob\nsolvable_name: amazon-ssm-agent\n", false},
		{"/usr/bin/zypper", zypps, "type: package\nsolvable_name: kernel\n\ntype: pattern\nsolvable_name: amazon-ssm-agent\n", false},
	} {
		r, root := newRPMHost(t, &scripted{answers: []answer{{words: "rpm -q", result: output("@amazon-ssm-agent\t3.3.4108.0-1\n")}}}, test.program)
		put(t, filepath.Join(root, test.file), test.text)
		if p, err := r.Package("amazon-ssm-agent"); err != nil || p.Held != test.held {
			t.Errorf("%s with %q: %+v, %v", test.program, test.text, p, err)
		}
	}
}

func TestRPMLockOfAFrontEnd(t *testing.T) {
	for comm, want := range map[string]string{"dnf": "pid 4711 (dnf)", "zypper": "pid 4711 (zypper)", "sshd": "", "": ""} {
		r, root := newRPMHost(t, &scripted{}, "/usr/bin/dnf")
		put(t, filepath.Join(root, "/var/cache/dnf/metadata_lock.pid"), "4711")
		if comm != "" {
			put(t, filepath.Join(root, "/proc/4711/comm"), comm+"\n")
		}
		if state, err := r.State(); err != nil || state.LockedBy != want || state.Manager != "dnf" {
			t.Errorf("%q: %+v, %v", comm, state, err)
		}
	}
}

// Where the database is, macros may say; a macro that is not understood changes nothing.
func TestRPMDatabases(t *testing.T) {
	for _, test := range []struct {
		files map[string]string
		more  []string
	}{
		{nil, nil},
		{map[string]string{"/usr/lib/rpm/macros": "%_dbpath\t\t%{_usr}/lib/sysimage/rpm\n"}, nil},
		{map[string]string{"/usr/lib/rpm/macros": "%_dbpath\t\t%{_var}/lib/rpm\n", "/etc/rpm/macros.db": "%_dbpath /usr/share/rpm\n"},
			[]string{"/usr/share/rpm"}},
		{map[string]string{"/etc/rpm/macros": "%_dbpath /srv/rpm/\n", "/etc/rpm/macros.db": "%_dbpath /usr/share/rpm\n"}, []string{"/srv/rpm"}},
		{map[string]string{"/etc/rpm/macros": "%_dbpath %{getenv:HOME}/.rpmdb\n#%_dbpath /x\n"}, nil},
	} {
		r, root := newRPMHost(t, &scripted{})
		for name, text := range test.files {
			put(t, filepath.Join(root, name), text)
		}
		state, err := r.State()
		if want := slices.Concat([]string{"/var/lib/rpm", "/usr/lib/sysimage/rpm"}, test.more); err != nil || !cmp.Equal(state.Databases, want) {
			t.Errorf("%v: %q, %v; want %q", test.files, state.Databases, err, want)
		}
	}
}

// TestRPMSet fetches with each front end, verifies in a keyring that is not the host's, and installs with rpm.
func TestRPMSet(t *testing.T) {
	for program, words := range map[string]string{
		"/usr/bin/dnf": "--enablerepo=extra --setopt=reposdir=/etc/yum.repos.d,", "/usr/bin/yum": "install --downloadonly agent",
		"/usr/bin/dnf5": "--setopt=keepcache=1", "/usr/bin/zypper": "--non-interactive --pkg-cache-dir --download-only agent",
	} {
		for said, code := range map[string]failure.Code{
			"x.rpm: digests signatures OK\n": "", "x.rpm: rsa sha1 (md5) pgp md5 OK\n": "", "x.rpm: digests OK\n": failure.ArtifactUnsigned,
			"x.rpm: digests SIGNATURES NOT OK\n": failure.ArtifactKey, "x.rpm: DIGESTS signatures NOT OK\n": failure.ArtifactCorrupt,
		} {
			var root string
			s := &scripted{}
			check := output(said)
			if strings.Contains(said, "NOT OK") {
				check = refusal(said)
			}
			s.answers = []answer{
				{words: "rpmkeys --import"}, {words: "rpmkeys --checksig", result: check},
				{words: "agent " + words, then: func() { put(t, filepath.Join(root, "/set/cache/anywhere-docker-1/packages/agent-2.rpm"), "") }},
				{words: "rpm -qp", result: output(inNew)},
				{words: "rpm -U", then: func() { s.answers[5].result = output(inNew) }}, {words: "rpm -q", result: output(inOld)},
			}
			var r *Rpm
			r, root = newRPMHost(t, s, program)
			put(t, filepath.Join(root, "/set/cache/old/agent-1.rpm"), "of an earlier run")
			set := PackageSet{Names: []string{"agent"}, Dir: "/set", Source: "[anywhere-docker]\n", Key: "/set/key", Enable: "extra"}
			planned, err := r.Fetch(context.Background(), set)
			if code != "" {
				if !failure.Is(err, code) {
					t.Errorf("%s, %s: %v", program, said, err)
				}
				continue
			}
			if err != nil || !cmp.Equal(planned, []PlannedPackage{{"agent", "1.0-1", "2.0-1"}}) {
				t.Errorf("%s: %+v, %v; ran %q", program, planned, err, s.ran)
			}
			if err := r.InstallSet(context.Background(), set); err != nil || !strings.HasPrefix(s.ran[len(s.ran)-2], "rpm -U") {
				t.Errorf("%s: %v; ran %q", program, err, s.ran)
			}
			for _, line := range s.ran {
				if strings.HasPrefix(line, "rpmkeys") && !strings.Contains(line, "--define=_dbpath "+root) {
					t.Errorf("the host's own keyring is used: %s", line)
				}
			}
		}
	}
}

// What came from the host's own repositories is held to the host's keys where the front end has not done so itself.
func TestRPMSetOfTheHostsOwn(t *testing.T) {
	for _, test := range []struct {
		program, says string
		exit          int
		code          failure.Code
		asked         bool
	}{
		{"/usr/bin/dnf5", "digests signatures OK", 0, "", true},
		{"/usr/bin/dnf5", "digests OK", 0, failure.ArtifactUnsigned, true},
		{"/usr/bin/dnf5", "digests SIGNATURES NOT OK", 1, failure.ArtifactKey, true},
		{"/usr/bin/dnf5", "DIGESTS SIGNATURES NOT OK", 1, failure.ArtifactCorrupt, true},
		{"/usr/bin/yum", "rsa sha1 (md5) pgp md5 OK", 0, "", true},
		{"/usr/bin/yum", "sha1 md5 OK", 0, failure.ArtifactUnsigned, true},
		{"/usr/bin/yum", "rsa sha1 (MD5) PGP md5 NOT OK (MISSING KEYS: PGP#1)", 1, failure.ArtifactKey, true},
		{"/usr/bin/dnf", "digests signatures OK", 0, "", true},
		{"/usr/bin/dnf", "digests SIGNATURES NOT OK", 1, failure.ArtifactKey, true},
		{"/usr/bin/zypper", "", 0, "", false},
	} {
		var root string
		s := &scripted{}
		s.answers = []answer{
			{words: "rpmkeys --checksig", result: Result{Output: "agent-2.rpm: " + test.says + "\n", ExitCode: test.exit}},
			{words: "agent install", then: func() { put(t, filepath.Join(root, "/set/cache/fedora-1/packages/agent-2.rpm"), "") }},
			{words: "rpm -qp", result: output(inNew)}, {words: "rpm -q", result: output(inOld)},
		}
		var r *Rpm
		r, root = newRPMHost(t, s, test.program)
		_, err := r.Fetch(t.Context(), PackageSet{Names: []string{"agent"}, Dir: "/set"})
		asked := slices.ContainsFunc(s.ran, func(line string) bool { return strings.HasPrefix(line, "rpmkeys") })
		if asked != test.asked {
			t.Errorf("%s: ran %q", test.program, s.ran)
		}
		if test.code == "" && err != nil || test.code != "" && (!failure.Is(err, test.code) ||
			test.code != failure.ArtifactCorrupt && !strings.Contains(failure.Of(err).Remedy, "rpm --import")) {
			t.Errorf("%s, %s: %v", test.program, test.says, err)
		}
	}
}

// A key that the host's list of repositories names, and nobody has imported, counts as it does for the front end; it is not
// imported for that.
func TestRPMSetUnderANamedKey(t *testing.T) {
	for _, test := range []struct {
		list string
		keys []string // that are asked for
		own  string   // the set's
	}{
		{"[docker]\ngpgkey=https://example.com/key\n", []string{"/etc/pki/PINNED"}, "/etc/pki/PINNED"},
		{"[base]\ngpgkey=file:///etc/pki/KEY-9\n", []string{"/etc/pki/KEY-9"}, ""},
		{"[base]\ngpgkey = file:///etc/pki/KEY-$releasever file:///etc/pki/OTHER\n", []string{"/etc/pki/KEY-8", "/etc/pki/KEY-9", "/etc/pki/OTHER"}, ""},
		{"[base]\ngpgkey=https://example.com/key,\n  file:///etc/pki/OTHER\nenabled=1\n", []string{"/etc/pki/OTHER"}, ""},
		{"[base]\ngpgkey=https://example.com/key\n", nil, ""},
		{"[base]\n#gpgkey=file:///etc/pki/KEY-9\n", nil, ""},
	} {
		var root string
		s := &scripted{}
		s.answers = []answer{
			{words: "rpmkeys _dbpath --checksig", result: output("agent-2.rpm: digests signatures OK\n")},
			{words: "rpmkeys --checksig", result: refusal("agent-2.rpm: digests SIGNATURES NOT OK\n")},
			{words: "agent install", then: func() { put(t, filepath.Join(root, "/set/cache/fedora-1/packages/agent-2.rpm"), "") }},
			{words: "rpm -qp", result: output(inNew)}, {words: "rpm -q", result: output(inOld)},
		}
		var r *Rpm
		r, root = newRPMHost(t, s, "/usr/bin/dnf")
		for _, name := range []string{"KEY-8", "KEY-9", "OTHER"} {
			put(t, filepath.Join(root, "/etc/pki", name), "")
		}
		put(t, filepath.Join(root, "/etc/yum.repos.d/base.repo"), test.list)
		_, err := r.Fetch(t.Context(), PackageSet{Names: []string{"agent"}, Dir: "/set", Key: test.own})
		if (err == nil) != (test.keys != nil) || err != nil && !failure.Is(err, failure.ArtifactKey) {
			t.Errorf("%q: %v", test.list, err)
		}
		var keys []string
		for _, line := range s.ran {
			if _, key, found := strings.Cut(line, "--import "); found {
				keys = append(keys, strings.TrimPrefix(key, root))
				if !strings.Contains(line, "--define=_dbpath "+root+"/set/keys") {
					t.Errorf("imported into the host's own keyring: %s", line)
				}
			}
		}
		if !cmp.Equal(keys, test.keys) {
			t.Errorf("%q: asked for %q; want %q", test.list, keys, test.keys)
		}
		if !strings.Contains(s.ran[0], " --setopt=*.gpgcheck=0 ") {
			t.Errorf("dnf looks at signatures itself, and imports keys: %s", s.ran[0])
		}
	}
}

// A host that has no way to its repositories is told how Docker comes to it all the same.
func TestRPMSetThatCannotBeHad(t *testing.T) {
	for program, look := range map[string]string{"/usr/bin/dnf": "dnf makecache", "/usr/bin/zypper": "zypper refresh"} {
		r, _ := newRPMHost(t, &scripted{answers: []answer{{words: "docker", result: refusal("Error: Failed to download metadata for repo 'base': " +
			"Cannot download repomd.xml: Curl error (6): Couldn't resolve host name\n")}}}, program)
		_, err := r.Fetch(t.Context(), PackageSet{Names: []string{"docker"}, Dir: "/set"})
		remedy := failure.Of(err).Remedy
		if !failure.Is(err, failure.Network) || !strings.HasPrefix(remedy, look) || !strings.Contains(remedy, "--docker-source none") {
			t.Errorf("%v; remedy %q", err, remedy)
		}
	}
}

// A front end that has left packages in the folder of their repository, and brought none, is told from one that has.
func TestRPMSetThatDidNotCome(t *testing.T) {
	for source, want := range map[string]string{"": "install Docker yourself", "[anywhere-docker]\nbaseurl=file:/srv/mirror/docker\n": "serve the folder"} {
		r, _ := newRPMHost(t, &scripted{answers: []answer{{words: "rpm -q", result: refusal("package docker-ce is not installed\n")}}}, "/usr/bin/yum")
		_, err := r.Fetch(t.Context(), PackageSet{Names: []string{"docker-ce"}, Dir: "/set", Source: source})
		if !failure.Is(err, failure.ArtifactMissing) || !strings.HasPrefix(failure.Of(err).Remedy, want) {
			t.Errorf("%q: %v; remedy %q", source, err, failure.Of(err).Remedy)
		}
	}
}

func TestFrontComplaint(t *testing.T) {
	for said, code := range map[string]failure.Code{
		"Error: Unable to find a match: docker\n": failure.ArtifactMissing, "No package docker available.\nError: Nothing to do\n": failure.ArtifactMissing,
		"'docker' not found in package names.\n": failure.ArtifactMissing, "Public key for x.rpm is not installed\n": failure.ArtifactKey,
		"Curl error (6): Couldn't resolve host name\n": failure.Network, "System management is locked by the application with pid 5 (zypper).\n": failure.PackagesLocked,
		"Curl error (60): SSL certificate problem\n": failure.TLSUntrusted, "Error: x\n": failure.PackageInstall, "": failure.PackageInstall,
	} {
		if err := frontComplaint("dnf", refusal(said), "download docker"); !failure.Is(err, code) {
			t.Errorf("%q: %v is not %s", said, err, code)
		}
	}
	for said, want := range map[string]string{
		"Target initialization failed:\nFailed to cache rpm database (1).\nHistory:\n": "zypper: Failed to cache rpm database (1).",
		"Error: Failed to download metadata for repo 'base'\n":                         "zypper: Failed to download metadata for repo 'base'",
		"Download (curl) error for 'http://x':\nError code: Connection failed\n":       "zypper: Connection failed",
		"Problem: nothing provides x\n":                                                "zypper: nothing provides x",
		"Error: \n Problem: y\n":                                                       "zypper: it ended without a word",
	} {
		if err := frontComplaint("zypper", refusal(said), "download docker"); !strings.HasSuffix(failure.Of(err).Message, want) {
			t.Errorf("%q: %v; want %q", said, err, want)
		}
	}
}

// What dnf5 5.4.6 printed when it gave up, without its progress: the message names the cause and no heading.
func TestComplaintOfDnf5(t *testing.T) {
	const loaded = "Updating and loading repositories:\n D                                      100% | 157.2 KiB/s |   2.4 KiB |  00m00s\nRepositories loaded.\n"
	for _, test := range []struct {
		said, words string
		code        failure.Code
	}{
		{loaded + "Failed to resolve the transaction:\nNo match for argument: docker-ce\nYou can try to add to command line:\n" +
			"  --skip-unavailable to skip unavailable packages\n", "dnf5: No match for argument: docker-ce", failure.ArtifactMissing},
		{" A                                      ???% |   0.0   B/s |  -1.0   B |  ?     \n>>> Curl error (6): Could not resolve hostname for " +
			"http://h/own/repodata/repomd.xml [Could not resolve host: h] - http://h/own/repodata/repomd.xml\n>>> Usable URL not found\n" + loaded +
			"Failed to resolve the transaction:\nNo match for argument: docker-ce\n", "dnf5: Curl error (6): Could not resolve hostname", failure.Network},
		{loaded + "[2/2] agent-0:2.0-1.x86_64              100% |  40.8 KiB/s |   2.1 KiB |  00m00s\n>>> Downloading successful, but checksum doesn't " +
			"match. Calculated: e6(sha256)  Expected: f6(sha256)  - file:///r/agent.rpm\n>>> No more mirrors to try - All mirrors were already tried " +
			"without success\nFailed to download packages\n Librepo error: Cannot download agent.rpm: All mirrors were tried\n",
			"dnf5: Downloading successful, but checksum doesn't match", failure.ArtifactCorrupt},
		{loaded + "Failed to download packages\n Librepo error: Cannot download agent.rpm: All mirrors were tried\n",
			"dnf5: Librepo error: Cannot download agent.rpm", failure.ArtifactDownload},
		{loaded + "Failed to resolve the transaction:\nProblem: conflicting requests\n  - nothing provides lib needed by agent-1.0-1.x86_64 from own\n",
			"dnf5: nothing provides lib needed by agent", failure.PackageInstall},
		{loaded + "Failed to resolve the transaction:\nArgument 'docker-ce' matches only packages excluded by versionlock.\n",
			"dnf5: Argument 'docker-ce' matches only packages excluded by versionlock", failure.PackageInstall},
	} {
		if err := frontComplaint("dnf5", refusal(test.said), "download docker-ce"); !failure.Is(err, test.code) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%v; want %s with %q", err, test.code, test.words)
		}
	}
}
