package packages

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Mirror is a folder laid out as AWS's buckets of one Region.
type Mirror struct {
	Dir    string
	Region string
	ECSKey *Key // signs amazon-ecs-init
	SSMKey *Key // signs SSM Agent
	// DockerKey signs Docker's repository, where AddDocker is given it.
	DockerKey *Key
	// DistroKey signs what stands for a distribution's own repository. No keyring of anywhere's has it.
	DistroKey *Key

	t testing.TB
}

// All mirrors have these keys in common, so that what they sign need be built once.
var (
	dockerKey = sync.OnceValues(func() (*Key, error) { return NewKey("Test Docker", "docker@example.com") })
	distroKey = sync.OnceValues(func() (*Key, error) { return NewKey("Test distribution", "distro@example.com") })
)

// NewMirror makes an empty one that goes with the test.
func NewMirror(t testing.TB, region string) *Mirror {
	t.Helper()
	ecs, err := NewKey("Test ECS", "ecs@example.com")
	if err != nil {
		t.Fatal(err)
	}
	ssm, err := NewKey("Test SSM", "ssm@example.com")
	if err != nil {
		t.Fatal(err)
	}
	docker, err := dockerKey()
	if err != nil {
		t.Fatal(err)
	}
	distro, err := distroKey()
	if err != nil {
		t.Fatal(err)
	}
	return &Mirror{Dir: t.TempDir(), Region: region, ECSKey: ecs, SSMKey: ssm, DockerKey: docker, DistroKey: distro, t: t}
}

// Keyring is what a host must be told to trust the packages.
func (m *Mirror) Keyring() []byte {
	m.t.Helper()
	ring, err := Keyring(m.ECSKey, m.SSMKey, m.DockerKey)
	if err != nil {
		m.t.Fatal(err)
	}
	return ring
}

// AddECSInit builds a package, puts it into the bucket signed, makes it the latest, and returns its path.
func (m *Mirror) AddECSInit(o Options) string {
	m.t.Helper()
	bucket := filepath.Join(m.Dir, "amazon-ecs-agent-"+m.Region)
	suffix := o.arch() + ".deb"
	if o.RPM {
		suffix = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[o.arch()] + ".rpm"
	}
	file := filepath.Join(bucket, fmt.Sprintf("amazon-ecs-init-%s.%s", o.Version, suffix))
	latest := filepath.Join(bucket, "amazon-ecs-init-latest."+suffix)
	m.check(os.MkdirAll(bucket, 0o755))
	m.check(ECSInit(file, o))
	m.check(m.ECSKey.Sign(file, file+".asc", true))
	m.check(copyFile(file, latest))
	m.check(copyFile(file+".asc", latest+".asc"))
	return file
}

// AddSSMAgent builds a package, puts it into the bucket signed, makes it the latest, and returns its path.
func (m *Mirror) AddSSMAgent(o Options) string {
	m.t.Helper()
	bucket := filepath.Join(m.Dir, "amazon-ssm-"+m.Region)
	file := func(version string) string {
		if o.RPM {
			return filepath.Join(bucket, version, "linux_"+o.arch(), "amazon-ssm-agent.rpm")
		}
		return filepath.Join(bucket, version, "debian_"+o.arch(), "amazon-ssm-agent.deb")
	}
	for _, version := range []string{o.Version, "latest"} {
		m.check(os.MkdirAll(filepath.Dir(file(version)), 0o755))
	}
	m.check(SSMAgent(file(o.Version), o))
	m.check(m.SSMKey.Sign(file(o.Version), file(o.Version)+".sig", false))
	m.check(copyFile(file(o.Version), file("latest")))
	m.check(copyFile(file(o.Version)+".sig", file("latest")+".sig"))
	m.check(os.WriteFile(filepath.Join(bucket, "latest", "VERSION"), []byte(o.Version), 0o644))
	return file(o.Version)
}

func (m *Mirror) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal("packages: ", err)
	}
}

// copyFile copies rather than links: a test may spoil one of the two.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
