package host

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Fetch implements [Repositories].
func (r *Rpm) Fetch(ctx context.Context, set PackageSet) ([]PlannedPackage, error) {
	if !set.Again { // what another run has brought may be of other versions
		if err := r.disk.RemoveAll(path.Join(set.Dir, "cache")); err != nil {
			return nil, err
		}
	}
	if err := r.prepareSet(set); err != nil {
		return nil, err
	}
	result, err := r.front(ctx, set, true, r.download(set)...)
	if err == nil && result.ExitCode != 0 {
		err = r.undownloaded(set, result)
	}
	if err == nil && set.Key != "" {
		err = r.verify(ctx, set)
	}
	if err == nil && r.frontend().late {
		err = r.verifyHosts(ctx, set)
	}
	if err != nil {
		return nil, err
	}
	planned, err := r.Planned(ctx, set)
	if err != nil {
		return nil, err
	}
	for _, name := range set.Names { // some are another package's other name, but one of them at least must have come
		there, err := r.versions(ctx, name)
		if err != nil || len(there) > 0 || slices.ContainsFunc(planned, func(p PlannedPackage) bool { return p.Name == name }) {
			return planned, err
		}
	}
	remedy := "install Docker yourself and give --docker-source none"
	if strings.Contains(set.Source, "baseurl=file:") { // not every front end copies what lies in a folder
		remedy = "serve the folder by a web server and give its address to --artifacts, or " + remedy
	}
	return nil, failure.New(failure.ArtifactMissing, "%s says it has downloaded %s, and there is no package",
		r.frontend().name, strings.Join(set.Names, ", ")).WithEvidence("%s", lastLines(result.Output)).WithRemedy("%s", remedy)
}

// undownloaded is the error of a front end that could not bring a set: also a host that has no way to its repositories gets
// Docker, but not from us.
func (r *Rpm) undownloaded(set PackageSet, result Result) error {
	f := r.frontend()
	err := frontComplaint(f.name, result, "download "+strings.Join(set.Names, ", "))
	switch failure.Of(err).Code {
	case failure.Network, failure.ArtifactDownload, failure.ArtifactMissing:
		look := f.name + " makecache"
		if f.name == "zypper" {
			look = "zypper refresh"
		}
		return failure.Of(err).WithRemedy("%s shows which of the repositories in %s cannot be had; where there is no way to them, bring "+
			"Docker's packages and what they need here, install them with rpm -U, and give --docker-source none", look, f.lists)
	}
	return err
}

// ownRepository begins the name of the folder in which a front end keeps what comes from the set's own repository.
const ownRepository = "anywhere-"

// signed is what rpm says of a package with a good signature; of one that has none it only says that the sums are right.
// Sources: rpm 4.11 ("rsa sha1 (md5) pgp md5 OK") and rpm 4.14 to 6.1 ("digests signatures OK"), lib/rpmchecksig.c.
var signed = regexp.MustCompile(`(?m): .*\b(?:pgp|signatures)\b.* OK$`)

// verify holds what came from the set's own repository to the set's key, in a keyring that is not the host's.
func (r *Rpm) verify(ctx context.Context, set PackageSet) error {
	files, err := r.fetched(path.Join(set.Dir, "cache"))
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(file string) bool { return !strings.Contains(file, "/"+ownRepository) })
	if len(files) == 0 {
		return nil
	}
	ring, err := r.ring(set)
	if err != nil {
		return err
	}
	result, err := ring(ctx, "--import", r.disk.Local(set.Key))
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return failure.New(failure.ArtifactKey, "rpm does not take %s for a key", set.Key).WithEvidence("%s", lastLines(result.Output))
	}
	return r.checkSignatures(files, func(file string) (Result, error) { return ring(ctx, "--checksig", r.disk.Local(file)) })
}

