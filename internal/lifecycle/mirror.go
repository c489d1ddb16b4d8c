package lifecycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// MirrorRequest is what "anywhere mirror" was asked for.
type MirrorRequest struct {
	Dir       string   // absolute
	Region    string   // of the hosts that will take from the mirror
	Platforms []string // debian-12/amd64: a system of the table, and an architecture
	Families  []string // deb, rpm; none is all that can be registered, unless platforms are named
	Archs     []string // amd64, arm64; none is both
	ECSAgent  []string // versions; none is the latest
	SSMAgent  []string

	Artifacts string // --artifacts: where to take from; "" is AWS
	Keyring   string // --keyring: file with further public keys

	DryRun           bool
	DetailedExitcode bool
	LockTimeout      time.Duration
}

// MirrorResult is the "result" of mirror's document.
type MirrorResult struct {
	Directory  string          `json:"directory"`  // that --artifacts takes, as it is or behind a web server
	Region     string          `json:"region"`     // of the hosts that can take from it; run again for another one
	Source     string          `json:"source"`     // where the packages came from
	Manifest   string          `json:"manifest"`   // file that lists all packages of the mirror
	Packages   []MirrorPackage `json:"packages"`   // that this run was asked for
	Downloaded int64           `json:"downloaded"` // bytes of packages that this run has brought in
}

// MirrorPackage is one package of it.
type MirrorPackage struct {
	Product  string `json:"product"`  // amazon-ecs-init or amazon-ssm-agent
	Version  string `json:"version"`  // as in AWS's file names
	Family   string `json:"family"`   // deb or rpm
	Arch     string `json:"arch"`     // amd64 or arm64
	Path     string `json:"path"`     // below the directory
	Size     int64  `json:"size"`     // bytes; 0 is not known yet
	SHA256   string `json:"sha256"`   // empty until it is there
	Key      string `json:"key"`      // fingerprint of the key that signed it; empty until it is there
	SignedAt string `json:"signedAt"` // RFC 3339, UTC; empty until it is there
	Latest   bool   `json:"latest"`   // what the version latest means in this mirror
	Status   string `json:"status"`   // present, downloaded or planned
}

// What becomes of a package of a mirror.
const (
	mirrorPresent    = "present"
	mirrorDownloaded = "downloaded"
	mirrorPlanned    = "planned"
)

// mirrorArchs are the architectures that ECS Anywhere exists for, by Go's names.
var mirrorArchs = []string{"amd64", "arm64"}

// MirrorArchs are the words that --arch takes.
func MirrorArchs() []string { return slices.Clone(mirrorArchs) }

// MirrorFamilies are the words that --os-family takes: the families of packages that AWS has.
func MirrorFamilies() []string { return []string{artifact.Deb, artifact.RPM} }

