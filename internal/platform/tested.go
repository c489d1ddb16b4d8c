package platform

import "slices"

// How says how much of a system a test had.
type How string

// Hows, the better first.
const (
	// Ran is a booted host of that very system: its own userland, systemd and package manager.
	Ran How = "ran"
	// Simulated is something that stands in for it: another userland under its os-release, an emulated processor, a
	// throw-away host root.
	Simulated How = "simulated"
	// NeverRan is a row that nothing but tables were tested of.
	NeverRan How = "never"
)

// Trial is one place in which anywhere was tested, as a whole and not by unit.
type Trial struct {
	Systems []string // the table's System with its version, like "Debian 12"
	Arch    string   // amd64 or arm64
	How     How
	Manager string   // package manager, with what was real of it
	Systemd string   // version; empty where there was none
	Cgroup  string   // v1, v2 or both
	What    string   // what was done there, and what was not real
	Tests   []string // functions by which it is done again
	Slow    bool     // in the slow tier (make e2e-slow), not with every change
	Date    string   // of the last run that somebody looked at
}

// Trials are all of them: one more place is one more row. What holds for all: AWS is the emulator, the agents are
// simagent's unless What says otherwise, and hosts share the kernel of the machine that tests unless it names one.
func Trials() []Trial {
	return []Trial{
		{Systems: []string{"Debian 12"}, Arch: "amd64", How: Ran, Manager: "apt 2.6, dpkg 1.21", Systemd: "252", Cgroup: "both",
			What: "hosts in systemd-nspawn with Docker 20.10: every verb, killed at every change, power cuts, sick hosts, a life of twenty " +
				"rounds, without a way to AWS's buckets; cgroup v1 for Docker and the checks, v2 for the rest",
			Tests: []string{
				"TestHostsOfBothCgroupVersions", "TestKilled", "TestPowerCut", "TestEveryCommandOnASickHost", "TestALifeOfTwentyRounds",
				"TestAirGapped",
			}, Date: "2026-11-26"},
		{Systems: []string{"Debian 12"}, Arch: "amd64", How: Ran, Manager: "apt 2.6, dpkg 1.21", Systemd: "252", Cgroup: "v2",
			What: "a whole virtual machine (qemu 7.2, an emulated processor) with Debian's kernel 6.1, all controllers of cgroup v2, AppArmor and " +
				"Docker 20.10: registered, registered again, a container held to its memory, upgraded, back, restarted, cut off from power, " +
				"deregistered; also as EC2, by its firmware and a metadata service",
			Tests: []string{"TestVirtualMachine"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Debian 12"}, Arch: "amd64", How: Ran, Manager: "apt 2.6, dpkg 1.21", Systemd: "252", Cgroup: "v2",
			What: "the same with SELinux enforcing, by Debian's policy: registered, upgraded, back, deregistered; the labels of what was written, " +
				"and nothing denied; not Red Hat's policy",
			Tests: []string{"TestSELinux"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Debian 11"}, Arch: "amd64", How: Ran, Manager: "apt 2.2, dpkg 1.20", Systemd: "247", Cgroup: "both",
			What: "hosts in systemd-nspawn with Docker 20.10: preflight, registered, registered again, both agents upgraded, back, booted, " +
				"examined and mended by doctor, deregistered; a package that its dpkg cannot unpack (zstd) is refused and undone",
			Tests: []string{"TestLifeOnOtherReleases"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Debian 13"}, Arch: "amd64", How: Ran, Manager: "apt 3.0, dpkg 1.22", Systemd: "257", Cgroup: "both",
			What: "the same with Docker 26.1", Tests: []string{"TestLifeOnOtherReleases"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Debian 13"}, Arch: "amd64", How: Simulated, Manager: "apt 3.3, dpkg 1.23", Systemd: "262", Cgroup: "v2",
			What: "the same on Debian sid of 2026-10-30, which is to come after it and no row of the table, with Docker 28.5; " +
				"its systemd has no cgroup v1 (from 258 on)",
			Tests: []string{"TestLifeOnOtherReleases"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Debian 12"}, Arch: "arm64", How: Simulated, Manager: "none: a throw-away host root",
			What:  "the program by user-mode emulation (qemu 7.2): version, preflight, mirror, and a registration in a rehearsal",
			Tests: []string{"TestARM64"}, Date: "2026-11-26"},
		{Systems: []string{"Debian 12"}, Arch: "arm64", How: Simulated, Manager: "apt 2.6, dpkg 1.21", Systemd: "252", Cgroup: "v2",
			What: "a host in systemd-nspawn whose programs for arm64, systemd and the agents' among them, are emulated one by one (qemu 7.2), with " +
				"Docker 20.10 for amd64: registered, registered again, both agents upgraded, deregistered",
			Tests: []string{"TestHostForARM64"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Ubuntu 24.04"}, Arch: "amd64", How: Simulated, Manager: "a stand-in for snapd; apt 2.6, dpkg 1.21", Systemd: "252", Cgroup: "v2",
			What: "a host of Debian's with Ubuntu's os-release, whose SSM agent is a snap: registered, killed and cut off while snapd works, " +
				"upgraded, back, deregistered; no real snapd has run",
			Tests: []string{"TestUbuntusSnap"}, Date: "2026-11-26"},
		{Systems: []string{"Amazon Linux 2023", "SUSE Linux Enterprise Server 15"}, Arch: "amd64", How: Simulated,
			Manager: "dnf 4.14 and zypper 1.14, rpm 4.18, Debian's builds", Systemd: "252", Cgroup: "v2",
			What: "hosts of Debian's with the system's os-release, rpm and its package manager, Docker 20.10 there: registered, registered again, " +
				"upgraded, back, deregistered",
			Tests: []string{"TestLifeOnRPM"}, Date: "2026-11-26"},
		{Systems: []string{"Rocky Linux 9"}, Arch: "amd64", How: Simulated,
			Manager: "dnf 4.14, rpm 4.18, Debian's builds", Systemd: "252", Cgroup: "v2",
			What: "a host of the same kind: killed while rpm installs and while it removes, a failed registration rolled back, doctor and its remedies, " +
				"drained, moved and back, given up with and without its packages",
			Tests: []string{"TestKilledInRPM", "TestTheOtherVerbsOnRPM"}, Date: "2026-11-26"},
		{Systems: []string{"Rocky Linux 9", "Amazon Linux 2023", "SUSE Linux Enterprise Server 15"}, Arch: "amd64", How: Simulated,
			Manager: "dnf 4.14 and zypper 1.14, rpm 4.18, Debian's builds", Systemd: "252", Cgroup: "v2",
			What:  "the same, and a power cut while rpm removes, two versions in rpm's database, changed configuration, a host of AWS's script adopted, upgraded and purged",
			Tests: []string{"TestTheOtherVerbsOnRPM"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Rocky Linux 9"}, Arch: "amd64", How: Simulated, Manager: "rpm 4.18, Debian's build", Systemd: "252", Cgroup: "v2",
			What: "such a host behind a proxy that wants a password and opens TLS: refused, registered with --ca-file, registered again, upgrade " +
				"--check and mirror, deregistered; update-ca-trust is a script of the test's around p11-kit 0.24's trust",
			Tests: []string{"TestAuthorityOnRPM"}, Date: "2026-11-26"},
		{Systems: []string{"SUSE Linux Enterprise Server 15"}, Arch: "amd64", How: Simulated, Manager: "rpm 4.18, Debian's build", Systemd: "252",
			Cgroup: "v2", What: "the same, with a script in the place of SUSE's update-ca-certificates", Tests: []string{"TestAuthorityOnRPM"}, Slow: true,
			Date: "2026-11-26"},
		{Systems: []string{"Rocky Linux 9"}, Arch: "amd64", How: Simulated, Manager: "dnf 4.14, rpm 4.18, Debian's builds", Systemd: "252",
			Cgroup: "v2",
			What: "hosts of Debian's with the system's os-release, dnf, and no Docker: Docker 20.10 in rpms of Docker's names from a repository " +
				"laid out as Docker's, installed by register; killed while rpm unpacks it and rolled back, power cut in its script and gone on",
			Tests: []string{"TestDockerRPMFromItsOwnRepository", "TestKilledWhileDockerRPMIsInstalled"}, Date: "2026-11-26"},
		{Systems: []string{"Amazon Linux 2023", "Rocky Linux 9", "SUSE Linux Enterprise Server 15"},
			Arch: "amd64", How: Simulated, Manager: "dnf 4.14 and zypper 1.14, rpm 4.18, Debian's builds", Systemd: "252", Cgroup: "v2",
			What: "the same: from the distribution's own repository, taken back after a later failure, repositories out of reach, a folder, keys that " +
				"are not the right ones, podman-docker in Docker's place, and what a host that calls itself RHEL is told without Docker",
			Tests: []string{"TestDockerRPMUnderAnotherKey", "TestDockerRPMFromTheDistribution"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Rocky Linux 9", "openSUSE Leap 15"}, Arch: "amd64", How: Simulated,
			Manager: "dnf 4.14 and zypper 1.14, rpm 4.18, Debian's builds", Systemd: "252", Cgroup: "v2",
			What: "registered, registered again, deregistered", Tests: []string{"TestLifeOnRPM"}, Slow: true,
			Date: "2026-11-26"},
		{Systems: []string{"Fedora 42"}, Arch: "amd64", How: Simulated, Manager: "dnf5 5.4, rpm 6.1, Debian sid's builds", Systemd: "262", Cgroup: "v2",
			What: "a host of Debian sid's with Fedora's os-release and without Docker: Docker 28.5 from its own repository by dnf5, under other " +
				"keys, without a way to the distribution's, and a package that dnf5's versionlock holds",
			Tests: []string{"TestDockerRPMByDnf5"}, Slow: true, Date: "2026-11-26"},
		{Systems: []string{"Fedora 42", "Amazon Linux 2023", "SUSE Linux Enterprise Server 15"}, Arch: "amd64", How: Simulated,
			Manager: "dnf5 5.4, dnf 4.24 and zypper 1.14, rpm 6.1, Debian sid's builds", Systemd: "262", Cgroup: "v2",
			What: "hosts of Debian sid's with the system's os-release, rpm and its package manager, Docker 28.5 there: registered, registered " +
				"again, upgraded, back, deregistered",
			Tests: []string{"TestLifeOnRPM"}, Slow: true, Date: "2026-11-26"},
	}
}

// TestedAs tells how much was tested of a row, by the best of its trials, and those.
func (r Row) TestedAs() (How, []Trial) {
	best, found := NeverRan, []Trial(nil)
	for _, trial := range Trials() {
		if !slices.ContainsFunc(trial.Systems, r.named) {
			continue
		}
		found = append(found, trial)
		if trial.How == Ran || best == NeverRan {
			best = trial.How
		}
	}
	return best, found
}

// named reports whether a trial's system is one of the row.
func (r Row) named(system string) bool {
	if system == r.System && len(r.Versions) == 0 {
		return true
	}
	return slices.ContainsFunc(r.Versions, func(version string) bool { return system == r.System+" "+version })
}
