package platform

import (
	"runtime"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestFindRealSystems(t *testing.T) {
	for _, test := range []struct {
		id, version, name string
		like              []string
		system            string
		verdict           Verdict
		aws               State
		manager           string
		built             bool
	}{
		{"debian", "9", "Debian GNU/Linux", nil, "Debian", Known, WasListed, "apt", true},
		{"debian", "12", "Debian GNU/Linux", nil, "Debian", Known, Listed, "apt", true},
		{"debian", "13", "Debian GNU/Linux", nil, "Debian", Known, Never, "apt", true},
		{"debian", "14", "Debian GNU/Linux", nil, "Debian", Newer, Never, "apt", true},
		{"debian", "", "Debian GNU/Linux", nil, "Debian", Newer, Never, "apt", true}, // testing, sid
		{"debian", "8", "Debian GNU/Linux", nil, "Debian", Older, Never, "apt", true},
		{"raspbian", "12", "Raspbian GNU/Linux", []string{"debian"}, "Raspberry Pi OS, 32-bit", Known, Never, "apt", false},
		{"ubuntu", "22.04", "Ubuntu", []string{"debian"}, "Ubuntu", Known, Listed, "apt", true},
		{"ubuntu", "26.04", "Ubuntu", []string{"debian"}, "Ubuntu", Known, Never, "apt", true},
		{"ubuntu", "23.10", "Ubuntu", []string{"debian"}, "Ubuntu", Between, Never, "apt", true},
		{"ubuntu", "16.04", "Ubuntu", []string{"debian"}, "Ubuntu", Older, Never, "apt", true},
		{"ubuntu", "28.04", "Ubuntu", []string{"debian"}, "Ubuntu", Newer, Never, "apt", true},
		{"linuxmint", "21.3", "Linux Mint", []string{"ubuntu", "debian"}, "Ubuntu", Similar, Never, "apt", true},
		{"amzn", "2", "Amazon Linux", []string{"centos", "rhel", "fedora"}, "Amazon Linux", Known, Listed, "yum", true},
		{"amzn", "2023", "Amazon Linux", []string{"fedora"}, "Amazon Linux", Known, Listed, "dnf", true},
		{"centos", "7", "CentOS Linux", []string{"rhel", "fedora"}, "CentOS Linux", Known, WasListed, "yum", true},
		{"centos", "8", "CentOS Linux", []string{"rhel", "fedora"}, "CentOS Linux", Known, WasListed, "dnf", true},
		{"centos", "8", "CentOS Stream", []string{"rhel", "fedora"}, "CentOS Stream", Known, WasListed, "dnf", true},
		{"centos", "9", "CentOS Stream", []string{"rhel", "fedora"}, "CentOS Stream", Known, Listed, "dnf", true},
		{"rhel", "8.10", "Red Hat Enterprise Linux", []string{"fedora"}, "Red Hat Enterprise Linux", Known, Listed, "dnf", true},
		{"rhel", "10.0", "Red Hat Enterprise Linux", []string{"fedora"}, "Red Hat Enterprise Linux", Known, Never, "dnf", true},
		{"rocky", "9.4", "Rocky Linux", []string{"rhel", "centos", "fedora"}, "Rocky Linux", Known, Never, "dnf", true},
		{"ol", "7.9", "Oracle Linux Server", []string{"fedora"}, "Oracle Linux", Known, Never, "yum", true},
		{"fedora", "33", "Fedora", nil, "Fedora", Known, Listed, "dnf", true},
		{"fedora", "35", "Fedora Linux", nil, "Fedora", Known, Never, "dnf", true},
		{"fedora", "40", "Fedora Linux", nil, "Fedora", Known, Listed, "dnf", true},
		{"fedora", "41", "Fedora Linux", nil, "Fedora", Known, Never, "dnf5", true},
		{"fedora", "50", "Fedora Linux", nil, "Fedora", Newer, Never, "dnf5", true},
		{"sles", "15.5", "SLES", []string{"suse"}, "SUSE Linux Enterprise Server", Known, Listed, "zypper", true},
		{"opensuse-tumbleweed", "20261101", "openSUSE Tumbleweed", []string{"opensuse", "suse"}, "openSUSE Tumbleweed", Known, Listed, "zypper", true},
		{"bottlerocket", "1.20.0", "Bottlerocket", nil, "Bottlerocket", Known, WasListed, "", false},
		{"windows", "20H2", "Windows Server", nil, "Windows Server", Known, Listed, "", false},
		{"windows", "2025", "Windows Server", nil, "Windows Server", Known, Never, "", false},
	} {
		row, verdict, ok := Find(test.id, test.version, test.name, test.like)
		if !ok || row.System != test.system || verdict != test.verdict || row.AWS.State != test.aws ||
			row.Manager != test.manager || row.Built != test.built {
			t.Errorf("%s %s (%s): %v, %q, %+v", test.id, test.version, test.name, ok, verdict, row)
		}
	}
	for _, id := range []string{"alpine", "arch", "linux", ""} {
		if row, verdict, ok := Find(id, "1", "x", nil); ok {
			t.Errorf("%q: %+v, %q", id, row, verdict)
		}
	}
}

func TestCentOS8IsToldFromStream8ByName(t *testing.T) {
	linux, _, _ := Find("centos", "8", "CentOS Linux", nil)
	stream, _, _ := Find("centos", "8", "CentOS Stream", nil)
	if linux.AWS.Until != "2022-03-25" || stream.AWS.Since != "2022-04-14" {
		t.Errorf("%+v, %+v", linux.AWS, stream.AWS)
	}
}

// TestRowsAreWhole holds each row to what readers of the table rely on.
func TestRowsAreWhole(t *testing.T) {
	for _, row := range Table() {
		where := row.System + " " + strings.Join(row.Versions, ",")
		if row.System == "" || row.ID == "" || row.Source == "" || row.Family == "" {
			t.Errorf("%s: a field is empty: %+v", where, row)
		}
		if (row.AWS.State == Never) != (row.AWS.Since == "") || (row.AWS.State == WasListed) != (row.AWS.Until != "") {
			t.Errorf("%s: dates do not fit the position: %+v", where, row.AWS)
		}
		if row.Broken && (row.Built || row.Notes == "") {
			t.Errorf("%s: broken needs a reason, and is never built", where)
		}
		if row.Built != ((row.Family == Deb || row.Family == RPM) && !row.Broken) {
			t.Errorf("%s: deb and rpm systems are built, and no other", where)
		}
		distro := false
		for _, source := range row.Docker {
			distro = distro || source == SourceDistro
		}
		if distro != (row.DockerPackage != "") {
			t.Errorf("%s: the distribution's Docker has a package's name, and only that", where)
		}
		for i := 1; i < len(row.Versions); i++ {
			if compare(row.Versions[i-1], row.Versions[i]) >= 0 {
				t.Errorf("%s: versions are not in order", where)
			}
		}
		if row.Marker != "" {
			continue
		}
		name := row.NameHas
		if len(row.Versions) == 0 {
			row.Versions = []string{"1"}
		}
		for _, version := range row.Versions {
			if found, verdict, ok := Find(row.ID, version, name, nil); !ok || verdict != Known || found.Notes != row.Notes {
				t.Errorf("%s %s: found %+v, %q", where, version, found, verdict)
			}
		}
	}
}

func TestArch(t *testing.T) {
	for goarch, want := range map[string][2]string{"amd64": {"amd64", "x86_64"}, "arm64": {"arm64", "aarch64"}} {
		if deb, rpm, err := Arch(goarch); err != nil || deb != want[0] || rpm != want[1] {
			t.Errorf("%s: %s, %s, %v", goarch, deb, rpm, err)
		}
	}
	for _, goarch := range []string{"386", "arm", "riscv64", ""} {
		if _, _, err := Arch(goarch); !failure.Is(err, failure.UnsupportedArch) {
			t.Errorf("%s: %v", goarch, err)
		}
	}
	if _, _, err := Arch(runtime.GOARCH); err != nil {
		t.Errorf("this machine: %v", err)
	}
}
