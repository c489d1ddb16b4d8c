package packages

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
)

// DockerVersion is the version of the packages in the repository that AddDocker makes.
const DockerVersion = "5:20.10.24-1~debian.12~bookworm"

// AddDocker makes Docker's own repository for Debian 12, below docker/ as in a mirror, signed with key. Its packages have
// the names of Docker's; docker-ce is the distribution's package docker.io, the newest in the folder debs, under that
// name. Options are those of docker-ce.
func (m *Mirror) AddDocker(debs string, key *Key, o Options) {
	m.t.Helper()
	base := filepath.Join(m.Dir, "docker", "linux", "debian")
	index := filepath.Join("stable", "binary-amd64", "Packages")
	pool := filepath.Join("dists", "bookworm", "pool", "stable", "amd64")
	dist := filepath.Join(base, "dists", "bookworm")
	m.check(os.MkdirAll(filepath.Join(base, pool), 0o755))
	m.check(os.MkdirAll(filepath.Dir(filepath.Join(dist, index)), 0o755))
	var list bytes.Buffer
	for _, p := range []struct{ name, depends string }{
		{"docker-ce", "docker-ce-cli, containerd.io, containerd, iptables, tini, adduser, libdevmapper1.02.1"},
		{"docker-ce-cli", ""},
		{"containerd.io", ""},
	} {
		file := filepath.Join(pool, p.name+"_amd64.deb")
		if p.name == "docker-ce" {
			m.check(renamed(debs, filepath.Join(base, file), p.depends, o))
		} else {
			m.check(thin(filepath.Join(base, file), p.name))
		}
		data, err := os.ReadFile(filepath.Join(base, file))
		m.check(err)
		fmt.Fprintf(&list, "Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: Test lab <lab@example.com>\n", p.name, DockerVersion)
		if p.depends != "" { // as the package itself has them: what differs, apt takes for another package
			fmt.Fprintf(&list, "Depends: %s\nConflicts: docker.io\n", p.depends)
		}
		fmt.Fprintf(&list, "Filename: %s\nSize: %d\nSHA256: %x\nDescription: for tests\n\n", file, len(data), sha256.Sum256(data))
	}
	m.check(os.WriteFile(filepath.Join(dist, index), list.Bytes(), 0o644))
	release := fmt.Sprintf("Origin: Docker\nLabel: Docker CE\nSuite: bookworm\nCodename: bookworm\nDate: %s\n"+
		"Architectures: amd64\nComponents: stable\nSHA256:\n %x %d %s\n",
		time.Now().UTC().Format(time.RFC1123), sha256.Sum256(list.Bytes()), list.Len(), index)
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, key.entity.PrivateKey, nil)
	m.check(err)
	_, err = w.Write([]byte(release))
	m.check(err)
	m.check(w.Close())
	signed.WriteByte('\n')
	m.check(os.WriteFile(filepath.Join(dist, "InRelease"), signed.Bytes(), 0o644))
	ring, err := Keyring(key)
	m.check(err)
	m.check(os.WriteFile(filepath.Join(base, "gpg"), ring, 0o644))
}

// ReadDocker reads a file of Docker's repository, by its path below docker/linux/debian.
func (m *Mirror) ReadDocker(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(m.Dir, "docker", "linux", "debian", name))
}

// WriteDocker replaces it.
func (m *Mirror) WriteDocker(name string, data []byte) error {
	return os.WriteFile(filepath.Join(m.Dir, "docker", "linux", "debian", name), data, 0o644)
}

// thin builds a package that has only a file that names it.
func thin(to, name string) error {
	b, err := newBuilder(name, "docker", DockerVersion, Options{})
	if err != nil {
		return err
	}
	// The epoch and the revision are part of this version.
	b.info.Version, b.info.Release, b.info.Deb.Compression = DockerVersion, "", "gzip"
	if err := b.addText([]byte(name+"\n"), "/usr/share/doc/"+name+"/copyright", 0o644); err != nil {
		return err
	}
	return b.build(to)
}

// renamed makes docker-ce of docker.io: the same files and scripts under another name.
func renamed(debs, to, depends string, o Options) (err error) {
	found, err := filepath.Glob(filepath.Join(debs, "docker.io_*.deb"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("no docker.io in %s: %v", debs, err)
	}
	dir, err := os.MkdirTemp("", "docker-ce-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	run := func(args ...string) error {
		out, err := exec.Command("dpkg-deb", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("dpkg-deb %v: %w: %s", args, err, out)
		}
		return nil
	}
	if err := run("--raw-extract", slices.Max(found), dir); err != nil {
		return err
	}
	control := fmt.Sprintf("Package: docker-ce\nVersion: %s\nArchitecture: amd64\nMaintainer: Test lab <lab@example.com>\n"+
		"Depends: %s\nConflicts: docker.io\nDescription: for tests\n", DockerVersion, depends)
	if err := os.WriteFile(filepath.Join(dir, "DEBIAN", "control"), []byte(control), 0o644); err != nil {
		return err
	}
	postinst := filepath.Join(dir, "DEBIAN", "postinst")
	text, err := os.ReadFile(postinst)
	if err == nil {
		err = os.WriteFile(postinst, append(text, trouble("docker-ce", o)...), 0o755)
	}
	if err != nil {
		return err
	}
	return run("--root-owner-group", "-Zgzip", "-z1", "--build", dir, to)
}