// ring makes a keyring that is not the host's, and returns rpmkeys with it.
func (r *Rpm) ring(set PackageSet) (run func(ctx context.Context, args ...string) (Result, error), err error) {
	ring := path.Join(set.Dir, "keys")
	if err := r.disk.RemoveAll(ring); err != nil {
		return nil, err
	}
	if err := r.disk.Mkdir(ring, 0o700, Owner{}); err != nil {
		return nil, err
	}
	database := "--define=_dbpath " + r.disk.Local(ring)
	return func(ctx context.Context, args ...string) (Result, error) {
		return r.runner.Run(ctx, Cmd{Path: "/usr/bin/rpmkeys", Args: append([]string{database}, args...), Disposable: true})
	}, nil
}

// verifyHosts holds what came from the host's own repositories to the keys in rpm's database, and to those in the files
// that the host's list of repositories names: the front end has not. Those files are the keys that the front end would take
// into the database when it installs; here the database stays as it is.
func (r *Rpm) verifyHosts(ctx context.Context, set PackageSet) error {
	files, err := r.fetched(path.Join(set.Dir, "cache"))
	if err != nil {
		return err
	}
	if set.Source != "" {
		files = slices.DeleteFunc(files, func(file string) bool { return strings.Contains(file, "/"+ownRepository) })
	}
	known := func(file string) (Result, error) {
		return r.runner.Run(ctx, Cmd{Path: "/usr/bin/rpmkeys", Args: []string{"--checksig", r.disk.Local(file)}, Disposable: true})
	}
	err = r.checkSignatures(files, known)
	keys := r.namedKeys()
	if set.Key != "" && set.Source == "" { // the host lists that repository already, and may name its key by an address
		keys = append(keys, set.Key)
	}
	if failure.Is(err, failure.ArtifactKey) && len(keys) > 0 {
		ring, ringErr := r.ring(set)
		if ringErr != nil {
			return ringErr
		}
		for _, key := range keys { // one that rpm does not take, for it is too weak, signs nothing
			if _, err := ring(ctx, "--import", r.disk.Local(key)); err != nil {
				return err
			}
		}
		err = r.checkSignatures(files, func(file string) (Result, error) {
			if result, err := known(file); err != nil || result.ExitCode == 0 {
				return result, err
			}
			return ring(ctx, "--checksig", r.disk.Local(file))
		})
	}
	if failure.Is(err, failure.ArtifactKey) || failure.Is(err, failure.ArtifactUnsigned) {
		return failure.Of(err).WithRemedy("rpm --import the key of its repository (/etc/pki/rpm-gpg), then run the command again; " +
			"or install Docker yourself and give --docker-source none")
	}
	return err
}

// What a list of repositories names as keys, and a variable in it.
var (
	gpgKeys  = regexp.MustCompile(`(?m)^[ \t]*gpgkey[ \t]*=(.*(?:\n[ \t]+\S.*)*)`)
	variable = regexp.MustCompile(`\$\{?\w+\}?`)
)