// MirrorPlatforms are the words that --platform takes, without an architecture.
func MirrorPlatforms() (names []string) {
	for _, row := range platform.Table() {
		if row.Marker != "" || row.Family != platform.Deb && row.Family != platform.RPM {
			continue
		}
		if len(row.Versions) == 0 {
			names = append(names, row.ID)
		}
		for _, version := range row.Versions {
			if name := row.ID + "-" + version; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// kind is what packages differ in besides product and version.
type kind struct{ family, arch string }

func (k kind) String() string { return k.family + "/" + k.arch }

// Check refuses what cannot be meant, before anything is looked at.
func (req MirrorRequest) Check() error {
	if err := checkVersions(req.ECSAgent, req.SSMAgent); err != nil {
		return err
	}
	_, err := req.kinds()
	return err
}

// kinds are what the platforms that were asked for take.
func (req MirrorRequest) kinds() (kinds []kind, err error) {
	archs := req.Archs
	if len(archs) == 0 {
		archs = mirrorArchs
	}
	add := func(family string, archs []string) {
		for _, arch := range archs {
			if k := (kind{family, arch}); !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
	}
	for _, name := range req.Platforms {
		family, arch, err := parsePlatform(name)
		if err != nil {
			return nil, err
		}
		if arch != "" {
			add(family, []string{arch})
		} else {
			add(family, archs)
		}
	}
	families := req.Families
	if len(families) == 0 && len(req.Platforms) == 0 {
		for _, row := range platform.Table() {
			if family := string(row.Family); row.Built && slices.Contains(MirrorFamilies(), family) && !slices.Contains(families, family) {
				families = append(families, family)
			}
		}
	}
	for _, family := range families {
		add(family, archs)
	}
	return kinds, nil
}

// parsePlatform reads debian-12/amd64: the family of its packages, and the architecture if there is one.
func parsePlatform(name string) (family, arch string, err error) {
	system, arch, named := strings.Cut(name, "/")
	if named && !slices.Contains(mirrorArchs, arch) {
		return "", "", failure.New(failure.Usage, "--platform %q: there are no agents for %q", name, arch).
			WithRemedy("the architectures are %s", strings.Join(mirrorArchs, " and "))
	}
	for _, row := range platform.Table() {
		version, ok := strings.CutPrefix(system, row.ID+"-")
		if system != row.ID && !ok || row.Marker != "" {
			continue
		}
		if known := len(row.Versions) == 0 || slices.Contains(row.Versions, version); ok && !known || !ok && len(row.Versions) > 0 {
			continue
		}
		switch {
		case !row.Built && !row.Broken:
			return "", "", failure.New(failure.UnsupportedOS, "--platform %s: anywhere cannot register %s yet", name, row.System)
		case row.Family != platform.Deb && row.Family != platform.RPM, row.Broken:
			return "", "", failure.New(failure.UnsupportedOS, "--platform %s: %s takes no packages of AWS's agents: %s", name, row.System, row.Notes)
		}
		return string(row.Family), arch, nil
	}
	return "", "", failure.New(failure.Usage, "--platform %q is not a system of the table", name).
		WithRemedy("name it like debian-12, or like ubuntu-24.04/arm64; or give --os-family and --arch. The systems are %s",
			strings.Join(MirrorPlatforms(), ", "))
}

// mirroring is one run of it.
type mirroring struct {
	deps     Deps
	req      MirrorRequest
	source   *artifact.Source // whose cache is the mirror
	manifest artifact.Manifest
	kinds    []kind
	wanted   []artifact.Ref
	present  []artifact.Package // of the wanted ones, those that are there already
	result   MirrorResult
	warnings []string
	changed  bool
}

// Mirror downloads and verifies packages into a folder that --artifacts takes. It works on nobody's host: it needs no root
// and no credentials of AWS.
func Mirror(ctx context.Context, d Deps, req MirrorRequest) (Report, error) {
	m := &mirroring{deps: d, req: req}
	m.result = MirrorResult{
		Directory: req.Dir, Region: req.Region, Source: first(req.Artifacts, "AWS"), Packages: []MirrorPackage{},
		Manifest: filepath.Join(req.Dir, artifact.ManifestFile),
	}
	err := m.run(ctx)
	report := Report{Changed: m.changed, Warnings: m.warnings, Result: m.result}
	if err != nil {
		return report, err
	}
	planned := m.count(mirrorPlanned)
	switch {
	case planned > 0:
		report.Message = fmt.Sprintf("%d of %d packages would be downloaded into %s", planned, len(m.result.Packages), req.Dir)
		if req.DetailedExitcode {
			report.Exit = failure.ExitPending
		}
	case m.changed:
		report.Message = fmt.Sprintf("%s has all %d packages, verified; %d were downloaded", req.Dir, len(m.result.Packages), m.count(mirrorDownloaded))
	default:
		report.Message = fmt.Sprintf("nothing to do: %s has all %d packages, verified", req.Dir, len(m.result.Packages))
	}
	return report, nil
}

func (m *mirroring) count(status string) (n int) {
	for _, p := range m.result.Packages {
		if p.Status == status {
			n++
		}
	}
	return n
}

func (m *mirroring) run(ctx context.Context) (err error) {
	if m.req.Region == "" {
		return failure.New(failure.Usage, "--region is missing: AWS's buckets, and a mirror's folders, have the Region's name").
			WithRemedy("name the Region of the hosts that will take from the mirror, like --region eu-central-1")
	}
	if err := partition.CheckRegion(m.req.Region); err != nil {
		return err
	}
	if m.kinds, err = m.req.kinds(); err != nil {
		return err
	}
	keys, err := RegisterRequest{Keyring: m.req.Keyring}.keys()
	if err != nil {
		return err
	}
	owner := host.Owner{UID: m.deps.Host.Self.EUID}
	if owner.UID != 0 {
		owner.GID = os.Getegid()
	}
	m.source = (&artifact.Source{
		Base: m.req.Artifacts, HTTP: m.deps.HTTP, Keys: keys, Disk: m.deps.Host.Disk, Files: m.deps.Host.Files, Now: m.deps.Host.Now,
	}).Mirror(m.req.Dir, owner)
	if m.req.Artifacts == m.req.Dir {
		return failure.New(failure.Usage, "--artifacts and the mirror's folder are the same: %s", m.req.Dir)
	}
	if info, err := m.deps.Host.Files.Stat(m.req.Dir); err == nil && !info.IsDir() {
		return failure.New(failure.Usage, "--dir: %s is a file, and no folder for packages", m.req.Dir).WithRemedy("name another folder")
	}
	if m.manifest, err = m.source.Manifest(); err != nil {
		return err
	}
	if err := m.settle(ctx); err != nil || m.req.DryRun {
		return err
	}
	if m.changed, err = m.source.MakeMirror(); err != nil {
		return err
	}
	free, err := engine.Lock(ctx, m.deps.Host, filepath.Join(m.req.Dir, artifact.MirrorLock), m.deps.RunID, m.req.LockTimeout)
	if err != nil {
		return err
	}
	defer free()
	if m.manifest, err = m.source.Manifest(); err != nil { // as the run that had the lock before has left it
		return err
	}
	for _, pkg := range m.present {
		m.manifest.Add(pkg)
	}
	if err := m.download(ctx); err != nil {
		return err
	}
	return m.finish()
}

// settle decides on the packages, and finds out which are there. What cannot be had is told all at once, before anything
// is downloaded.
func (m *mirroring) settle(ctx context.Context) error {
	missing, err := m.resolve(ctx)
	if err != nil {
		return err
	}
	var absent []artifact.Ref
	for _, ref := range m.wanted {
		row := MirrorPackage{
			Product: string(ref.Product), Version: ref.Version, Family: ref.Family, Arch: ref.Arch, Path: ref.Key(), Status: mirrorPlanned,
		}
		if pkg, ok := m.source.Cached(ctx, ref); ok {
			m.present = append(m.present, pkg)
			row.is(pkg, mirrorPresent)
		} else {
			absent = append(absent, ref)
		}
		m.result.Packages = append(m.result.Packages, row)
	}
	more, err := m.source.Missing(ctx, absent...)
	if err != nil {
		return err
	}
	for _, name := range more {
		if !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return artifact.MissingFailure(missing).WithRemedy("check the versions, --platform and --region; nothing was downloaded")
	}
	m.markLatest()
	return nil
}

func (p *MirrorPackage) is(pkg artifact.Package, status string) {
	p.Size, p.SHA256, p.Key, p.Status = pkg.Size, pkg.SHA256, pkg.KeyFingerprint, status
	p.SignedAt = pkg.SignedAt.UTC().Format(time.RFC3339)
}

// resolve finds out which versions latest means. missing are the pieces by which it cannot.
func (m *mirroring) resolve(ctx context.Context) (missing []string, err error) {
	products := []struct {
		product  artifact.Product
		flag     string
		versions []string
		bad      func(string) (string, bool)
	}{
		{artifact.SSMAgent, "--ssm-agent-version", m.req.SSMAgent, ssmagent.KnownBad},
		{artifact.ECSInit, "--ecs-agent-version", m.req.ECSAgent, ecsagent.NotToInstall},
	}
	for _, p := range products {
		if len(p.versions) == 0 {
			p.versions = []string{artifact.Latest}
		}
		for _, asked := range p.versions {
			for _, k := range m.kinds {
				ref := artifact.Ref{Product: p.product, Version: asked, Family: k.family, Arch: k.arch, Region: m.req.Region}
				version, err := m.source.Resolve(ctx, ref)
				if failure.Is(err, failure.ArtifactMissing) {
					if text := failure.Of(err).Message; !slices.Contains(missing, text) {
						missing = append(missing, text)
					}
					continue
				}
				if err != nil {
					return nil, err
				}
				why, isBad := p.bad(version)
				if isBad && explicit(asked) == "" {
					return nil, failure.New(failure.KnownBadVersion, "the latest %s is %s: %s", p.product, version, why).
						WithRemedy("name another version: %s", p.flag)
				}
				if text := fmt.Sprintf("%s %s is known to be bad: %s", p.product, version, why); isBad && !slices.Contains(m.warnings, text) {
					m.warnings = append(m.warnings, text)
				}
				ref.Version = version
				if !slices.Contains(m.wanted, ref) {
					m.wanted = append(m.wanted, ref)
				}
			}
		}
	}
	return missing, nil
}

// mirrorStreams is how many packages are on their way at once: enough to use a line, and polite to a bucket.
const mirrorStreams = 4

// download brings in what is not there. The first that fails ends the others; what has come stays, and a later run goes on
// from it.
func (m *mirroring) download(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		mu     sync.Mutex
		failed error
		all    sync.WaitGroup
	)
	slots := make(chan struct{}, mirrorStreams)
	for i, ref := range m.wanted {
		if m.result.Packages[i].Status == mirrorPresent {
			continue
		}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			mu.Lock()
			over := failed != nil
			mu.Unlock()
			if over {
				return
			}
			pkg, err := m.fetch(ctx, ref)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				if failed == nil {
					failed = err
					stop()
				}
				return
			}
			m.changed = true
			m.result.Packages[i].is(pkg, mirrorDownloaded)
			m.result.Downloaded += pkg.Size
			m.manifest.Add(pkg)
		})
	}
	all.Wait()
	if failed != nil && m.changed {
		if _, err := m.source.WriteManifest(m.manifest); err != nil {
			m.warnings = append(m.warnings, fmt.Sprintf("the manifest is behind: %s", err))
		}
	}
	return failed
}

