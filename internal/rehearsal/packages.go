package rehearsal

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

func goarch() string { return runtime.GOARCH }

// packager unpacks packages below the throw-away root and keeps dpkg's database there. The few things that the real
// packages' scripts do, it does for them (facts: ssm-agent section 5.2, ecs-agent section 1.2).
type packager struct{ *machine }

func list(name string) string { return "/var/lib/dpkg/info/" + name + ".list" }

// Install unpacks and configures one package.
func (p *packager) Install(ctx context.Context, file string) error {
	opened, err := p.disk.Open(file)
	if err != nil {
		return err
	}
	name, version, arch, err := artifact.Control(opened)
	_ = opened.Close()
	if err != nil {
		return err
	}
	if err := p.beforeInstall(ctx, name); err != nil {
		return err
	}
	old, _ := p.disk.ReadFile(list(name)) // there is none before the first installation
	var paths []string
	err = artifact.Extract(ctx, p.disk, file, func(f artifact.File) error {
		at := "/" + f.Name
		paths = append(paths, at)
		return p.disk.WriteFile(at, f.Body, f.Mode, host.Owner{})
	})
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "install %s", name)
	}
	slices.Sort(paths)
	for _, at := range strings.Fields(string(old)) {
		if _, found := slices.BinarySearch(paths, at); !found {
			if err := p.disk.Remove(at); err != nil {
				return err
			}
		}
	}
	if err := p.put(list(name), strings.Join(paths, "\n")+"\n"); err != nil {
		return err
	}
	if err := p.setStatus(name, version, arch); err != nil {
		return err
	}
	switch name {
	case ssmagent.Package: // its postinst enables and starts the agent, registered or not
		if err := p.units.Enable(ctx, ssmagent.UnitName); err != nil {
			return err
		}
		return p.units.Start(ctx, ssmagent.UnitName)
	case ecsagent.Package:
		image := fmt.Sprintf("%s/ecs-agent-v%s.tar", ecsagent.CacheDir, version)
		return p.disk.Symlink(path.Base(image), ecsagent.CachedImage)
	}
	return nil
}

// beforeInstall is what the scripts of a package that is there already do before the files of another version come: both
// agents stop (facts: ecs-agent section 1.2, ssm-agent section 5.2).
func (p *packager) beforeInstall(ctx context.Context, name string) error {
	if _, err := p.disk.Stat(list(name)); err != nil {
		return nil //nolint:nilerr // it is not there
	}
	switch name {
	case ssmagent.Package:
		if err := p.units.Stop(ctx, ssmagent.UnitName); err != nil {
			return err
		}
		return p.units.Disable(ctx, ssmagent.UnitName)
	case ecsagent.Package:
		return p.units.Stop(ctx, ecsagent.Unit)
	}
	return nil
}

// Remove takes a package's files away, stopping the SSM agent as its prerm does.
func (p *packager) Remove(ctx context.Context, name string, _ bool) error {
	if name == ssmagent.Package {
		if err := p.units.Stop(ctx, ssmagent.UnitName); err != nil {
			return err
		}
		if err := p.units.Disable(ctx, ssmagent.UnitName); err != nil {
			return err
		}
	}
	text, err := p.disk.ReadFile(list(name))
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "remove %s", name)
	}
	for _, at := range append(strings.Fields(string(text)), list(name)) {
		if err := p.disk.Remove(at); err != nil {
			return err
		}
	}
	if name == ecsagent.Package {
		if err := p.disk.Remove(ecsagent.CachedImage); err != nil {
			return err
		}
	}
	return p.setStatus(name, "", "")
}

// Repair has nothing to do: nothing interrupts this package manager.
func (*packager) Repair(context.Context) error { return nil }

func (p *packager) put(at, text string) error {
	return p.disk.WriteFile(at, strings.NewReader(text), 0o644, host.Owner{})
}

// setStatus rewrites the database without the package, or with its new version.
func (p *packager) setStatus(name, version, arch string) error {
	const database = "/var/lib/dpkg/status"
	text, err := p.disk.ReadFile(database)
	if err != nil {
		return err
	}
	var kept []string
	for stanza := range strings.SplitSeq(string(text), "\n\n") {
		if strings.TrimSpace(stanza) != "" && !strings.HasPrefix(stanza, "Package: "+name+"\n") {
			kept = append(kept, strings.TrimSpace(stanza)+"\n")
		}
	}
	if version != "" {
		kept = append(kept, fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: %s\n", name, arch, version))
	}
	return p.put(database, strings.Join(kept, "\n"))
}

// runner runs the programs that the commands start themselves.
type runner struct{ *machine }

// Run runs amazon-ssm-agent in this process.
func (r *runner) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	switch cmd.Path {
	case snapCommand:
		return r.runSnap(ctx, cmd)
	case rpmProgram:
		return r.runRPM(ctx, cmd)
	case updateCA, redHatTrust:
		return host.Result{}, r.updateCA()
	}
	if form, err := ssmagent.FormOf(r.host().Reader); err != nil || cmd.Path != form.Binary() {
		return host.Result{}, fmt.Errorf("%s: there is no such program on the throw-away host", cmd.Path)
	}
	var out bytes.Buffer
	place := r.place(r.root, nil)
	place.Stdout, place.Stderr, place.Stdin = &out, &out, cmd.Stdin
	host.ChildHook(ctx)(host.Child{PID: os.Getpid(), Argv: masked(cmd)})
	agent := &simagent.SSM{Place: place, Version: r.ssmVersion()}
	return host.Result{ExitCode: agent.Main(context.WithoutCancel(ctx), cmd.Args), Output: out.String()}, nil
}

