package rehearsal

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// rpmSystem is what is a system's own among those of the rpm families.
type rpmSystem struct {
	release  string   // its os-release
	programs []string // that get packages out of repositories, and that make the bundle of authorities
	database string   // rpm's folder
	anchors  string   // where an administrator puts authorities
	bundle   string
	unit     string // what the ECS agent's package calls its unit
}

const (
	rpmProgram = "/usr/bin/rpm"
	rpmUnits   = "/usr/lib/systemd/system/"
	suseUnit   = "amazon-ecs.service"

	redHatTrust, redHatAnchors = "/usr/bin/update-ca-trust", "/etc/pki/ca-trust/source/anchors"
	redHatBundle               = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
	oldDatabase, newDatabase   = "/var/lib/rpm", "/usr/lib/sysimage/rpm"
)

// rpmSystemOf is the system of the host that has these files, with its name; false when it is none of an rpm family that is
// known.
func rpmSystemOf(files host.Files) (is rpmSystem, name string, known bool) {
	found, err := host.ReadOSRelease(files)
	if err != nil {
		return is, "", false
	}
	row, verdict, there := platform.Find(found.ID, found.VersionID, found.Name, found.IDLike)
	text, err := files.ReadFile("/etc/os-release")
	if err != nil || !there || !row.Built || row.Family != platform.RPM || verdict != platform.Known {
		return is, "", false
	}
	is = rpmSystem{
		release: string(text), programs: []string{redHatTrust}, database: oldDatabase, anchors: redHatAnchors, bundle: redHatBundle, unit: row.ECSUnit,
	}
	switch row.Manager {
	case "zypper":
		is.programs, is.anchors, is.bundle = []string{updateCA}, "/etc/pki/trust/anchors", "/var/lib/ca-certificates/ca-bundle.pem"
		is.database = newDatabase
	case "dnf5":
		is.programs, is.database = append(is.programs, "/usr/bin/dnf"), newDatabase
	case "dnf":
		is.programs = append(is.programs, "/usr/bin/yum")
	}
	is.programs = append(is.programs, "/usr/bin/"+row.Manager)
	return is, found.PrettyName, true
}

// rpms is rpm on the throw-away host. The program's own rpm code runs it, as on a real host. What it does in which order, and
// says, is what rpm 4.18 does and says; seen on 2026-11-26.
type rpms struct {
	*machine
	system rpmSystem

	mu    sync.Mutex
	fails map[string]int // scripts that fail, as %post(amazon-ecs-init), and with what
	dies  func() bool    // asked at each moment of a transaction whether the power fails there; nil is never
}

// become makes the host one of an rpm family, before anything is installed on it.
func (m *machine) become(system rpmSystem) error {
	m.rpms = &rpms{machine: m, system: system, fails: map[string]int{}}
	for _, gone := range []string{"/var/lib/dpkg", updateCA, "/etc/ssl/certs", "/var/log/dpkg.log"} {
		if err := m.disk.RemoveAll(gone); err != nil {
			return fmt.Errorf("furnishing the throw-away host: %w", err)
		}
	}
	files := map[string]string{"/etc/os-release": system.release, m.rpms.database(): "[]", m.rpms.lock(): "", system.bundle: trustsNobody}
	for _, name := range append(system.programs, rpmProgram) {
		files[name] = program
	}
	for name, text := range files {
		mode := os.FileMode(0o644)
		if text == program {
			mode = 0o755
		}
		if err := m.disk.WriteFile(name, strings.NewReader(text), mode, host.Owner{}); err != nil {
			return fmt.Errorf("furnishing the throw-away host: %w", err)
		}
	}
	for _, dir := range []string{rpmUnits, adminDir, system.anchors} {
		if err := m.disk.Mkdir(dir, 0o755, host.Owner{}); err != nil {
			return fmt.Errorf("furnishing the throw-away host: %w", err)
		}
	}
	return nil
}

func (r *rpms) database() string { return r.system.database + "/rpmdb.sqlite" }
func (r *rpms) lock() string     { return r.system.database + "/.rpm.lock" }

// installed is a package in the database. One name can be there twice: an upgrade that was killed leaves both.
type installed struct {
	Name, Version, Arch string
	Files               []rpmFile
}

func (p installed) String() string { return p.Name + "-" + p.Version + "." + p.Arch }

func (p installed) same(other installed) bool { return p.String() == other.String() }

