package host

import (
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// frontend is what is known of one program that gets rpms out of repositories.
type frontend struct {
	name     string
	program  string
	pidFiles []string // with the pid of who works
	locks    []string // lists of packages that must not change
	lists    string   // where its repositories are written down
	// late: it looks at signatures when it installs, which is left to rpm here, and not when it downloads. Sources: dnf5 5.2
	// (libdnf5/base/transaction.cpp), yum 3.4.3 (cli.py); dnf 4.14 and zypper look before they say that they have downloaded.
	late bool
}

// frontends are those of the rpm families, the first that is there counts: dnf5 brings a program dnf, and dnf one that is
// called yum. Sources: yum 3.4.3 (yum/misc.py, versionlock.py of yum-utils), dnf 4.14 (dnf/lock.py, versionlock.py of
// dnf-plugins-core), dnf5 5.2 (libdnf5/common/utils/fs, versionlock.toml), libzypp 17 (zypp/ZYppFactory.cc, zypp/Locks.cc).
var frontends = []frontend{
	{
		name: "zypper", program: "/usr/bin/zypper", pidFiles: []string{"/run/zypp.pid", "/var/run/zypp.pid"},
		locks: []string{"/etc/zypp/locks"}, lists: "/etc/zypp/repos.d",
	},
	{
		name: "dnf5", program: "/usr/bin/dnf5", locks: []string{"/etc/dnf/versionlock.toml"}, lists: "/etc/yum.repos.d", late: true,
	},
	{
		name: "dnf", program: "/usr/bin/dnf",
		pidFiles: []string{"/var/cache/dnf/metadata_lock.pid", "/var/cache/dnf/download_lock.pid", "/var/lib/dnf/rpmdb_lock.pid"},
		locks:    []string{"/etc/dnf/plugins/versionlock.list"}, lists: "/etc/yum.repos.d",
	},
	{
		name: "yum", program: "/usr/bin/yum", pidFiles: []string{"/run/yum.pid", "/var/run/yum.pid"},
		locks: []string{"/etc/yum/pluginconf.d/versionlock.list"}, lists: "/etc/yum.repos.d", late: true,
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

// held reports whether one of the front end's lists keeps a package from changing.
func (r *Rpm) held(name string) (bool, error) {
	for _, file := range r.frontend().locks {
		text, err := r.files.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return false, failure.Wrap(failure.PackagesBroken, err, "cannot read %s", file)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); holds(line, name) {
				return true, nil
			}
		}
	}
	return false, nil
}

// A line of one of the lists, in the forms that they have:
//
//	0:amazon-ssm-agent-3.3.4108.0-1.*       yum's
//	amazon-ssm-agent-0:3.3.4108.0-1.*       dnf's
//	name = "amazon-ssm-agent"               dnf5's
//	solvable_name: amazon-ssm-agent         zypper's
var (
	namedLock   = regexp.MustCompile(`^(?:name\s*=|solvable_name\s*:)\s*"?([^"]+?)"?$`)
	versionLock = regexp.MustCompile(`^(?:\d+:)?(.+?)(?:-(?:\d+:)?[^-]+-[^-]+)?$`)
)

// holds reports whether a line of a list is about a package. One that excludes a version (with a ! before it) holds nothing.
func holds(line, name string) bool {
	if line == "" || strings.ContainsAny(line[:1], "#![") {
		return false
	}
	match := namedLock.FindStringSubmatch(line)
	if match == nil {
		if strings.ContainsAny(line, "=\"") || strings.Contains(line, ": ") {
			return false
		}
		match = versionLock.FindStringSubmatch(line)
	}
	if match == nil {
		return false
	}
	if match[1] == name {
		return true
	}
	fits, err := path.Match(match[1], name)
	return err == nil && fits
}
