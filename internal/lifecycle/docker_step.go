package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

// Choices of --docker-source besides the sources of the platform table.
const (
	DockerAuto = "auto" // the first source of the table that can be reached
	DockerNone = "none" // Docker must be there
)

// DockerSources are the choices of --docker-source.
var DockerSources = []string{DockerAuto, platform.SourceDocker, platform.SourceDistro, DockerNone}

const (
	// AptDir is where what Docker's packages need is downloaded to.
	AptDir = DataDir + "/apt"
	// What the host takes Docker's updates from. They have the names that Docker's own instructions use, so that who
	// follows those later finds the same.
	dockerKeyring = "/etc/apt/keyrings/docker.asc"
	dockerList    = "/etc/apt/sources.list.d/docker.list"
	dockerKeyRPM  = "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker-ce"
	dockerRepo    = "/etc/yum.repos.d/docker-ce.repo"
	// aptHTTPS is how apt reaches https; before 1.5 (Debian 9, Ubuntu 16.04) it is a package of its own.
	aptHTTPS = "/usr/lib/apt/methods/https"

	dockerStepID = "docker.package"
	dockerKind   = "docker.install"
	pinDocker    = "docker" // the source that was settled on
)

// reachTime bounds how long Docker's repository is waited for where there is another source.
const reachTime = 10 * time.Second

// upTime is how long a daemon that was just installed may take until it answers.
const upTime = time.Minute

// OwnedDocker is the Docker that anywhere installed. It stays when the registration goes.
type OwnedDocker struct {
	Run      string            `json:"run"` // the operation that did it
	Source   string            `json:"source"`
	Packages map[string]string `json:"packages"` // those that were not there before, with their versions
	Replaced map[string]string `json:"replaced"` // versions of packages that were there and had to be newer
	Files    []string          `json:"files"`    // repository and key
	Folders  []string          `json:"folders"`  // that were not there before
	Group    bool              `json:"group"`    // the group docker was not there before
}

// installing is how a missing Docker is to be installed.
type installing struct {
	sources  []string // that may be used, the better first; none leaves the step out
	system   string   // as Docker's repository names it
	codename string
	due      bool   // this run is to install it, or to finish that
	key      []byte // of the repository
}

// settleDocker decides from where a missing Docker may be installed. That is nobody's business on a host that has it.
func (r *registration) settleDocker(ctx context.Context, release host.OSRelease) error {
	asked := first(r.req.DockerSource, DockerAuto)
	if asked == DockerNone {
		return nil
	}
	if asked == DockerAuto {
		r.docker.sources = slices.Clone(r.row.Docker)
	} else {
		r.docker.sources = []string{asked}
	}
	r.docker.system, r.docker.codename = first(r.row.DockerFolder, r.row.ID), codename(release, r.row.ID)
	if r.row.Family == platform.RPM {
		_, arch, err := platform.Arch(r.deps.Host.Self.GOARCH)
		if err != nil {
			return err
		}
		r.docker.codename = rpmRelease(release, r.row.ID, arch)
	}
	owned, err := r.ownDocker(r.deps.Host.Reader)
	if err != nil {
		return err
	}
	info, err := docker.Find(ctx, r.deps.Host.Reader)
	r.docker.due = owned != nil || err == nil && !info.Present
	if err != nil || info.Present {
		return err
	}
	if asked != DockerAuto && !slices.Contains(r.row.Docker, asked) {
		return failure.New(failure.Usage, "--docker-source %s: %s has no Docker from there", asked, release.PrettyName).
			WithRemedy("leave --docker-source out, or install Docker yourself and give --docker-source none")
	}
	if asked == DockerAuto && owned == nil {
		return r.dropUnfit()
	}
	return nil
}

// dropUnfit passes over Docker's own packages where they cannot be: no name for the release, an apt that cannot read
// https, or the distribution's containerd in use, which they would have to replace.
func (r *registration) dropUnfit() error {
	if !slices.Contains(r.docker.sources, platform.SourceDistro) {
		return nil
	}
	drop := r.docker.codename == ""
	for _, name := range docker.Conflicting {
		p, err := r.deps.Host.Packages.Package(name)
		if err != nil {
			return err
		}
		drop = drop || p.Installed
	}
	if r.row.Family == platform.Deb && (r.req.Artifacts == "" || strings.HasPrefix(r.req.Artifacts, "https:")) {
		_, err := r.deps.Host.Files.Stat(aptHTTPS)
		drop = drop || missing(err)
	}
	if drop {
		r.docker.sources = []string{platform.SourceDistro}
	}
	return nil
}