// namedKeys are the files that the host's own repositories name as their keys. What a variable stands for is not worked
// out: any file that fits is one that the system came with.
func (r *Rpm) namedKeys() []string {
	lists := r.frontend().lists
	entries, err := r.files.ReadDir(lists)
	if err != nil {
		return nil
	}
	found := map[string]bool{}
	for _, entry := range entries {
		text, err := r.files.ReadFile(path.Join(lists, entry.Name()))
		if err != nil || path.Ext(entry.Name()) != ".repo" {
			continue
		}
		for _, value := range gpgKeys.FindAllStringSubmatch(string(text), -1) {
			for _, word := range strings.FieldsFunc(value[1], func(c rune) bool { return strings.ContainsRune(" \t\n,", c) }) {
				if file, local := strings.CutPrefix(word, "file://"); local && path.IsAbs(file) {
					dir, pattern := path.Dir(file), variable.ReplaceAllString(path.Base(file), "*")
					beside, err := r.files.ReadDir(dir)
					if err != nil {
						continue
					}
					for _, key := range beside {
						if fits(pattern, key.Name()) && !key.IsDir() {
							found[path.Join(dir, key.Name())] = true
						}
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// checkSignatures asks rpm for its word on each package.
func (r *Rpm) checkSignatures(files []string, ask func(file string) (Result, error)) error {
	for _, file := range files {
		result, err := ask(file)
		switch {
		case err != nil:
			return err
		case result.ExitCode == 0 && signed.MatchString(strings.TrimSpace(result.Output)):
			continue
		case result.ExitCode == 0:
			return failure.New(failure.ArtifactUnsigned, "%s is not signed", path.Base(file)).WithEvidence("%s", lastLines(result.Output))
		case strings.Contains(result.Output, ": DIGESTS "): // its signature cannot be right either
			return failure.New(failure.ArtifactCorrupt, "%s is damaged", path.Base(file)).WithEvidence("%s", lastLines(result.Output))
		case strings.Contains(result.Output, "NOKEY") || strings.Contains(result.Output, "MISSING KEYS") || strings.Contains(result.Output, "SIGNATURES NOT OK"):
			return failure.New(failure.ArtifactKey, "%s is not signed by the key that was to sign it", path.Base(file)).
				WithEvidence("%s", lastLines(result.Output))
		}
		return failure.New(failure.ArtifactCorrupt, "%s is damaged", path.Base(file)).WithEvidence("%s", lastLines(result.Output))
	}
	return nil
}

// Planned implements [Repositories]. What was downloaded is what is going to be installed.
func (r *Rpm) Planned(ctx context.Context, set PackageSet) ([]PlannedPackage, error) {
	files, err := r.fetched(path.Join(set.Dir, "cache"))
	if err != nil {
		return nil, err
	}
	planned := map[string]PlannedPackage{}
	for _, file := range files {
		name, version, err := r.inFile(ctx, file)
		if err != nil {
			return nil, err
		}
		there, err := r.versions(ctx, name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(there, version) {
			continue
		}
		p := PlannedPackage{Name: name, Version: version}
		if len(there) > 0 {
			p.Before = there[len(there)-1]
		}
		planned[name] = p
	}
	var list []PlannedPackage
	for _, name := range slices.Sorted(maps.Keys(planned)) {
		list = append(list, planned[name])
	}
	return list, nil
}

// fetched are the packages below a folder.
func (r *Rpm) fetched(dir string) (files []string, err error) {
	entries, err := r.files.ReadDir(dir)
	if err != nil {
		return nil, failure.Wrap(failure.PackageInstall, err, "cannot look into %s", dir)
	}
	for _, entry := range entries {
		at := path.Join(dir, entry.Name())
		switch {
		case entry.IsDir():
			below, err := r.fetched(at)
			if err != nil {
				return nil, err
			}
			files = append(files, below...)
		case strings.HasSuffix(entry.Name(), ".rpm"):
			files = append(files, at)
		}
	}
	return files, nil
}

// InstallSet implements [Repositories]. rpm itself installs what the front end has chosen and brought, and what an earlier
// run was killed in, all of it in one transaction: it asks no server, and no key of the host's. A script that fails is no
// failure, as with the front end: some of those packages are the distribution's, and whether Docker runs is seen then.
func (r *Rpm) InstallSet(ctx context.Context, set PackageSet) error {
	files, err := r.fetched(path.Join(set.Dir, "cache"))
	if err != nil || len(files) == 0 {
		return err
	}
	return r.install(ctx, "install "+strings.Join(set.Names, ", "), false, files...)
}

// Purge implements [Repositories]. As Remove does, it keeps configuration that somebody made or changed.
func (r *Rpm) Purge(ctx context.Context, set PackageSet, between func() error) error {
	if err := r.finish(ctx, set); err != nil {
		return err
	}
	var there, temporary []string
	begun := map[string]transaction{}
	for _, name := range set.Names {
		note, err := r.begun(name)
		if err != nil {
			return err
		}
		left, err := r.settle(ctx, name, note, "")
		if err != nil {
			return err
		}
		versions, err := r.versions(ctx, name)
		if err != nil {
			return err
		}
		if len(versions) > 0 {
			there = append(there, name)
		}
		begun[name], temporary = note, append(temporary, left...)
	}
	if err := r.erase(ctx, there, begun); err != nil {
		return err
	}
	if err := errors.Join(r.putBackAll(), r.clear(temporary)); err != nil {
		return err
	}
	for _, name := range set.Names {
		if err := r.end(name); err != nil {
			return err
		}
	}
	return between()
}

// erase removes packages in one transaction, noted before it begins; begun is what was noted of them before.
func (r *Rpm) erase(ctx context.Context, names []string, begun map[string]transaction) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		// What was killed while it was installed is removed by settling it once more, where this is killed too.
		if begun[name].Doing != installing {
			if err := r.begin(name, transaction{Doing: removing}); err != nil {
				return err
			}
		}
		if err := r.keepConfig(ctx, name); err != nil {
			return err
		}
	}
	result, err := r.rpm(ctx, append([]string{"-e", "--allmatches"}, names...)...)
	if err != nil || result.ExitCode == 0 {
		return err
	}
	err = r.complaint(result, "remove "+strings.Join(names, ", "))
	if neededRPM.MatchString(result.Output) {
		err = errors.Join(ErrNeeded, err)
	}
	if !untouched.MatchString(result.Output) {
		return err
	}
	err = errors.Join(err, r.putBackAll())
	for _, name := range names {
		if begun[name] == (transaction{}) { // it has begun nothing
			err = errors.Join(err, r.end(name))
		}
	}
	return err
}

// finish installs anew what a killed InstallSet has left half-way of packages that are not to go: they were there before,
// in a version of which nobody has the file.
func (r *Rpm) finish(ctx context.Context, set PackageSet) error {
	notes, err := r.notes()
	if err != nil {
		return err
	}
	var files []string
	for _, name := range slices.Sorted(maps.Keys(notes)) {
		file := notes[name].File
		if slices.Contains(set.Names, name) || !strings.HasPrefix(file, set.Dir+"/") {
			continue
		}
		if _, err := r.files.Stat(file); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil
	}
	return r.install(ctx, "finish the installation of "+strings.Join(files, ", "), false, files...)
}

func (r *Rpm) prepareSet(set PackageSet) error {
	for _, dir := range []string{"", "cache", "repos"} {
		if err := r.disk.Mkdir(path.Join(set.Dir, dir), 0o700, Owner{}); err != nil {
			return err
		}
	}
	file := path.Join(set.Dir, "repos", "anywhere.repo")
	if set.Source == "" {
		return r.disk.Remove(file)
	}
	return r.disk.WriteFile(file, strings.NewReader(set.Source), 0o600, Owner{})
}

// options keep all that a front end fetches below the set's folder. Sources: yum.conf(5), dnf.conf(5), dnf5.conf(5) and
// zypper(8).
func (r *Rpm) options(set PackageSet) []string {
	f, local := r.frontend(), r.disk.Local(set.Dir)
	if f.name == "zypper" {
		return []string{"--non-interactive", "--pkg-cache-dir", local + "/cache"}
	}
	options := []string{
		"-y", "--setopt=cachedir=" + local + "/cache", "--setopt=keepcache=1", "--setopt=install_weak_deps=0",
		"--setopt=reposdir=" + f.lists + "," + local + "/repos", "--setopt=metadata_timer_sync=0", "--setopt=retries=3", "--setopt=timeout=30",
	}
	if set.Enable != "" {
		options = append(options, "--enablerepo="+set.Enable)
	}
	if f.name == "dnf" { // see frontend.late
		options = append(options, "--setopt=*.gpgcheck=0")
	}
	if f.name == "yum" { // it knows no weak dependencies, and refuses what it does not know
		options = slices.DeleteFunc(options, func(o string) bool {
			return strings.Contains(o, "weak_deps") || strings.Contains(o, "timer_sync")
		})
	}
	return options
}

func (r *Rpm) download(set PackageSet) []string {
	f := r.frontend()
	if f.name == "zypper" {
		return append(append(r.options(set), "install", "--no-recommends", "--download-only"), set.Names...)
	}
	args := append(r.options(set), "install", "--downloadonly")
	// A repository in a folder is not cached, and has to be copied from. Beside one of our own that must not be: what is
	// not below its folder in the cache would count as the host's.
	if set.Source == "" && f.name != "dnf5" {
		args = append(args, "--downloaddir="+r.disk.Local(set.Dir)+"/cache")
	}
	return append(args, set.Names...)
}

// front runs the front end. One that only fills the cache is ended when ctx ends, and waited for where it outlived another run.
func (r *Rpm) front(ctx context.Context, set PackageSet, disposable bool, args ...string) (Result, error) {
	f := r.frontend()
	if f.program == "" {
		return Result{}, failure.New(failure.PackageInstall, "there is no program here that installs packages out of repositories").
			WithRemedy("install Docker yourself and give --docker-source none")
	}
	cmd := Cmd{Path: f.program, Args: args, Disposable: disposable}
	if disposable {
		if err := r.runner.Wait(ctx, Child{Argv: cmd.masked()}); err != nil {
			return Result{}, err
		}
	}
	result, err := r.runner.Run(ctx, cmd)
	for _, login := range aptLogin.FindAllStringSubmatch(set.Source, -1) {
		result.Output = strings.ReplaceAll(result.Output, login[1], "")
	}
	return result, err
}

// frontCauses tell from a front end's words what kind of failure it is; the first that fits counts. Sources: yum 3.4.3,
// dnf 4.14, dnf5 5.2 and 5.4.6 as it ran on 2026-11-26, libzypp 17, librepo 1.15.
var frontCauses = []struct {
	words *regexp.Regexp
	code  failure.Code
}{
	{regexp.MustCompile(`(?i)public key for .* is not installed|NOKEY|GPG keys? .*(not correct|mismatch)|Signature verification failed`),
		failure.ArtifactKey},
	{regexp.MustCompile(`(?i)is not signed|unsigned`), failure.ArtifactUnsigned},
	{regexp.MustCompile(`(?i)checksum doesn't match|digest (verification|mismatch)|BADSIG|corrupt`), failure.ArtifactCorrupt},
	{regexp.MustCompile(`(?i)SSL certificate|certificate verify`), failure.TLSUntrusted},
	{regexp.MustCompile(`(?i)Could ?n[o']t resolve host|Couldn't connect|Failed to connect|Network is unreachable`), failure.Network},
	{regexp.MustCompile(`(?i)No match for argument|Unable to find a match|No package .* available|not found in package names|Status code: 404`),
		failure.ArtifactMissing},
	{regexp.MustCompile(`(?i)Cannot download|Failed to download|Timeout was reached`), failure.ArtifactDownload},
	{regexp.MustCompile(`(?i)No space left|more space needed`), failure.DiskFull},
	{regexp.MustCompile(`(?i)waiting for process with pid|System management is locked|transaction lock|another app is currently holding`),
		failure.PackagesLocked},
}

// frontErrors are the lines in which a front end says why it gave up, the most telling first: dnf5's of one download, what
// dnf and dnf5 miss, what dnf5 puts below a heading, and what all call an error.
var frontErrors = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^>>> (\S.*)$`),
	regexp.MustCompile(`(?m)^\s*- (nothing provides .*)$`),
	regexp.MustCompile(`(?m)^Failed to (?:resolve the transaction:|download packages)\n\s*(\S.*)$`),
	regexp.MustCompile(`(?mi)^(?:(?:(?:Error(?: code)?|Problem)\b|Failed:):? ?(.*)|(Failed .*))$`),
}

// frontError is a front end's own word on why it gave up.
func frontError(said string) string {
	for _, line := range frontErrors {
		for _, found := range line.FindAllStringSubmatch(said, -1) {
			if text := strings.TrimSpace(strings.Join(found[1:], "")); text != "" {
				return text
			}
		}
	}
	return "it ended without a word"
}

// frontComplaint is the error of a front end that failed, with its own words.
func frontComplaint(name string, result Result, doing string) error {
	code := failure.PackageInstall
	for _, cause := range frontCauses {
		if cause.words.MatchString(result.Output) {
			code = cause.code
			break
		}
	}
	return failure.New(code, "cannot %s: %s: %s", doing, name, frontError(result.Output)).WithEvidence("%s", lastLines(result.Output))
}
