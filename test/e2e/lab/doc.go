// Package lab gives a test real hosts: Debian 12 with its own systemd, dpkg, OpenSSH and Docker, booted in half a second
// by systemd-nspawn. It needs root and Linux, and installs what else it needs from Debian's packages.
//
// A test package enters the lab in its TestMain and then asks for hosts:
//
//	func TestMain(m *testing.M) { lab.Main(m, packages.BuildPrograms) }
//
//	func TestSomething(t *testing.T) {
//		t.Parallel()
//		h := lab.Start(t, lab.Host{Name: "web", Cgroup: 2, Docker: true})
//		srv := serveEmulator(t, lab.Address+":0")      // hosts reach the test at lab.Address, and nothing else
//		h.CopyIn("/usr/local/bin/anywhere", lab.Shared("anywhere"), 0o755)
//		before := h.Tree("/etc", "/usr", "/var/lib")
//		res := h.Run(lab.Cmd{Args: []string{"anywhere", "register", "--token", "-"}, Stdin: token})
//		if res.Exit != 0 { t.Fatal(res) }
//		h.Kill()                                       // power cut
//		h.Boot()                                       // and on again, same disk
//		h.MustShell("dpkg -r amazon-ssm-agent")
//		diff := lab.Diff(before, h.Tree("/etc", "/usr", "/var/lib"))
//	}
//
// # The world
//
// Main runs the tests in a child process that has a mount, a process and a network namespace to itself. That network is
// the world: a bridge, Address for the test process, one address for each host, and no way out, so that a wrong address
// fails at once instead of reaching AWS. When the child ends, however it ends, the kernel takes its hosts, mounts and
// networks with it. What a namespace cannot hold (cgroups, the hosts' disks) has the parent's pid in its name; the
// parent removes it and fails the run if it can't.
//
// Setup functions given to Main run before that, with the network still in reach: the place to build programs.
//
// # Hosts
//
// A host's disk is an overlay on the shared root, kept over Reboot, Kill and Boot, and deleted with the test.
// /var/lib/docker is a plain folder, because overlay2 can't lie on an overlay. Host.Docker false is a machine on which
// Docker was never installed; `apt-get update && apt-get install docker.io` works there, from a repository in /srv/apt.
// Cgroup 1 is the legacy hierarchy with all its controllers; Cgroup 2 is the unified one, which on a machine with hybrid
// cgroups has no memory and cpu controllers. Kill stops every process at once but does not lose the page cache: what was
// written and not synced survives it, unlike in a real power cut.
package lab
