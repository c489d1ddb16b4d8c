package host

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// fakeRunner answers with what it was given, and remembers what was run.
type fakeRunner struct {
	result Result
	ran    []Cmd
}

func (r *fakeRunner) Run(_ context.Context, cmd Cmd) (Result, error) {
	r.ran = append(r.ran, cmd)
	return r.result, nil
}

func (r *fakeRunner) Wait(context.Context, Child) error { return nil }

const statusFile = `Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134
Description: add and remove users
 Package: no
Conffiles:
 /etc/deluser.conf 773fb95e98a27947de4a95abb3d3f2a2
 /etc/old name.conf 0123456789abcdef0123456789abcdef obsolete

Package: amazon-ecs-init
Status: hold ok installed
Architecture: amd64
Version: 1.105.1-1

Package: half
Status: install ok half-configured
Version: 2

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36

Package: libc6
Status: deinstall ok config-files
Architecture: i386
Version: 2.30
`

func newDpkg(t *testing.T, status string) (*Dpkg, string) {
	t.Helper()
	d, root := newDir(t)
	put(t, filepath.Join(root, dpkgStatus), status)
	return NewDpkg(d, d, &fakeRunner{}), root
}

func TestPackage(t *testing.T) {
	d, _ := newDpkg(t, statusFile)
	for _, want := range []Package{
		{Name: "adduser", Version: "3.134", Installed: true},
		{Name: "amazon-ecs-init", Version: "1.105.1-1", Installed: true, Held: true},
		{Name: "half", Version: "2", Partial: true},
		{Name: "gone", Residual: true},
		{Name: "libc6", Version: "2.36", Installed: true},
		{Name: "no"},
		{Name: "add"},
	} {
		if got, err := d.Package(want.Name); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	r, err := d.record("adduser")
	if err != nil || len(r.Conffiles) != 2 || r.Conffiles[1] != (conffile{"/etc/old name.conf", "0123456789abcdef0123456789abcdef", true}) {
		t.Errorf("configuration files %+v, %v", r.Conffiles, err)
	}
}

func TestUpdatesOfAnInterruptedRunCount(t *testing.T) {
	d, root := newDpkg(t, statusFile)
	put(t, filepath.Join(root, dpkgUpdates, "0000"), "Package: adduser\nStatus: install ok unpacked\nArchitecture: all\nVersion: 4\n")
	put(t, filepath.Join(root, dpkgUpdates, "tmp.i"), "Package: libc6\nStatus: install ok unpacked\nArchitecture: amd64\n")
	if p, err := d.Package("adduser"); err != nil || p != (Package{Name: "adduser", Version: "4", Partial: true}) {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err := d.Package("libc6"); err != nil || !p.Installed {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestStateTellsAnInterruptedRun(t *testing.T) {
	healthy := strings.Replace(statusFile, "half-configured", "installed", 1)
	interrupted := func(left ...UnfinishedPackage) ManagerState {
		return ManagerState{Family: "deb", Manager: "apt", Interrupted: true, Unfinished: left}
	}
	held := func(status string) string { return strings.Replace(healthy, "hold ok installed", status, 1) }
	for _, test := range []struct {
		name, status, update string
		want                 ManagerState
	}{
		{"healthy", healthy, "", ManagerState{Family: "deb", Manager: "apt"}},
		{"a package half-way", statusFile, "", interrupted(UnfinishedPackage{"half", "half-configured", false})},
		{"triggers wait", held("install ok triggers-pending"), "",
			interrupted(UnfinishedPackage{"amazon-ecs-init", "triggers-pending", false})},
		{"to be installed anew", held("install reinstreq installed"), "",
			interrupted(UnfinishedPackage{"amazon-ecs-init", "installed", true})},
		{"unpacked in part", held("install reinstreq half-installed"), "",
			interrupted(UnfinishedPackage{"amazon-ecs-init", "half-installed", true})},
		{"database not merged", healthy, "0003", interrupted()},
		{"a file that dpkg passes over", healthy, "tmp.i", ManagerState{Family: "deb", Manager: "apt"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, root := newDpkg(t, test.status)
			if test.update != "" {
				put(t, filepath.Join(root, dpkgUpdates, test.update), "")
			}
			got, err := d.State()
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	files, _ := newDir(t)
	none := NewDpkg(files, files, &fakeRunner{})
	if got, err := none.State(); err != nil || !cmp.Equal(got, ManagerState{}) {
		t.Errorf("without dpkg: %+v, %v", got, err)
	}
	if got, err := none.Package("x"); err != nil || got.Installed {
		t.Errorf("without dpkg: %+v, %v", got, err)
	}
}

func TestWhatDpkgIsAsked(t *testing.T) {
	runner := &fakeRunner{}
	files := NewDir("/")
	if err := NewDpkg(files, files, runner).Install(t.Context(), "/cache/x.deb"); err != nil {
		t.Fatal(err)
	}
	cmd := runner.ran[0]
	check(t, "command", cmd.Path+" "+strings.Join(cmd.Args, " "),
		"/usr/bin/dpkg --force-confdef --force-confold --install /cache/x.deb")
	check(t, "environment", cmd.Env[0], "DEBIAN_FRONTEND=noninteractive")
}

func TestLockLostInARace(t *testing.T) {
	files, _ := newDir(t)
	for said, holder := range map[string]string{
		"dpkg: error: dpkg frontend lock was locked by another process with pid 4711\nNote: removing the lock file is wrong\n": "another process with pid 4711",
		"dpkg: error: dpkg status database is locked by another process\nNote: …\n":                                            "",
		"dpkg: error: dpkg frontend lock is locked by another process\n":                                                       "another process",
	} {
		d := NewDpkg(files, files, &fakeRunner{result: Result{ExitCode: 2, Output: said}})
		for what, err := range map[string]error{
			"install": d.Install(t.Context(), "/x.deb"), "repair": d.Repair(t.Context()),
		} {
			if !failure.Is(err, failure.PackagesLocked) || !strings.Contains(err.Error(), holder) {
				t.Errorf("%s, %q: %v", what, said, err)
			}
		}
	}
}

// What dpkg 1.20.14 of Debian 11 said of a package packed by a newer one. Nothing of the package is wrong, so its remedy is
// another version.
func TestPackageThatDpkgCannotUnpack(t *testing.T) {
	const said = "Unpacking amazon-ssm-agent (3.3.4108.0-1) ...\n" +
		"dpkg-deb: error: archive '/x.deb' uses unknown compression for member 'data.tar.zst', giving up\n" +
		"dpkg: error processing archive /x.deb (--install):\n dpkg-deb --fsys-tarfile subprocess returned error exit status 2\n" +
		"Errors were encountered while processing:\n /x.deb\n"
	files, _ := newDir(t)
	err := NewDpkg(files, files, &fakeRunner{result: Result{ExitCode: 1, Output: said}}).Install(t.Context(), "/x.deb")
	if !failure.Is(err, failure.PackageInstall) || !strings.Contains(err.Error(), "does not know how its data.tar.zst is compressed") ||
		!strings.Contains(failure.Of(err).Remedy, "--ssm-agent-version") {
		t.Errorf("%v; remedy %q", err, failure.Of(err).Remedy)
	}
}

func BenchmarkPackage(b *testing.B) {
	var status bytes.Buffer
	for i := range 3000 {
		fmt.Fprintf(&status, "Package: package-%d\nStatus: install ok installed\nVersion: 1\nDescription: x\n%s\n",
			i, strings.Repeat(" what it does, at some length\n", 30))
	}
	b.SetBytes(int64(status.Len()))
	for b.Loop() {
		parseStatus(bytes.NewReader(status.Bytes()), "package-2999", func(record) {})
	}
}

// A disk that is full is the cause, whatever dpkg was at.
func TestDpkgOnAFullDisk(t *testing.T) {
	for words, want := range map[string]string{
		"Setting up x (1) ...\ndpkg: unrecoverable fatal error, aborting:\n unable to flush /var/lib/dpkg/updates/tmp.i after padding: No space left on device\n":                                                        "dpkg ended with exit status 2: unable to flush /var/lib/dpkg/updates/tmp.i after padding: No space left on device",
		"dpkg: error processing archive /x.deb (--install):\n cannot copy extracted data for './x' to '/var/lib/y.dpkg-new': failed to write (No space left on device)\n":                                                "failed to write (No space left on device)",
		"mkdir: cannot create directory '/var/lib/ecs': No space left on device\ndpkg: error processing package x (--install):\n installed x package post-installation script subprocess returned error exit status 1\n": "cannot create directory '/var/lib/ecs': No space left on device",
	} {
		files := NewDir("/")
		d := NewDpkg(files, files, &fakeRunner{result: Result{ExitCode: 2, Output: words}})
		err := d.Install(t.Context(), "/cache/x.deb")
		if !failure.Is(err, failure.DiskFull) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is told as %v", words, err)
		}
	}
}
