package packages

import (
	"bytes"

	"crypto/sha256"
	"encoding/xml"
	"errors"

	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// DockerRPMVersion is the version of the packages in the repositories that AddDockerRPM and AddDistroRPM make.
const DockerRPMVersion = "20.10.24-1.el9"

// DistroFolder is where a mirror has what stands for the distribution's own repository.
const DistroFolder = "distro"

// stub is an rpm that is made of Debian's packages.
type stub struct {
	name     string
	debs     []string // whose files it has
	requires []string
	provides []string
	scripts  bool // Docker's
	text     map[string]string
	links    map[string]string
}

// xtables are the names by which iptables is called; Debian makes them of alternatives.
var xtables = []string{
	"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
}

// AddDockerRPM makes Docker's own repository for CentOS 9, as its rebuilds use it, below docker/ as in a mirror. Its
// packages are signed with key; what they need of the distribution is not in it. Options are those of docker-ce.
func (m *Mirror) AddDockerRPM(debs string, key *Key, o Options) {
	m.t.Helper()
	m.rpmRepository(filepath.Join(m.Dir, "docker", "linux", "centos", "9", "x86_64", "stable"), debs, key, map[string]Options{"docker-ce": o}, []stub{
		{
			name: "docker-ce", debs: []string{"docker.io", "tini"}, scripts: true,
			requires: []string{"docker-ce-cli", "containerd.io", "iptables", "container-selinux"},
		},
		{name: "docker-ce-cli"},
		{name: "containerd.io", debs: []string{"containerd", "runc"}},
	})
	ring, err := Keyring(key)
	m.check(err)
	m.check(m.WriteDockerRPM("gpg", ring))
}

// WriteDockerRPM replaces a file of that repository, by its path below docker/linux/centos.
func (m *Mirror) WriteDockerRPM(name string, data []byte) error {
	return os.WriteFile(filepath.Join(m.Dir, "docker", "linux", "centos", name), data, 0o644)
}

// AddDistroRPM makes a distribution's own repository in DistroFolder: what Docker needs, Docker in the package of Amazon's
// and SUSE's name, and the podman that RHEL and its rebuilds give to whom asks for docker. Options are those of docker.
func (m *Mirror) AddDistroRPM(debs string, key *Key, podman bool, o Options) {
	m.t.Helper()
	tables := stub{
		name: "iptables-nft", provides: []string{"iptables"}, links: map[string]string{},
		debs: []string{"iptables", "libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11", "netbase"},
	}
	for _, name := range xtables {
		tables.links["/usr/sbin/"+name] = "xtables-nft-multi"
	}
	stubs := []stub{tables, {name: "container-selinux"}}
	if podman {
		stubs = append(stubs, stub{name: "podman-docker", provides: []string{"docker"}, text: map[string]string{
			"/usr/bin/docker":                        "#!/bin/sh\nexec /usr/bin/podman \"$@\"\n",
			"/usr/lib/tmpfiles.d/podman-docker.conf": "L+  %t/docker.sock   -    -    -     -   %t/podman/podman.sock\n",
		}})
	} else {
		stubs = append(stubs, stub{
			name: "docker", debs: []string{"docker.io", "tini"}, scripts: true, requires: []string{"containerd", "runc", "iptables"},
		}, stub{name: "containerd", debs: []string{"containerd"}}, stub{name: "runc", debs: []string{"runc"}})
	}
	m.rpmRepository(filepath.Join(m.Dir, DistroFolder), debs, key, map[string]Options{"docker": o}, stubs)
	ring, err := Keyring(key)
	m.check(err)
	m.check(os.WriteFile(filepath.Join(m.Dir, DistroFolder, "key"), ring, 0o644))
}

// rpmRepository builds packages into a folder, and the metadata that dnf and zypper read.
func (m *Mirror) rpmRepository(dir, debs string, key *Key, options map[string]Options, stubs []stub) {
	m.t.Helper()
	m.check(os.MkdirAll(filepath.Join(dir, "Packages"), 0o755))
	m.check(os.MkdirAll(filepath.Join(dir, "repodata"), 0o755))
	primary := metadata{XMLNS: "http://linux.duke.edu/metadata/common", RPM: "http://linux.duke.edu/metadata/rpm", Count: len(stubs)}
	for _, s := range stubs {
		href := "Packages/" + s.name + "-" + DockerRPMVersion + ".x86_64.rpm"
		data, err := s.built(debs, key, options[s.name])
		m.check(err)
		m.check(os.WriteFile(filepath.Join(dir, href), data, 0o644))
		primary.Packages = append(primary.Packages, s.listed(href, data))
	}
	text, err := xml.Marshal(primary)
	m.check(err)
	m.check(os.WriteFile(filepath.Join(dir, "repodata", "primary.xml"), text, 0o644))
	index := fmt.Sprintf(`<?xml version="1.0"?><repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>`+
		`<data type="primary"><checksum type="sha256">%[1]x</checksum><open-checksum type="sha256">%[1]x</open-checksum>`+
		`<location href="repodata/primary.xml"/><timestamp>1</timestamp><size>%[2]d</size><open-size>%[2]d</open-size></data></repomd>`,
		sha256.Sum256(text), len(text))
	m.check(os.WriteFile(filepath.Join(dir, "repodata", "repomd.xml"), []byte(index), 0o644))
}

// builds are the packages that this process has built: programs of Docker's size take their time.
var builds struct {
	sync.Mutex
	done map[built][]byte
}

type built struct {
	name, debs string
	key        *Key
	o          Options
}

// built is the package's file.
func (s stub) built(debs string, key *Key, o Options) ([]byte, error) {
	builds.Lock()
	defer builds.Unlock()
	which := built{s.name, debs, key, o}
	if data, found := builds.done[which]; found {
		return data, nil
	}
	dir, err := os.MkdirTemp("", "rpm-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "package.rpm")
	err = s.build(file, debs, key, o)
	var data []byte
	if err == nil {
		data, err = os.ReadFile(file)
	}
	if err == nil {
		if builds.done == nil {
			builds.done = map[built][]byte{}
		}
		builds.done[which] = data
	}
	return data, errors.Join(err, os.RemoveAll(dir))
}

// build writes the package.
func (s stub) build(to, debs string, key *Key, o Options) (err error) {
	o.RPM = true
	kind := "none" // no scripts
	if s.scripts {
		kind = "docker"
	}
	b, err := newBuilder(s.name, kind, DockerRPMVersion, o)
	if err != nil {
		return err
	}
	b.compress("gzip:1")
	b.info.Depends, b.info.Provides = s.requires, s.provides
	b.info.RPM.Signature.SignFn = func(data io.Reader) ([]byte, error) {
		var out bytes.Buffer
		err := openpgp.DetachSign(&out, key.entity, data, nil)
		return out.Bytes(), err
	}
	for _, name := range s.debs {
		found, err := filepath.Glob(filepath.Join(debs, name+"_*.deb"))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("no %s in %s: %v", name, debs, err)
		}
		files := filepath.Join(b.dir, "of-"+name)
		if out, err := exec.Command("dpkg-deb", "-x", slices.Max(found), files).CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg-deb: %w: %s", err, out)
		}
		if err := b.addTree(files); err != nil {
			return err
		}
	}
	for target, text := range s.text {
		if err := b.addText([]byte(text), target, 0o755); err != nil {
			return err
		}
	}
	for target, to := range s.links {
		b.addLink(target, to)
	}
	b.addDirs("/usr/share/doc/" + s.name)
	if err := b.addText([]byte(s.name+"\n"), "/usr/share/doc/"+s.name+"/NEWS", 0o644); err != nil {
		return err
	}
	return b.build(to)
}