const updateCA = "/usr/sbin/update-ca-certificates"

// updateCA makes the bundle of what the administrator has added: the throw-away host trusts nobody else.
func (m *machine) updateCA() error {
	folder, target := "/usr/local/share/ca-certificates", "/etc/ssl/certs/ca-certificates.crt"
	if m.rpms != nil {
		folder, target = m.rpms.system.anchors, m.rpms.system.bundle
	}
	entries, err := m.disk.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	bundle := []byte(trustsNobody)
	for _, e := range entries {
		text, err := m.disk.ReadFile(path.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		bundle = append(bundle, text...)
	}
	return m.disk.WriteFile(target, bytes.NewReader(bundle), 0o644, host.Owner{})
}

func masked(cmd host.Cmd) []string {
	argv := []string{cmd.Path}
	for _, a := range cmd.Args {
		if slices.Contains(cmd.Secret, a) {
			a = "[redacted]"
		}
		argv = append(argv, a)
	}
	return argv
}

// Wait has nobody to wait for: children live and die with this process.
func (*runner) Wait(context.Context, host.Child) error { return nil }

// signer is who makes the rehearsal's packages: the throw-away key that they are signed with.
type signer struct {
	entity *openpgp.Entity
	unit   string // what the ECS agent's rpm calls its unit
}

func newSigner() (*signer, error) {
	entity, err := openpgp.NewEntity("Rehearsal", "throw-away", "rehearsal@localhost", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Now().Add(-time.Minute) },
	})
	if err != nil {
		return nil, fmt.Errorf("making a throw-away signing key: %w", err)
	}
	return &signer{entity, ecsagent.Unit}, nil
}

func (s *signer) public() ([]byte, error) {
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		return nil, err
	}
	if err := s.entity.Serialize(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil { // it writes the end
		return nil, err
	}
	return b.Bytes(), nil
}

func (s *signer) sign(data []byte) ([]byte, error) {
	var b bytes.Buffer
	err := openpgp.ArmoredDetachSign(&b, s.entity, bytes.NewReader(data), nil)
	return b.Bytes(), err
}

// ssmVersion and ecsVersion are the packages that the emulated buckets have.
const (
	ssmVersion = simagent.DefaultSSMVersion
	ecsVersion = simagent.DefaultECSVersion + "-1"
)

// newerSSM and newerECS are those that an upgrade leads to.
const (
	newerSSM = "3.3.5000.0"
	newerECS = "1.106.0-1"
)

// fillBuckets writes the emulated S3 buckets into a folder: both packages with their signatures, named as AWS names them.
func fillBuckets(dir *host.Dir, region string, key *signer) error {
	if err := addSSM(dir, region, key, ssmVersion); err != nil {
		return err
	}
	return addECS(dir, region, key, ecsVersion, "")
}

// addSSM adds a version of the SSM agent to the bucket, as the latest.
func addSSM(dir *host.Dir, region string, key *signer, version string) error {
	arch := goarch()
	contents := map[string]string{
		"/usr/bin/amazon-ssm-agent": program, "/usr/bin/ssm-agent-worker": program, "/usr/bin/ssm-session-worker": program,
		"/usr/bin/ssm-document-worker": program,
	}
	both, err := key.packages(ssmagent.Package, version+"-1", contents, map[string]string{
		unitDir + ssmagent.UnitName: ssmUnit,
	}, map[string]string{
		adminDir + ssmagent.UnitName: ssmUnit,
	})
	if err != nil {
		return err
	}
	bucket := "/amazon-ssm-" + region + "/"
	objects := map[string][]byte{bucket + "latest/VERSION": []byte(version)}
	for _, folder := range []string{"latest", version} {
		for i, at := range []string{"/debian_" + arch + "/amazon-ssm-agent.deb", "/linux_" + arch + "/amazon-ssm-agent.rpm"} {
			objects[bucket+folder+at], objects[bucket+folder+at+".sig"] = both[i].file, both[i].signature
		}
	}
	return fill(dir, objects)
}

// program stands for every program in the packages.
const program = "#!/bin/sh\necho 'a rehearsal runs this program inside anywhere itself' >&2\nexit 1\n"