func (m *mirroring) fetch(ctx context.Context, ref artifact.Ref) (artifact.Package, error) {
	tell := func(e engine.Event) {
		if m.deps.Listen != nil {
			e.Time, e.Step = m.deps.Host.Now(), ref.Key()
			e.Title = fmt.Sprintf("%s %s for %s/%s", ref.Product, ref.Version, ref.Family, ref.Arch)
			m.deps.Listen(e)
		}
	}
	began := m.deps.Host.Now()
	tell(engine.Event{Kind: engine.Fetching})
	pkg, err := m.source.Fetch(artifact.WithProgress(ctx, func(done, total int64) {
		tell(engine.Event{Kind: engine.Progressed, Done: done, Total: total})
	}), ref)
	if err == nil {
		tell(engine.Event{Kind: engine.Fetched, Took: m.deps.Host.Now().Sub(began)})
	}
	return pkg, err
}

// newest is the newest version of a product in the mirror; with an empty kind, of all kinds.
func (m *mirroring) newest(product artifact.Product, k kind) (newest artifact.Ref, found bool) {
	compare := map[artifact.Product]func(a, b string) int{
		artifact.SSMAgent: ssmagent.CompareVersions, artifact.ECSInit: ecsagent.CompareVersions,
	}[product]
	refs := slices.Clone(m.wanted)
	for _, p := range m.manifest.Packages {
		refs = append(refs, p.Ref())
	}
	for _, ref := range refs {
		if ref.Product != product || ref.Region != m.req.Region || k != (kind{}) && k != (kind{ref.Family, ref.Arch}) {
			continue
		}
		if !found || compare(ref.Version, newest.Version) > 0 {
			newest, found = ref, true
		}
	}
	return newest, found
}