// codename is the release's name in Docker's repository. A system that only resembles another says which release of it
// it is made from; before 2018 the name stands in VERSION alone.
func codename(release host.OSRelease, system string) string {
	if release.ID != system {
		return release.Fields[strings.ToUpper(system)+"_CODENAME"]
	}
	_, after, _ := strings.Cut(release.Fields["VERSION"], "(")
	name, _, _ := strings.Cut(after, ")")
	return first(release.VersionCodename, strings.ToLower(name))
}

// rpmRelease is the release's folder in Docker's repository for rpms: the version's first part and the architecture. Of a
// system that only resembles another, nobody can tell it.
func rpmRelease(release host.OSRelease, system, arch string) string {
	major, _, _ := strings.Cut(release.VersionID, ".")
	if release.ID != system || major == "" {
		return ""
	}
	return major + "/" + arch
}

// dockerFiles are where the host has the key of Docker's repository, and its list of sources.
func (r *registration) dockerFiles() (keyring, list string) {
	if r.row.Family == platform.RPM {
		return dockerKeyRPM, dockerRepo
	}
	return dockerKeyring, dockerList
}

// dockerFrom says where Docker will come from; "" when this run does not install it.
func (r *registration) dockerFrom() string {
	if !r.docker.due {
		return ""
	}
	sources := r.docker.sources
	if chosen := r.pins[pinDocker]; chosen != "" {
		sources = []string{chosen}
	}
	var names []string
	for _, source := range sources {
		names = append(names, docker.SourceName(r.row, source))
	}
	return strings.Join(names, ", else ")
}

// resolveDocker settles on a source. Nothing of it is paid by a host that has Docker.
func (r *registration) resolveDocker(ctx context.Context, pins map[string]string) error {
	if len(r.docker.sources) == 0 || pins[pinDocker] != "" {
		return nil
	}
	info, err := docker.Find(ctx, r.deps.Host.Reader)
	if err != nil || info.Present {
		return err
	}
	_, list := r.dockerFiles()
	if _, err := r.deps.Host.Files.Space(path.Dir(list)); failure.Is(err, failure.ReadOnly) {
		return err
	}
	chosen := r.docker.sources[0]
	if chosen == platform.SourceDocker {
		alone := len(r.docker.sources) == 1
		err := r.reachDocker(ctx, alone)
		switch {
		case err == nil:
		case alone || ctx.Err() != nil || failure.Is(err, failure.ArtifactKey):
			return err
		default:
			chosen = r.docker.sources[1]
			r.warnings = append(r.warnings, fmt.Sprintf("Docker is installed from %s, for Docker's own repository cannot be used: %s",
				docker.SourceName(r.row, chosen), failure.Of(err).Message))
		}
	}
	pins[pinDocker] = chosen
	return nil
}

// reachDocker fetches the key of Docker's repository. Where there is another source it is not waited for long.
func (r *registration) reachDocker(ctx context.Context, alone bool) error {
	if !alone {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, reachTime,
			failure.New(failure.Network, "it did not answer within %s", reachTime))
		defer cancel()
	}
	repository, err := r.source.DockerRepository(r.docker.system)
	if err != nil {
		return err
	}
	if r.docker.codename == "" {
		return failure.New(failure.ArtifactMissing, "/etc/os-release does not say by which name Docker's repository knows this release").
			WithRemedy("install Docker yourself and give --docker-source none, or --docker-source distro")
	}
	r.docker.key, err = repository.Key(ctx, r.docker.codename)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if failure.Is(err, failure.ArtifactMissing) {
		return failure.New(failure.ArtifactMissing, "%s has nothing for %s", repository.Name(), r.docker.codename).
			WithEvidence("%s", failure.Of(err).Message).
			WithRemedy("--docker-source distro, or install Docker yourself; a mirror has it below docker/ of the --artifacts location")
	}
	return err
}

