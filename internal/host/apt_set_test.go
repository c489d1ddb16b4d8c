package host

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// scripted is a package manager of answers: the first whose words are all among a command's arguments is given. What was
// asked is kept.
type scripted struct {
	answers []answer
	ran     []string
	waited  []string
}

type answer struct {
	words  string
	result Result
	then   func()
}

func (s *scripted) Run(_ context.Context, cmd Cmd) (Result, error) {
	line := filepath.Base(cmd.Path) + " " + strings.Join(cmd.Args, " ")
	s.ran = append(s.ran, line)
	for _, a := range s.answers {
		if !slices.ContainsFunc(strings.Fields(a.words), func(word string) bool { return !strings.Contains(line, word) }) {
			if a.then != nil {
				a.then()
			}
			return a.result, nil
		}
	}
	return Result{}, nil
}

func (s *scripted) Wait(_ context.Context, child Child) error {
	s.waited = append(s.waited, strings.Join(child.Argv, " "))
	return nil
}

const simulation = `Reading package lists...
The following NEW packages will be installed:
  containerd.io docker-ce
Inst libip6tc2 (1.8.9-2 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst libc6 [2.36-9] (2.36-9+deb12u1 Debian:12 [amd64]) []
Inst containerd.io (1.7.22-1 Docker CE:bookworm [amd64])
Inst docker-ce (5:27.3.1-1~debian.12~bookworm Docker CE:bookworm [amd64])
Conf libip6tc2 (1.8.9-2 Debian:12.15/oldstable [amd64])
`

var dockerSet = PackageSet{
	Names: []string{"docker-ce", "containerd.io"}, Dir: "/var/lib/anywhere/apt", Source: "deb [signed-by=/k] https://example.com bookworm stable",
}

func newApt(t *testing.T, s *scripted) (*Dpkg, string) {
	t.Helper()
	files, root := newDir(t)
	put(t, filepath.Join(root, dpkgStatus), strings.Replace(statusFile, "half-configured", "installed", 1))
	return NewDpkg(files, files, s), root
}