// markLatest says of each package whether latest will mean it, and warns where it will mean nothing.
func (m *mirroring) markLatest() {
	ssm, _ := m.newest(artifact.SSMAgent, kind{})
	for i, ref := range m.wanted {
		switch ref.Product {
		case artifact.SSMAgent:
			m.result.Packages[i].Latest = ref.Version == ssm.Version
		default:
			newest, _ := m.newest(ref.Product, kind{ref.Family, ref.Arch})
			m.result.Packages[i].Latest = ref.Version == newest.Version
		}
	}
	for _, p := range m.manifest.Packages { // the SSM agent has one latest for all
		k := kind{p.Family, p.Arch}
		if newest, ok := m.newest(artifact.SSMAgent, k); ok && p.Product == artifact.SSMAgent && p.Region == m.req.Region && newest.Version != ssm.Version {
			text := fmt.Sprintf("the mirror has no %s %s for %s, so latest cannot be had for it: anywhere mirror --dir %s --region %s --os-family %s --arch %s --ssm-agent-version %s",
				artifact.SSMAgent, ssm.Version, k, m.req.Dir, m.req.Region, k.family, k.arch, ssm.Version)
			if !slices.Contains(m.warnings, text) {
				m.warnings = append(m.warnings, text)
			}
		}
	}
}

// finish makes latest mean the newest, and lists what is there.
func (m *mirroring) finish() error {
	newest := []artifact.Ref{}
	if ref, ok := m.newest(artifact.SSMAgent, kind{}); ok {
		newest = append(newest, ref)
	}
	for _, k := range m.kinds {
		if ref, ok := m.newest(artifact.ECSInit, k); ok {
			newest = append(newest, ref)
		}
	}
	for _, ref := range newest {
		changed, err := m.source.SetLatest(ref)
		m.changed = m.changed || changed
		if err != nil {
			return err
		}
		m.manifest.AddLatest(ref)
	}
	changed, err := m.source.WriteManifest(m.manifest)
	m.changed = m.changed || changed
	return err
}