func (p installed) has(file string) (rpmFile, bool) {
	i := slices.IndexFunc(p.Files, func(f rpmFile) bool { return f.Path == file })
	if i < 0 {
		return rpmFile{}, false
	}
	return p.Files[i], true
}

// rpmFile is a file that a package claims. One without a digest it does not bring.
type rpmFile struct {
	Path, Digest string
	Flags        int
	Dir          bool
}

// Flags of files. Source: rpm 4.18, include/rpm/rpmfiles.h.
const (
	rpmConfig    = 1 << 0
	rpmNoReplace = 1 << 4
	rpmGhost     = 1 << 6
)

// claims are what the real packages claim without bringing it, and what of what they bring is configuration (facts: ecs-agent
// section 1.1, ssm-agent section 5.1).
var claims = map[string][]rpmFile{
	ecsagent.Package: {
		{Path: "/etc/ecs", Dir: true}, {Path: "/var/lib/ecs/data", Dir: true},
		{Path: ecsagent.ConfigPath, Flags: rpmConfig | rpmNoReplace | rpmGhost},
		{Path: ecsagent.JSONConfigPath, Flags: rpmConfig | rpmNoReplace | rpmGhost},
		{Path: ecsagent.CachedImage, Flags: rpmGhost},
	},
	ssmagent.Package: {{Path: "/var/lib/amazon/ssm", Dir: true}, {Path: adminDir + ssmagent.UnitName, Flags: rpmConfig | rpmNoReplace}},
}

