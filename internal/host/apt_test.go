package host

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestPlanned(t *testing.T) {
	d, _ := newDpkg(t, statusFile)
	d.runner.(*fakeRunner).result.Output = "Reading package lists...\n" +
		"Inst libc6 [2.36] (2.37 Debian:12.15/stable [amd64])\nInst docker-ce (5:29.0-1 Docker CE:bookworm [amd64])\nConf docker-ce (5:29.0-1)\n"
	got, err := d.Planned(t.Context(), PackageSet{Names: []string{"docker-ce"}, Dir: "/apt"})
	want := []PlannedPackage{{"libc6", "2.36", "2.37"}, {"docker-ce", "", "5:29.0-1"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAptsComplaints(t *testing.T) {
	for _, test := range []struct {
		output string
		code   failure.Code
		says   string
	}{
		{"W: GPG error: http://a stable InRelease: not available: NO_PUBKEY 8D81803C0EBFCD88\nE: The repository 'http://a' is not signed.",
			failure.ArtifactKey, "is not signed"},
		{"E: Failed to fetch http://a/x.deb  Hash Sum mismatch", failure.ArtifactCorrupt, "Hash Sum mismatch"},
		{"E: Unable to locate package docker-ce", failure.ArtifactMissing, "Unable to locate package docker-ce"},
		{"The following packages will be REMOVED:\n  runc containerd*\nE: Packages need to be removed but remove is disabled.",
			failure.PackageInstall, "it would remove packages that are installed: containerd, runc"},
		{"", failure.PackageInstall, "without a word"},
		{"E: Failed to fetch http://joe:geheim@a/x.deb  404  Not Found", failure.ArtifactMissing, "http://a/x.deb"},
	} {
		d, _ := newDpkg(t, statusFile)
		d.runner.(*fakeRunner).result = Result{ExitCode: 100, Output: test.output}
		set := PackageSet{Names: []string{"docker-ce"}, Dir: "/apt", Source: "deb [signed-by=/k] http://joe:geheim@a/docker bookworm stable"}
		_, err := d.Planned(t.Context(), set)
		f := failure.Of(err)
		if !failure.Is(err, test.code) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.output, err)
		} else if strings.Contains(f.Message+f.Evidence, "geheim") {
			t.Errorf("the password is told: %+v", f)
		}
	}
}

// dpkg removes what it can and complains of the rest; so it is asked before.
func TestPurgeRemovesNothingOfWhatIsNeeded(t *testing.T) {
	d, _ := newDpkg(t, statusFile)
	runner := d.runner.(*fakeRunner)
	runner.result = Result{ExitCode: 1, Output: "dpkg: dependency problems prevent removal of adduser:\n mine depends on adduser.\n"}
	err := d.Purge(t.Context(), PackageSet{Names: []string{"adduser", "libc6", "never-there"}}, func() error {
		t.Error("it went on")
		return nil
	})
	if !errors.Is(err, ErrNeeded) || len(runner.ran) != 1 || runner.ran[0].Args[0] != "--no-act" ||
		slices.Contains(runner.ran[0].Args, "never-there") {
		t.Errorf("%v after %+v", err, runner.ran)
	}
}