// dockerPackage installs Docker where there is none. A Docker that is there is left alone, whatever it is: the checks
// judge it.
func (r *registration) dockerPackage() engine.Step {
	return engine.Step{
		ID: dockerStepID, Title: "Install Docker",
		Observe: r.observeDocker,
		Fetch: func(ctx context.Context) error {
			set, err := r.dockerSet(ctx)
			if err != nil {
				return err
			}
			_, err = r.deps.Host.Repositories.Fetch(ctx, set)
			return err
		},
		Change: r.installDocker,
	}
}

func (r *registration) observeDocker(ctx context.Context, reader host.Reader) (engine.Obs, error) {
	owned, err := r.ownDocker(reader)
	if err != nil {
		return engine.Obs{}, err
	}
	look := docker.Inspect
	if owned == nil {
		look = docker.Find
	}
	info, err := look(ctx, reader)
	if err != nil {
		return engine.Obs{}, err
	}
	pending := func(format string, args ...any) (engine.Obs, error) {
		return engine.Obs{State: engine.Pending, Detail: fmt.Sprintf(format, args...)}, nil
	}
	switch {
	case owned == nil && !info.Present:
		var names []string
		for _, source := range r.docker.sources {
			if chosen := r.pins[pinDocker]; chosen == "" || chosen == source {
				names = append(names, strings.Join(docker.Packages(r.row, source), ", ")+" from "+docker.SourceName(r.row, source))
			}
		}
		return pending("install %s", strings.Join(names, ", else "))
	case owned == nil:
		return engine.Obs{State: engine.OK, Detail: string(info.Flavour) + " is there"}, nil
	}
	for _, name := range slices.Sorted(maps.Keys(owned.Packages)) {
		if p, err := reader.Packages.Package(name); err != nil || !p.Installed {
			return engine.Obs{State: engine.Pending, Detail: name + " is not installed, or half"}, err
		}
	}
	for _, file := range owned.Files {
		if _, err := reader.Files.Stat(file); missing(err) {
			return pending("write %s", file)
		}
	}
	if !info.Running {
		return pending("Docker is installed and does not answer: %s", info.Why)
	}
	if ok, move := docker.Fits(info, r.pins[pinECS]); !ok {
		return engine.Obs{}, failure.New(failure.DockerVersion, "the Docker that was installed does not fit: %s", move)
	}
	return engine.Obs{State: engine.OK, Detail: fmt.Sprintf("Docker %s from %s", info.Version, docker.SourceName(r.row, owned.Source))}, nil
}

// operation is the id of the operation that this run is a part of.
func (r *registration) operation() string {
	if r.resumed != nil {
		return r.resumed.RunID
	}
	return r.deps.RunID
}

// ownDocker is what this operation has recorded of its own Docker; nil when it has not begun with it.
func (r *registration) ownDocker(reader host.Reader) (*OwnedDocker, error) {
	record, err := readRecord(reader)
	if err != nil || record.Docker == nil || record.Docker.Run != r.operation() {
		return nil, err
	}
	return record.Docker, nil
}

// dockerSet is what the package manager has to get. Its Source is empty where the host takes packages from Docker
// already: apt refuses to read one repository under two keys.
func (r *registration) dockerSet(ctx context.Context) (host.PackageSet, error) {
	chosen := r.pins[pinDocker]
	set := host.PackageSet{Names: docker.Packages(r.row, chosen), Dir: AptDir, Again: r.resumed != nil}
	if chosen != platform.SourceDocker {
		set.Enable = r.row.DockerEnable
		return set, nil
	}
	repository, err := r.source.DockerRepository(r.docker.system)
	if err != nil {
		return set, err
	}
	disk, files := r.deps.Host.Disk, r.deps.Host.Files
	cached := path.Join(AptDir, "docker.asc")
	if r.docker.key == nil {
		if old, err := files.ReadFile(cached); err == nil && repository.Trusted(old) {
			r.docker.key = old
		} else if err := r.reachDocker(ctx, true); err != nil {
			return set, err
		}
	}
	for _, dir := range []string{DataDir, AptDir} {
		if err := disk.Mkdir(dir, 0o700, host.Owner{}); err != nil {
			return set, err
		}
	}
	if err := disk.WriteFile(cached, bytes.NewReader(r.docker.key), 0o600, host.Owner{}); err != nil {
		return set, err
	}
	lists := aptLists
	if r.row.Family == platform.RPM {
		lists = rpmLists
	}
	listed, err := lists(files, repository.URL)
	if err == nil && r.row.Family == platform.RPM {
		set.Key = cached
	}
	if err != nil || listed {
		return set, err
	}
	if r.row.Family == platform.RPM {
		set.Source = ownRepository(repository.URL, r.docker.codename)
		return set, nil
	}
	set.Source, err = r.dockerLine(repository, disk.Local(cached))
	return set, err
}