// inFile is what a package file says of itself.
func (r *rpms) inFile(ctx context.Context, file string) (p installed, err error) {
	opened, err := r.disk.Open(file)
	if err != nil {
		return p, err
	}
	p.Name, p.Version, p.Arch, err = artifact.Identify(artifact.RPM, opened)
	_ = opened.Close()
	if err != nil {
		return p, err
	}
	p.Arch = rpmArch()
	p.Files = slices.Clone(claims[p.Name])
	err = artifact.Extract(ctx, r.disk, file, func(f artifact.File) error {
		var text bytes.Buffer
		if _, err := text.ReadFrom(f.Body); err != nil {
			return err
		}
		found := rpmFile{Path: "/" + f.Name}
		p.Files = slices.DeleteFunc(p.Files, func(claimed rpmFile) bool {
			is := claimed.Path == found.Path
			if is {
				found.Flags = claimed.Flags
			}
			return is
		})
		found.Digest = digest(text.Bytes())
		p.Files = append(p.Files, found)
		return nil
	})
	return p, err
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// all are the packages in the database, the one that was installed first at the beginning.
func (r *rpms) all() (all []installed, err error) {
	text, err := r.disk.ReadFile(r.database())
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	return all, err
}

func (r *rpms) store(all []installed) error {
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return r.disk.WriteFile(r.database(), bytes.NewReader(text), 0o644, host.Owner{})
}

// rpmFails is how rpm ends when something is not as it wants it.
func rpmFails(format string, args ...any) host.Result {
	return host.Result{ExitCode: 1, Output: fmt.Sprintf("error: "+format+"\n", args...)}
}

// powerCut is how a run looks of which nobody sees the end.
var powerCut = host.Result{ExitCode: -1}

// run is the command rpm.
func (r *rpms) run(ctx context.Context, args []string) host.Result {
	has := func(flag string) bool { return slices.Contains(args, flag) }
	what := args[len(args)-1]
	at := strings.TrimPrefix(what, r.disk.Local("/"))
	at = "/" + strings.TrimPrefix(at, "/")
	switch {
	case has("-qp"):
		p, err := r.inFile(ctx, at)
		if err != nil {
			return rpmFails("open of %s failed: %s", at, err)
		}
		return host.Result{Output: p.tell(args[slices.Index(args, "--qf")+1])}
	case has("-q"):
		return r.query(what, args[slices.Index(args, "--qf")+1])
	case has("-U"), has("-i") && has("--justdb"):
		p, err := r.inFile(ctx, at)
		if err != nil {
			return rpmFails("open of %s failed: %s", at, err)
		}
		return r.locked(func() host.Result {
			if has("--justdb") {
				return r.note(p)
			}
			return r.upgrade(ctx, p, at)
		})
	case has("-e"):
		return r.locked(func() host.Result { return r.erase(ctx, what) })
	}
	return rpmFails("%q: unknown option", args)
}

// tell fills in a format of --queryformat; what is in brackets is told of each file.
func (p installed) tell(format string) string {
	version, release, _ := strings.Cut(p.Version, "-")
	format, each := strings.CutPrefix(format, "[")
	if !each {
		return strings.NewReplacer("%{NAME}", p.Name, "%{VERSION}", version, "%{RELEASE}", release).Replace(format)
	}
	var b strings.Builder
	for _, f := range p.Files {
		b.WriteString(strings.NewReplacer("%{FILENAMES}", f.Path, "%{FILEDIGESTS}", f.Digest, "%{FILEFLAGS}", fmt.Sprint(f.Flags)).
			Replace(strings.TrimSuffix(format, "]")))
	}
	return b.String()
}

func (r *rpms) query(name, format string) host.Result {
	all, err := r.all()
	if err != nil {
		return rpmFails("cannot open Packages database in %s", r.system.database)
	}
	var b strings.Builder
	for _, p := range all {
		if p.Name == name {
			b.WriteString(p.tell(format))
		}
	}
	if b.Len() == 0 {
		return host.Result{ExitCode: 1, Output: "package " + name + " is not installed\n"}
	}
	return host.Result{Output: b.String()}
}

// locked does a transaction under rpm's lock. It does not wait for one that another holds.
func (r *rpms) locked(transaction func() host.Result) host.Result {
	free, err := lockRPM(r.disk.Local(r.lock()))
	if err != nil {
		return rpmFails("can't create transaction lock on %s (%s)", r.lock(), strings.Replace(err.Error(), "resource", "Resource", 1))
	}
	defer free()
	return transaction()
}

// moment is one at which the power can fail.
func (r *rpms) moment() bool {
	r.mu.Lock()
	dies := r.dies
	r.mu.Unlock()
	return dies != nil && dies()
}

// script runs what the real packages' scripts do: with how many of its name there are then. It returns what rpm says of one
// that fails (facts: ecs-agent section 1.2, ssm-agent section 5.2).
func (r *rpms) script(ctx context.Context, which string, p installed, count int) (said string) {
	if status, fails := r.failure(which, p); fails {
		return fmt.Sprintf("%s(%s) scriptlet failed, exit status %d\n", which, p, status)
	}
	var err error
	switch {
	case p.Name == ssmagent.Package && (which == "%prein" && count >= 2 || which == "%preun" && count == 0):
		err = r.units.Stop(ctx, ssmagent.UnitName)
		if err == nil && which == "%preun" {
			err = r.units.Disable(ctx, ssmagent.UnitName)
		}
	case p.Name == ssmagent.Package && which == "%posttrans":
		if err = r.units.Enable(ctx, ssmagent.UnitName); err == nil {
			err = r.units.Start(ctx, ssmagent.UnitName)
		}
	case p.Name == ecsagent.Package && which == "%post":
		version, _, _ := strings.Cut(p.Version, "-")
		err = r.disk.Symlink("ecs-agent-v"+version+".tar", ecsagent.CachedImage)
	}
	if err != nil {
		return fmt.Sprintf("%s(%s) scriptlet failed, exit status 1\n", which, p)
	}
	return ""
}

// note puts a package into the database alone.
func (r *rpms) note(p installed) host.Result {
	all, err := r.all()
	if err == nil {
		err = r.store(append(slices.DeleteFunc(all, p.same), p))
	}
	if err != nil {
		return rpmFails("%s", err)
	}
	return host.Result{}
}

// upgrade is rpm -U: files, database, %post; then the versions before it go, as does the same one; then %posttrans.
func (r *rpms) upgrade(ctx context.Context, p installed, file string) host.Result {
	all, err := r.all()
	if err != nil {
		return rpmFails("%s", err)
	}
	var old []installed
	for _, q := range all {
		if q.Name == p.Name {
			old = append(old, q)
		}
	}
	if r.moment() {
		return powerCut
	}
	if said := r.script(ctx, "%prein", p, len(old)+1); said != "" {
		said = "error: " + said + "error: " + p.String() + ": install failed\n"
		for _, q := range old {
			said += "error: " + q.String() + ": erase skipped\n"
		}
		return host.Result{ExitCode: 1, Output: said}
	}
	if r.moment() {
		return powerCut
	}
	if died, err := r.unpack(ctx, p, file, old); died {
		return powerCut
	} else if err != nil {
		return rpmFails("unpacking of archive failed on file %s", err)
	}
	if r.moment() {
		return powerCut
	}
	if err := r.store(append(slices.Clone(all), p)); err != nil {
		return rpmFails("%s", err)
	}
	if r.moment() {
		return powerCut
	}
	var said string
	warn := func(text string) {
		if text != "" {
			said += "warning: " + text
		}
	}
	warn(r.script(ctx, "%post", p, len(old)+1))
	for i, q := range old {
		warnings, died, err := r.drop(ctx, q, len(old)-i)
		said += warnings
		if died {
			return powerCut
		}
		if err != nil {
			return rpmFails("%s", err)
		}
	}
	if r.moment() {
		return powerCut
	}
	warn(r.script(ctx, "%posttrans", p, len(old)+1))
	if r.moment() {
		return powerCut
	}
	return host.Result{Output: said}
}

// unpack writes a package's files. A configuration file that somebody has changed stays, with the package's own beside it.
func (r *rpms) unpack(ctx context.Context, p installed, file string, old []installed) (died bool, err error) {
	for _, f := range p.Files {
		if f.Dir {
			if err := r.disk.Mkdir(f.Path, 0o755, host.Owner{}); err != nil {
				return false, err
			}
		}
	}
	n := 0
	err = artifact.Extract(ctx, r.disk, file, func(f artifact.File) error {
		at := "/" + f.Name
		if n++; n == 2 && r.moment() {
			died = true
			return r.disk.WriteFile(at+";65a1b2c3", strings.NewReader("half of it"), 0o600, host.Owner{})
		}
		if died {
			return nil
		}
		mine, _ := p.has(at)
		if there, err := r.disk.ReadFile(at); err == nil && mine.Flags&rpmConfig != 0 {
			now, kept := digest(there), false
			for _, q := range old {
				before, _ := q.has(at)
				kept = kept || before.Digest == mine.Digest
				if before.Digest == now {
					now = mine.Digest // nobody has changed it
				}
			}
			switch {
			case now != mine.Digest && kept:
				return nil
			case now != mine.Digest:
				at += ".rpmnew"
			}
		}
		return r.disk.WriteFile(at, f.Body, f.Mode, host.Owner{})
	})
	return died, err
}

// erase is rpm -e --allmatches.
func (r *rpms) erase(ctx context.Context, name string) host.Result {
	all, err := r.all()
	if err != nil {
		return rpmFails("%s", err)
	}
	all = slices.DeleteFunc(all, func(p installed) bool { return p.Name != name })
	if len(all) == 0 {
		return rpmFails("package %s is not installed", name)
	}
	if r.moment() {
		return powerCut
	}
	var said string
	for i, p := range all {
		if status, fails := r.failure("%preun", p); fails {
			return rpmFails("%%preun(%s) scriptlet failed, exit status %d\nerror: %s: erase failed", p, status, p)
		}
		warnings, died, err := r.drop(ctx, p, len(all)-1-i)
		said += warnings
		if died || r.moment() {
			return powerCut
		}
		if err != nil {
			return rpmFails("%s", err)
		}
	}
	return host.Result{Output: said}
}

// failure is how a script of a package, or of this version of it, is to fail.
func (r *rpms) failure(which string, p installed) (status int, fails bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if status, fails = r.fails[which+"("+p.Name+")"]; !fails {
		status, fails = r.fails[which+"("+p.Name+"-"+p.Version+")"]
	}
	return status, fails
}

// drop takes a package's files away that no other one has, and the package out of the database. One of its files goes even
// where it never brought it: of configuration some rpms do so, the one of 4.18 leaves it. What it brought and somebody has
// changed is kept under another name.
func (r *rpms) drop(ctx context.Context, p installed, left int) (said string, died bool, err error) {
	warn := func(text string) {
		if text != "" {
			said += "warning: " + text
		}
	}
	warn(r.script(ctx, "%preun", p, left))
	if r.moment() {
		return said, true, nil
	}
	all, err := r.all()
	if err != nil {
		return said, false, err
	}
	one := slices.IndexFunc(all, p.same) // of two of the same version it is the older one
	if one < 0 {
		return said, false, nil
	}
	all = slices.Delete(all, one, one+1)
	var dirs []string
	for i, f := range p.Files {
		if slices.ContainsFunc(all, func(q installed) bool { _, has := q.has(f.Path); return has }) {
			continue
		}
		if i == len(p.Files)/2 && r.moment() {
			return said, true, nil
		}
		if f.Dir {
			dirs = append(dirs, f.Path)
			continue
		}
		text, readErr := r.disk.ReadFile(f.Path)
		if f.Flags&rpmConfig != 0 && f.Flags&rpmGhost == 0 && readErr == nil && digest(text) != f.Digest {
			said += "warning: " + f.Path + " saved as " + f.Path + ".rpmsave\n"
			_ = r.disk.Remove(f.Path + ".rpmsave")
			err = r.disk.Rename(f.Path, f.Path+".rpmsave")
		} else {
			err = r.disk.Remove(f.Path)
		}
		if err != nil {
			return said, false, err
		}
	}
	for _, dir := range dirs {
		if entries, err := r.disk.ReadDir(dir); err == nil && len(entries) == 0 {
			if err := r.disk.Remove(dir); err != nil {
				return said, false, err
			}
		}
	}
	warn(r.script(ctx, "%postun", p, left))
	if r.moment() {
		return said, true, nil
	}
	return said, false, r.store(all)
}

// runRPM is the host's runner for it.
func (r *runner) runRPM(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	if r.rpms == nil {
		return host.Result{}, fmt.Errorf("%s: there is no such program on the throw-away host", cmd.Path)
	}
	host.ChildHook(ctx)(host.Child{PID: os.Getpid(), Argv: append([]string{path.Base(cmd.Path)}, cmd.Args...)})
	return r.rpms.run(context.WithoutCancel(ctx), cmd.Args), nil
}

// rpmArch is what an rpm calls this machine's architecture.
func rpmArch() string { return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[goarch()] }

// rpm makes a package: a lead, an empty header of signatures, a header, and the files. AWS's signatures are beside the file.
// Source: https://rpm-software-management.github.io/rpm/manual/format_v4.html, read 2026-11-26.
func rpm(name, version, arch string, contents map[string]string) ([]byte, error) {
	lead := make([]byte, 96)
	copy(lead, "\xed\xab\xee\xdb\x03\x00\x00\x00\x00\x01"+name+"-"+version)
	lead[77], lead[79] = 1, 5 // Linux, and a header of signatures
	upstream, release, _ := strings.Cut(version, "-")
	const title, ofVersion, ofRelease, architecture, format, compressor = 1000, 1001, 1002, 1022, 1124, 1125
	b := append(lead, rpmHeader(nil)...)
	b = append(b, rpmHeader([]rpmTag{
		{title, name}, {ofVersion, upstream}, {ofRelease, release}, {architecture, arch}, {format, "cpio"}, {compressor, "gzip"},
	})...)
	var payload bytes.Buffer
	zip := gzip.NewWriter(&payload)
	if _, err := zip.Write(cpio(contents)); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil { // it writes the end
		return nil, err
	}
	return append(b, payload.Bytes()...), nil
}

type rpmTag struct {
	tag  uint32
	text string
}

// rpmHeader makes a header of strings.
func rpmHeader(tags []rpmTag) []byte {
	const ofStrings = 6
	var index, store []byte
	for _, t := range tags {
		for _, n := range []uint32{t.tag, ofStrings, uint32(len(store)), 1} {
			index = binary.BigEndian.AppendUint32(index, n)
		}
		store = append(store, t.text+"\x00"...)
	}
	b := []byte("\x8e\xad\xe8\x01\x00\x00\x00\x00")
	b = binary.BigEndian.AppendUint32(b, uint32(len(tags)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(store)))
	return append(append(b, index...), store...)
}

// cpio makes an archive of the form newc.
func cpio(contents map[string]string) []byte {
	var b bytes.Buffer
	entry := func(name string, mode int, text string) {
		for _, part := range []string{fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
			b.Len(), mode, 0, 0, 1, 0, len(text), 0, 0, 0, 0, len(name)+1, 0, name), text} {
			b.WriteString(part)
			b.Write(make([]byte, -len(part)&3))
		}
	}
	names := make([]string, 0, len(contents))
	for name := range contents {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		mode := 0o100644
		if strings.HasPrefix(contents[name], "#!") {
			mode = 0o100755
		}
		entry("."+name, mode, contents[name])
	}
	entry("TRAILER!!!", 0, "")
	return b.Bytes()
}

// borrows has the stage's host play this machine.
func (s *stage) borrows(system rpmSystem, name string) error {
	s.machine.borrows = name
	return s.playsRPM(system)
}

// playsRPM makes the stage's host, which is bare, one of an rpm family, and the packages what it takes.
func (s *stage) playsRPM(system rpmSystem) error {
	if err := s.machine.become(system); err != nil {
		return err
	}
	if s.key.unit = system.unit; system.unit == ecsagent.Unit {
		return nil
	}
	return addECS(s.buckets, s.site.region, s.key, ecsVersion, "")
}
