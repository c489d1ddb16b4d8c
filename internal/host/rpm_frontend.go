package host

// frontend is what is known of one program that gets rpms out of repositories.
type frontend struct {
	name     string
	program  string
	pidFiles []string // with the pid of who works
	locks    []string // lists of packages that must not change, in the form that holds understands
	holds    func(list, name string) bool
	lists    string // where its repositories are written down
	// late: it does not look at signatures when it downloads, and what it brings is held to the host's keys here. dnf5 and yum
	// look when they install, which is left to rpm here; dnf is told not to look, for it would take the keys that the host's
	// repositories name into rpm's database, before anything may be touched; zypper looks, and takes no key unasked. Sources:
	// dnf5 5.2 (libdnf5/base/transaction.cpp), yum 3.4.3 (cli.py), dnf 4.14 (cli/cli.py, gpgsigcheck).
	late bool
}

// frontends are those of the rpm families, the first that is there counts: dnf5 brings a program dnf, and dnf one that is
// called yum. Sources: yum 3.4.3 (yum/misc.py, versionlock.py of yum-utils), dnf 4.14 (dnf/lock.py, versionlock.py of
// dnf-plugins-core), dnf5 5.2 (libdnf5/common/utils/fs, versionlock.toml), libzypp 17 (zypp/ZYppFactory.cc, zypp/Locks.cc).
var frontends = []frontend{
	{
		name: "zypper", program: "/usr/bin/zypper", pidFiles: []string{"/run/zypp.pid", "/var/run/zypp.pid"},
		locks: []string{"/etc/zypp/locks"}, holds: holdsZypp, lists: "/etc/zypp/repos.d",
	},
	{
		name: "dnf5", program: "/usr/bin/dnf5", locks: []string{"/etc/dnf/versionlock.toml"}, holds: holdsTOML,
		lists: "/etc/yum.repos.d", late: true,
	},
	{
		name: "dnf", program: "/usr/bin/dnf",
		pidFiles: []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid", "/var/lib/dnf/rpmdb_lock.pid"},
		locks:    []string{"/etc/dnf/plugins/versionlock.list"}, holds: holdsVersion, lists: "/etc/yum.repos.d", late: true,
	},
	{
		name: "yum", program: "/usr/bin/yum", pidFiles: []string{"/run/yum.pid", "/var/run/yum.pid"},
		locks: []string{"/etc/yum/pluginconf.d/versionlock.list"}, holds: holdsVersion, lists: "/etc/yum.repos.d", late: true,
	},
}

// frontend is the one of this host; on one that has none, packages are rpm's own business.
func (r *Rpm) frontend() frontend {
	for _, f := range frontends {
		if _, err := r.files.Stat(f.program); err == nil {
			return f
		}
	}
	return frontend{name: "rpm"}
}