// Everything that is fetched lies below the set's folder; the host's own sources count beside the set's.
func TestFetchASet(t *testing.T) {
	s := &scripted{answers: []answer{{words: "--simulate", result: Result{Output: simulation}}}}
	d, root := newApt(t, s)
	put(t, filepath.Join(root, AptSources), "deb http://deb.debian.org/debian bookworm main\n")
	planned, err := d.Fetch(t.Context(), dockerSet)
	want := []PlannedPackage{
		{Name: "libip6tc2", Version: "1.8.9-2"}, {Name: "libc6", Before: "2.36-9", Version: "2.36-9+deb12u1"},
		{Name: "containerd.io", Version: "1.7.22-1"}, {Name: "docker-ce", Version: "5:27.3.1-1~debian.12~bookworm"},
	}
	if diff := cmp.Diff(want, planned); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	var did []string
	for _, line := range s.ran {
		for _, word := range []string{"update", "--simulate", "--download-only"} {
			if strings.Contains(line, word) {
				did = append(did, word)
			}
		}
		if !strings.Contains(line, "Debug::NoLocking=true") || !strings.Contains(line, "-c="+filepath.Join(root, dockerSet.Dir, "apt.conf")) {
			t.Errorf("it locks, or has not our configuration: %s", line)
		}
	}
	if !slices.Equal(did, []string{"update", "--simulate", "--download-only"}) || len(s.waited) != len(s.ran) {
		t.Errorf("it did %q, and waited %d times for what an earlier run may have left", did, len(s.waited))
	}
	config, err := os.ReadFile(filepath.Join(root, dockerSet.Dir, "apt.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`Dir::State::Lists "` + filepath.Join(root, dockerSet.Dir) + `/lists/";`, `Dir::Cache::Archives "`, `#clear APT::Update;`,
		`APT::Get::AllowUnauthenticated "false";`, `Acquire::AllowInsecureRepositories "false";`, `APT::Sandbox::User "root";`,
	} {
		if !strings.Contains(string(config), line) {
			t.Errorf("the configuration lacks %s", line)
		}
	}
	sources, err := os.ReadFile(filepath.Join(root, dockerSet.Dir, "sources.list"))
	if got := string(sources); err != nil || got != "deb http://deb.debian.org/debian bookworm main\n"+dockerSet.Source+"\n" {
		t.Errorf("the sources are %q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(root, dockerSet.Dir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}

// A run that goes on asks no server for lists while what it has is enough.
func TestFetchAgain(t *testing.T) {
	s := &scripted{answers: []answer{{words: "--simulate", result: Result{Output: simulation}}}}
	d, _ := newApt(t, s)
	set := dockerSet
	set.Again = true
	if _, err := d.Fetch(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	for _, line := range s.ran {
		if strings.HasSuffix(line, " update") {
			t.Errorf("it asked for lists: %q", s.ran)
		}
	}
}

// What apt says decides what kind of failure it is. The lists come first: a package that is not there is missing for a
// reason.
func TestWhatAptComplainsOf(t *testing.T) {
	const unknown = "E: Unable to locate package docker-ce\n"
	for _, test := range []struct {
		name, update, simulate, download string
		code                             failure.Code
		message                          string
	}{
		{name: "another key", update: "W: GPG error: https://example.com bookworm InRelease: The following signatures couldn't be verified " +
			"because the public key is not available: NO_PUBKEY 7EA0A9C3F273FCD8\nE: The repository 'https://example.com' is not signed.\n",
			simulate: unknown, code: failure.ArtifactKey, message: "is not signed"},
		{name: "a bad signature", update: "W: GPG error: https://example.com bookworm InRelease: The following signatures were invalid: BADSIG 7EA0\n",
			simulate: unknown, code: failure.ArtifactCorrupt, message: "BADSIG"},
		{name: "no signature", update: "E: The repository 'https://example.com bookworm Release' is not signed.\n",
			simulate: unknown, code: failure.ArtifactUnsigned},
		{name: "no name server", update: "W: Failed to fetch https://example.com/InRelease  Temporary failure resolving 'example.com'\n",
			simulate: unknown, code: failure.Network, message: "Temporary failure resolving"},
		{name: "an authority that is not trusted", update: "W: Failed to fetch https://example.com/InRelease  Certificate verification failed\n",
			simulate: unknown, code: failure.TLSUntrusted},
		{name: "no such release", update: "E: The repository 'https://example.com forky Release' does not have a Release file.\n",
			simulate: unknown, code: failure.ArtifactMissing},
		{name: "lists are there, the package is not", simulate: unknown, code: failure.ArtifactMissing, message: "docker-ce"},
		{name: "somebody else's repository is out of order", update: "E: The repository 'https://ppa.example.com' is not signed.\n",
			simulate: "ok"},
		{name: "a package is not what was signed", simulate: "ok",
			download: "E: Failed to fetch https://example.com/docker-ce.deb  Hash Sum mismatch\n", code: failure.ArtifactCorrupt},
		{name: "a package is gone", simulate: "ok",
			download: "E: Failed to fetch https://example.com/docker-ce.deb  404  Not Found [IP: 1.2.3.4 443]\n", code: failure.ArtifactMissing},
		{name: "a full disk", simulate: "ok", download: "E: You don't have enough free space in /var/lib/anywhere/apt/archives/.\n",
			code: failure.DiskFull},
		{name: "something would have to go", simulate: "The following packages will be REMOVED:\n  containerd runc*\n0 upgraded\n" +
			"E: Packages need to be removed but remove is disabled.\n", code: failure.PackageInstall, message: "containerd, runc"},
		{name: "packages that do not go together", simulate: "The following packages have unmet dependencies:\n docker-ce : Depends: " +
			"libc6 (>= 2.38) but 2.36-9 is to be installed\nE: Unable to correct problems, you have held broken packages.\n",
			code: failure.PackageInstall, message: "Depends: libc6 (>= 2.38)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := func(said string) Result {
				if said == "" || said == "ok" {
					return Result{Output: simulation}
				}
				return Result{ExitCode: 100, Output: said}
			}
			s := &scripted{answers: []answer{
				{words: "--simulate", result: result(test.simulate)},
				{words: "--download-only", result: result(test.download)},
				{words: "update", result: result(test.update)},
			}}
			d, _ := newApt(t, s)
			_, err := d.Fetch(t.Context(), dockerSet)
			if test.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if f := failure.Of(err); !failure.Is(err, test.code) || !strings.Contains(f.Message, test.message) || f.Evidence == "" {
				t.Errorf("%v (%s), evidence %q", err, f.Code, f.Evidence)
			}
		})
	}
}

func TestInstallASet(t *testing.T) {
	s := &scripted{}
	d, root := newApt(t, s)
	if err := d.InstallSet(t.Context(), dockerSet); err != nil {
		t.Fatal(err)
	}
	if len(s.ran) != 1 || strings.Contains(s.ran[0], "NoLocking") || !strings.HasSuffix(s.ran[0], " install docker-ce containerd.io") {
		t.Errorf("it ran %q", s.ran)
	}
	for _, option := range []string{"--yes", "--no-remove", "DPkg::Options::=--force-confold", "DPkg::Options::=--force-confdef"} {
		if !strings.Contains(s.ran[0], option) {
			t.Errorf("without %s: %s", option, s.ran[0])
		}
	}
	if len(s.waited) != 0 {
		t.Errorf("children that change something are the engine's to wait for: %q", s.waited)
	}

	put(t, filepath.Join(root, dpkgUpdates, "0001"), "") // apt would refuse to begin
	s.ran = nil
	if err := d.InstallSet(t.Context(), dockerSet); err != nil || len(s.ran) != 2 || !strings.Contains(s.ran[0], "--configure --pending") {
		t.Errorf("interrupted, it ran %q, %v", s.ran, err)
	}

	s.answers = []answer{{words: "apt-get", result: Result{ExitCode: 100, Output: "dpkg: error processing package docker-ce (--configure):\n" +
		" installed docker-ce package post-installation script subprocess returned error exit status 1\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n"}}}
	err := d.InstallSet(t.Context(), dockerSet)
	if !failure.Is(err, failure.PackageInstall) || !strings.Contains(failure.Of(err).Message, "post-installation script") {
		t.Errorf("a script that fails: %v", err)
	}
	s.answers = []answer{{words: "apt-get", result: Result{ExitCode: 100,
		Output: "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 (unattended-upgr)\n"}}}
	if err := d.InstallSet(t.Context(), dockerSet); !failure.Is(err, failure.PackagesLocked) || !strings.Contains(err.Error(), "812") {
		t.Errorf("a lock that is held: %v", err)
	}
}

const purgeStatus = `Package: docker-ce
Status: install ok installed
Architecture: amd64
Version: 5:27
Conffiles:
 /etc/default/docker 0cc175b9c0f1b6a831c399e269772661
 /etc/init.d/docker 92eb5ffee6ae2fec3ad71c777531578f

Package: iptables
Status: install ok unpacked
Architecture: amd64
Version: 1.8.9-2

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36
`

// A purge takes what was installed, with its configuration where nobody changed that, and apt's notes of it.
func TestPurge(t *testing.T) {
	s := &scripted{}
	d, root := newApt(t, s)
	status := filepath.Join(root, dpkgStatus)
	put(t, status, purgeStatus)
	put(t, filepath.Join(root, "/etc/default/docker"), "a")        // as the package brought it
	put(t, filepath.Join(root, "/etc/init.d/docker"), "something") // and not
	put(t, filepath.Join(root, aptAutomatics), "Package: iptables\nArchitecture: amd64\nAuto-Installed: 1\n\n"+
		"Package: libjq1\nArchitecture: amd64\nAuto-Installed: 1\n\n")
	s.answers = []answer{
		{words: "--no-act"},
		{words: "--remove", then: func() {
			put(t, status, strings.ReplaceAll(strings.ReplaceAll(purgeStatus, "install ok unpacked", "deinstall ok config-files"),
				"install ok installed\nArchitecture: amd64\nVersion: 5:27", "deinstall ok config-files\nArchitecture: amd64\nVersion: 5:27"))
		}},
		{words: "--purge", then: func() {
			for _, name := range []string{"/etc/default/docker", "/etc/init.d/docker"} {
				if err := os.Remove(filepath.Join(root, name)); err != nil {
					t.Error(err)
				}
			}
		}},
	}
	between := ""
	err := d.Purge(t.Context(), PackageSet{Names: []string{"docker-ce", "iptables", "never-there"}}, func() error {
		between = s.ran[len(s.ran)-1]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	last := s.ran[len(s.ran)-1]
	if !strings.HasSuffix(between, "--remove docker-ce iptables") || !strings.HasSuffix(last, "--purge docker-ce iptables") {
		t.Errorf("between was called after %q, and the end is %q", between, last)
	}
	if _, err := os.Stat(filepath.Join(root, "/etc/default/docker")); !os.IsNotExist(err) {
		t.Errorf("a file that nobody changed is still there: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(root, "/etc/init.d/docker")); err != nil || string(text) != "something" {
		t.Errorf("a changed file is %q, %v", text, err)
	}
	if text, err := os.ReadFile(filepath.Join(root, aptAutomatics)); err != nil ||
		string(text) != "Package: libjq1\nArchitecture: amd64\nAuto-Installed: 1\n\n" {
		t.Errorf("apt's list is %q, %v", text, err)
	}

	// Once more there is nothing left to do, and the last automatic package takes the list with it.
	put(t, status, "")
	s.ran = nil
	if err := d.Purge(t.Context(), PackageSet{Names: []string{"docker-ce", "libjq1"}}, func() error { return nil }); err != nil || len(s.ran) != 0 {
		t.Errorf("it ran %q, %v", s.ran, err)
	}
	if _, err := os.Stat(filepath.Join(root, aptAutomatics)); !os.IsNotExist(err) {
		t.Errorf("an empty list stays: %v", err)
	}
}

// What was killed while it was unpacked is unpacked again first, so that removing it leaves nothing.
func TestPurgeOfWhatIsHalfUnpacked(t *testing.T) {
	s := &scripted{}
	d, root := newApt(t, s)
	put(t, filepath.Join(root, dpkgStatus), strings.Replace(purgeStatus, "install ok installed", "install reinstreq half-installed", 1))
	file := filepath.Join(root, dockerSet.Dir, "archives/docker-ce_5%3a27_amd64.deb")
	for _, name := range []string{file, strings.Replace(file, "ce_", "ce-cli_", 1)} {
		put(t, name, "")
	}
	set := PackageSet{Names: []string{"docker-ce", "iptables"}, Dir: dockerSet.Dir}
	if err := d.Purge(t.Context(), set, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(s.ran) != 3 || !strings.HasSuffix(s.ran[0], "--unpack "+file) || !strings.HasSuffix(s.ran[2], "--force-remove-reinstreq --remove docker-ce iptables") {
		t.Errorf("it ran %q", s.ran)
	}
	s.ran = nil
	set.Dir = "/nowhere" // without the file it goes as it is
	if err := d.Purge(t.Context(), set, func() error { return nil }); err != nil || len(s.ran) != 2 {
		t.Errorf("it ran %q, %v", s.ran, err)
	}
}