// addECS adds a version of the ECS agent to the bucket, as the latest. fault is what that version does wrong.
func addECS(dir *host.Dir, region string, key *signer, version, fault string) error {
	arch := goarch()
	var image strings.Builder
	upstream, _, _ := strings.Cut(version, "-")
	if _, err := (simagent.Image{Binary: []byte(program), Arch: arch, Version: upstream, Fault: fault}).WriteTo(&image); err != nil {
		return err
	}
	contents := map[string]string{ecsagent.InitBinary: program, ecsagent.CacheState: "2"}
	both, err := key.packages(ecsagent.Package, version, contents, map[string]string{
		fmt.Sprintf("%s/ecs-agent-v%s.tar", ecsagent.CacheDir, version): image.String(),
		unitDir + ecsagent.Unit: ecsUnit,
	}, map[string]string{
		fmt.Sprintf("%s/ecs-agent-v%s.tar", ecsagent.CacheDir, upstream): image.String(),
		rpmUnits + key.unit: strings.Replace(ecsUnit, "RestartSec=", "RestartPreventExitStatus=5\nRestartSec=", 1),
	})
	if err != nil {
		return err
	}
	bucket, objects := "/amazon-ecs-agent-"+region+"/", map[string][]byte{}
	for _, name := range []string{"latest", version} {
		for i, end := range []string{arch + ".deb", rpmArch() + ".rpm"} {
			at := bucket + "amazon-ecs-init-" + name + "." + end
			objects[at], objects[at+".asc"] = both[i].file, both[i].signature
		}
	}
	return fill(dir, objects)
}

// The agents' units, as their packages bring them.
const (
	ssmUnit = "[Unit]\nDescription=amazon-ssm-agent\n\n[Service]\nType=simple\n" +
		"ExecStart=/usr/bin/amazon-ssm-agent\nKillMode=process\nRestart=always\nRestartPreventExitStatus=194\nRestartSec=90\n\n" +
		"[Install]\nWantedBy=multi-user.target\n"
	ecsUnit = "[Unit]\nDescription=Amazon Elastic Container Service - container agent\nWants=docker.service\nPartOf=docker.service\n" +
		"After=docker.service\n\n[Service]\nType=simple\nRestart=on-failure\nRestartSec=10s\nEnvironmentFile=-/var/lib/ecs/ecs.config\n" +
		"EnvironmentFile=-/etc/ecs/ecs.config\nExecStartPre=/usr/libexec/amazon-ecs-init pre-start\nExecStart=/usr/libexec/amazon-ecs-init start\n" +
		"ExecStop=/usr/libexec/amazon-ecs-init stop\nExecStopPost=/usr/libexec/amazon-ecs-init post-stop\n\n[Install]\nWantedBy=multi-user.target\n"
)

type signed struct{ file, signature []byte }

// packages makes a deb and an rpm of what is in both of them and in one.
func (s *signer) packages(name, version string, contents, inDeb, inRPM map[string]string) (both [2]signed, err error) {
	for i, more := range []map[string]string{inDeb, inRPM} {
		all := maps.Clone(contents)
		maps.Copy(all, more)
		if i == 0 {
			both[i].file, err = deb(name, version, goarch(), all)
		} else {
			both[i].file, err = rpm(name, version, rpmArch(), all)
		}
		if err == nil {
			both[i].signature, err = s.sign(both[i].file)
		}
		if err != nil {
			return both, err
		}
	}
	return both, nil
}

func fill(dir *host.Dir, objects map[string][]byte) error {
	for at, data := range objects {
		if err := dir.WriteFile(at, bytes.NewReader(data), 0o644, host.Owner{}); err != nil {
			return fmt.Errorf("filling the emulated buckets: %w", err)
		}
	}
	return nil
}

// deb makes a Debian package: an ar archive of a version, the control file and the files.
func deb(name, version, arch string, contents map[string]string) ([]byte, error) {
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\nMaintainer: rehearsal\nDescription: for a rehearsal\n", name, version, arch)
	controlTar, err := tarball(map[string]string{"/control": control})
	if err != nil {
		return nil, err
	}
	dataTar, err := tarball(contents)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, member := range []struct {
		name string
		data []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", controlTar}, {"data.tar.gz", dataTar}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", member.name, 0, 0, 0, "100644", len(member.data))
		b.Write(member.data)
		if len(member.data)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

func tarball(contents map[string]string) ([]byte, error) {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	t := tar.NewWriter(zip)
	var names []string
	for name := range contents {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		mode := int64(0o644)
		if strings.HasPrefix(contents[name], "#!") {
			mode = 0o755
		}
		if err := t.WriteHeader(&tar.Header{Name: "." + name, Mode: mode, Size: int64(len(contents[name])), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(t, contents[name]); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil { // it writes the end
		return nil, err
	}
	return b.Bytes(), nil
}