// ownRepository is Docker's repository as a front end of rpm reads it this once. It verifies nothing, for it would take the
// key into the host's own database: host.Rpm does, with a database for that alone.
func ownRepository(url, release string) string {
	return fmt.Sprintf("[anywhere-docker]\nname=Docker\nbaseurl=%s/%s/stable\nenabled=1\ngpgcheck=0\nrepo_gpgcheck=0\n", url, release)
}

// lastingRepository is what the host takes updates from. Without variables, which not every front end fills in alike.
func lastingRepository(url, release string) string {
	return fmt.Sprintf("# Written by anywhere.\n[docker-ce-stable]\nname=Docker CE Stable\nbaseurl=%s/%s/stable\nenabled=1\ngpgcheck=1\n"+
		"gpgkey=file://%s\n", url, release, dockerKeyRPM)
}

// rpmLists reports whether the host's own sources name a repository that is on: its address, with a release behind it or
// a variable.
func rpmLists(files host.Files, url string) (bool, error) {
	entries, err := files.ReadDir(path.Dir(dockerRepo))
	if err != nil && !missing(err) {
		return false, err
	}
	for _, entry := range entries {
		if path.Ext(entry.Name()) != ".repo" {
			continue
		}
		text, err := files.ReadFile(path.Join(path.Dir(dockerRepo), entry.Name()))
		if err != nil && !missing(err) {
			return false, err
		}
		for section := range strings.SplitSeq("\n"+string(text), "\n[") {
			on, named := true, false
			for line := range strings.Lines(section) {
				key, value, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), " ", ""), "=")
				on = on && !(key == "enabled" && value == "0")
				named = named || key == "baseurl" && strings.HasPrefix(value, url+"/") && strings.HasSuffix(strings.TrimRight(value, "/"), "/stable")
			}
			if on && named {
				return true, nil
			}
		}
	}
	return false, nil
}

// dockerLine is Docker's repository as sources.list(5) has it.
func (r *registration) dockerLine(repository artifact.DockerRepository, key string) (string, error) {
	arch, _, err := platform.Arch(r.deps.Host.Self.GOARCH)
	return fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s stable", arch, key, repository.URL, r.docker.codename), err
}