// addTree adds what lies below a folder, but what a program does not need.
func (b *builder) addTree(dir string) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		target := strings.TrimPrefix(file, dir)
		if err != nil || entry.IsDir() {
			if path.Base(target) == "xtables" { // its own, and no other package's
				b.addDirs(target)
			}
			return err
		}
		if strings.HasPrefix(target, "/lib/") { // a link on every rpm host
			target = "/usr" + target
		}
		if strings.HasPrefix(target, "/usr/share/") || strings.HasPrefix(target, "/etc/init.d/") {
			return nil
		}
		if entry.Type() == fs.ModeSymlink {
			leads, err := os.Readlink(file)
			b.addLink(target, leads)
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		b.add(file, target, info.Mode().Perm())
		return nil
	})
}

// What createrepo_c writes of packages, as far as dnf and zypper need it.
type metadata struct {
	XMLName  xml.Name `xml:"metadata"`
	XMLNS    string   `xml:"xmlns,attr"`
	RPM      string   `xml:"xmlns:rpm,attr"`
	Count    int      `xml:"packages,attr"`
	Packages []listed `xml:"package"`
}

type listed struct {
	Type    string `xml:"type,attr"`
	Name    string `xml:"name"`
	Arch    string `xml:"arch"`
	Version struct {
		Epoch   string `xml:"epoch,attr"`
		Version string `xml:"ver,attr"`
		Release string `xml:"rel,attr"`
	} `xml:"version"`
	Checksum struct {
		Type string `xml:"type,attr"`
		ID   string `xml:"pkgid,attr"`
		Sum  string `xml:",chardata"`
	} `xml:"checksum"`
	Summary     string `xml:"summary"`
	Description string `xml:"description"`
	Time        struct {
		File  int `xml:"file,attr"`
		Build int `xml:"build,attr"`
	} `xml:"time"`
	Size struct {
		Package   int `xml:"package,attr"`
		Installed int `xml:"installed,attr"`
		Archive   int `xml:"archive,attr"`
	} `xml:"size"`
	Location struct {
		Href string `xml:"href,attr"`
	} `xml:"location"`
	License  string       `xml:"format>rpm:license"`
	Provides []capability `xml:"format>rpm:provides>rpm:entry"`
	Requires []capability `xml:"format>rpm:requires>rpm:entry"`
}

type capability struct {
	Name    string `xml:"name,attr"`
	Flags   string `xml:"flags,attr,omitempty"`
	Epoch   string `xml:"epoch,attr,omitempty"`
	Version string `xml:"ver,attr,omitempty"`
	Release string `xml:"rel,attr,omitempty"`
}

func (s stub) listed(href string, data []byte) (l listed) {
	l.Type, l.Name, l.Arch, l.License = "rpm", s.name, "x86_64", "none"
	l.Version.Epoch = "0"
	l.Version.Version, l.Version.Release, _ = strings.Cut(DockerRPMVersion, "-")
	l.Checksum.Type, l.Checksum.ID, l.Checksum.Sum = "sha256", "YES", fmt.Sprintf("%x", sha256.Sum256(data))
	l.Summary, l.Description = s.name, "for tests"
	l.Time.File, l.Time.Build = 1, 1
	l.Size.Package, l.Size.Installed, l.Size.Archive = len(data), len(data), len(data)
	l.Location.Href = href
	own := capability{Name: s.name, Flags: "EQ", Epoch: "0", Version: l.Version.Version, Release: l.Version.Release}
	l.Provides = []capability{own}
	for _, name := range s.provides {
		l.Provides = append(l.Provides, capability{Name: name})
	}
	for _, name := range s.requires {
		l.Requires = append(l.Requires, capability{Name: name})
	}
	return l
}