// aptLists reports whether the host's own sources name a repository.
func aptLists(files host.Files, url string) (bool, error) {
	names := []string{host.AptSources}
	entries, err := files.ReadDir(host.AptSourceDir)
	if err != nil && !missing(err) {
		return false, err
	}
	for _, entry := range entries {
		if ext := path.Ext(entry.Name()); ext == ".list" || ext == ".sources" {
			names = append(names, path.Join(host.AptSourceDir, entry.Name()))
		}
	}
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil && !missing(err) {
			return false, err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
				continue
			}
			for _, word := range strings.Fields(line) {
				if strings.TrimRight(word, "/") == url {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// installDocker installs what Fetch has brought, and waits until the daemon answers.
func (r *registration) installDocker(ctx context.Context, tx *engine.Tx) error {
	set, err := r.dockerSet(ctx)
	if err != nil {
		return err
	}
	repositories := r.deps.Host.Repositories
	planned, err := repositories.Planned(ctx, set)
	if err != nil {
		return err
	}
	owned, files, err := r.claimDocker(tx.Reader(), set, planned)
	if err != nil {
		return err
	}
	if err := r.own(ctx, tx, func(record *Record) { record.Docker = owned }); err != nil {
		return err
	}
	for _, name := range owned.Files {
		if err := tx.WriteFile(ctx, name, bytes.NewReader(files[name]), 0o644); err != nil {
			return err
		}
	}
	if len(owned.Files) > 0 {
		set.Source = "" // it is the host's own now
	}
	err = tx.Effect(ctx, dockerKind, owned, func(ctx context.Context) error {
		if err := repositories.InstallSet(ctx, set); err != nil {
			return err
		}
		return r.startDocker(ctx)
	})
	if err != nil {
		return err
	}
	return awaitDocker(ctx, tx)
}

// claimDocker says what the installation makes, before it does: what an earlier run of this operation has said of it, and
// what is missing still. files has the content of those that are to be written.
func (r *registration) claimDocker(
	reader host.Reader, set host.PackageSet, planned []host.PlannedPackage,
) (owned *OwnedDocker, files map[string][]byte, err error) {
	owned, err = r.ownDocker(reader)
	if err != nil {
		return nil, nil, err
	}
	if owned == nil {
		owned = &OwnedDocker{
			Run: r.operation(), Source: r.pins[pinDocker], Packages: map[string]string{}, Replaced: map[string]string{},
			Files: []string{}, Folders: []string{},
		}
		for _, folder := range docker.Folders {
			if _, err := reader.Files.Lstat(folder); missing(err) {
				owned.Folders = append(owned.Folders, folder)
			} else if err != nil {
				return nil, nil, err
			}
		}
		if set.Source != "" {
			keyring, list := r.dockerFiles()
			owned.Files = []string{keyring, list}
		}
		_, there, err := groupOf(reader.Files, docker.Group)
		if err != nil {
			return nil, nil, err
		}
		owned.Group = !there
	}
	for _, p := range planned {
		_, ours := owned.Packages[p.Name]
		before, err := reader.Packages.Package(p.Name)
		switch {
		case err != nil:
			return nil, nil, err
		case ours, owned.Replaced[p.Name] != "":
		case p.Before == "" && !before.Partial:
			owned.Packages[p.Name] = p.Version
		default:
			owned.Replaced[p.Name] = first(p.Before, before.Version)
		}
	}
	if owned.Source != platform.SourceDocker || len(owned.Files) == 0 {
		return owned, nil, nil
	}
	repository, err := r.source.DockerRepository(r.docker.system)
	if err != nil {
		return nil, nil, err
	}
	if !repository.Lasting {
		owned.Files = []string{}
		return owned, nil, nil
	}
	if r.row.Family == platform.RPM {
		text := lastingRepository(repository.URL, r.docker.codename)
		return owned, map[string][]byte{dockerKeyRPM: r.docker.key, dockerRepo: []byte(text)}, nil
	}
	line, err := r.dockerLine(repository, dockerKeyring)
	return owned, map[string][]byte{dockerKeyring: r.docker.key, dockerList: []byte(line + "\n")}, err
}

// startDocker makes Docker run and come up at boot. The packages do so by themselves, unless the host forbids them.
func (r *registration) startDocker(ctx context.Context) error {
	const name = "docker.service"
	h := r.deps.Host
	unit, err := h.Units.Unit(ctx, name)
	if err == nil && !unit.IsEnabled() {
		err = h.Manager.Enable(ctx, name)
	}
	if err == nil && unit.Active != "active" {
		err = h.Manager.Start(ctx, name)
	}
	if err != nil {
		return failure.Wrap(failure.DockerDown, err, "Docker is installed and %s does not start", name).
			WithRemedy("journalctl -u docker -n 50 says why; mend it, then run the command again")
	}
	return nil
}

// awaitDocker waits until the daemon answers.
func awaitDocker(ctx context.Context, tx *engine.Tx) error {
	begun := time.Now()
	for {
		info, err := docker.Inspect(ctx, tx.Reader())
		if err != nil || info.Running {
			return err
		}
		waited := time.Since(begun)
		if waited > upTime {
			return failure.New(failure.DockerDown, "Docker was started and does not answer after %s: %s", upTime, info.Why).
				WithRemedy("journalctl -u docker -n 50 says why; mend it, then run the command again")
		}
		if err := sleep(ctx, pause(waited)); err != nil {
			return err
		}
	}
}

// dockerInstalled is the kind of effect that installing Docker is.
func dockerInstalled() engine.Kind {
	return engine.Kind{
		Undo: undoDocker,
		Stays: func(data []byte) []string {
			var owned OwnedDocker
			if json.Unmarshal(data, &owned) != nil {
				return nil
			}
			return owned.Files
		},
	}
}

// undoDocker removes the Docker that an operation has installed, unless somebody uses it by now. It works without
// network, and without the daemon.
func undoDocker(ctx context.Context, h host.Host, data []byte) (kept []string, err error) {
	var owned OwnedDocker
	if err := json.Unmarshal(data, &owned); err != nil {
		return nil, failure.Wrap(failure.Internal, err, "cannot read what was recorded of Docker")
	}
	names := slices.Sorted(maps.Keys(owned.Packages))
	what := "Docker (" + strings.Join(names, ", ") + ")"
	for _, name := range slices.Sorted(maps.Keys(owned.Replaced)) {
		if p, err := h.Packages.Package(name); err == nil && p.Version != owned.Replaced[name] {
			kept = append(kept, fmt.Sprintf("%s (version %s; it was %s before)", name, p.Version, owned.Replaced[name]))
		}
	}
	begun := false
	for _, name := range names {
		p, err := h.Packages.Package(name)
		if err != nil {
			return nil, err
		}
		begun = begun || p.Installed || p.Partial
	}
	if begun {
		held, err := docker.Holdings(ctx, h.Reader, ecsagent.OwnImage)
		if err != nil {
			return append(kept, fmt.Sprintf("%s: cannot tell whether it holds anything: %v", what, err)), nil
		}
		if len(held) > 0 {
			return append(kept, fmt.Sprintf("%s: it holds %s", what, some(held))), nil
		}
	}
	var stopped []string
	for _, unit := range docker.Units {
		if state, err := h.Units.Unit(ctx, unit); err == nil && begun && state.Active != "inactive" && state.Loaded {
			if err := h.Manager.Stop(ctx, unit); err != nil {
				return kept, err
			}
			stopped = append(stopped, unit)
		}
	}
	set := host.PackageSet{Names: names, Dir: AptDir}
	err = h.Repositories.Purge(ctx, set, func() error { return h.Disk.Remove(docker.RemovalScript) })
	if errors.Is(err, host.ErrNeeded) {
		for _, unit := range slices.Backward(stopped) { // it is kept as it ran
			if err := h.Manager.Start(ctx, unit); err != nil {
				return kept, err
			}
		}
		return append(kept, fmt.Sprintf("%s: another package depends on it by now", what)), nil
	}
	if err != nil {
		return kept, err
	}
	if err := h.Manager.Reload(ctx); err != nil {
		return kept, err
	}
	for _, folder := range owned.Folders {
		if err := h.Disk.RemoveAll(folder); err != nil {
			return kept, err
		}
	}
	if err := removeGroup(ctx, h, owned); err != nil {
		return kept, err
	}
	return kept, h.Disk.RemoveAll(AptDir) // what it was installed from; up to here a package that was killed half-way needed it
}

// some is a list for people, cut where it gets long.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

// removeGroup removes the group that Docker's packages make and leave behind, unless somebody is in it by now.
func removeGroup(ctx context.Context, h host.Host, owned OwnedDocker) error {
	members, there, err := groupOf(h.Files, docker.Group)
	if err != nil || !owned.Group || !there || members != "" {
		return err
	}
	result, err := h.Runner.Run(ctx, host.Cmd{Path: "/usr/sbin/groupdel", Args: []string{docker.Group}})
	if err == nil && result.ExitCode != 0 {
		err = failure.New(failure.PackageInstall, "cannot remove the group %s: groupdel ended with exit status %d", docker.Group, result.ExitCode).
			WithEvidence("%s", strings.TrimSpace(result.Output))
	}
	return err
}

// groupOf looks a group up in /etc/group.
func groupOf(files host.Files, name string) (members string, there bool, err error) {
	text, err := files.ReadFile("/etc/group")
	if err != nil && !missing(err) {
		return "", false, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) == 4 && fields[0] == name {
			return fields[3], true, nil
		}
	}
	return "", false, nil
}
