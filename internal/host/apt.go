package host

import (
	"bytes"
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

// Paths of apt that are read or kept here.
const (
	AptSources    = "/etc/apt/sources.list"
	AptSourceDir  = "/etc/apt/sources.list.d"
	aptAutomatics = "/var/lib/apt/extended_states" // which packages came only because others need them
)

// aptOptions makes apt keep everything that it fetches below DIR, and trust nothing that is not signed. The first line
// takes away what the host has run after its own updates: this is none of them. Sources: apt.conf(5), apt_preferences(5)
// and apt-secure(8) of apt 2.6.1.
const aptOptions = `#clear APT::Update;
Dir::State::Lists "DIR/lists/";
Dir::Cache "DIR/cache/";
Dir::Cache::Archives "DIR/archives/";
Dir::Etc::SourceList "DIR/sources.list";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
`

// What apt does without the locks of the host's package manager: it only reads its state, and writes below DIR.
const aptLooks = "Debug::NoLocking=true"

// Fetch implements [Repositories]. What else holds the package manager's lock does not stop it.
func (d *Dpkg) Fetch(ctx context.Context, set PackageSet) ([]PlannedPackage, error) {
	if err := d.prepare(set); err != nil {
		return nil, err
	}
	if set.Again {
		if planned, err := d.Planned(ctx, set); err == nil && d.download(ctx, set) == nil {
			return planned, nil
		}
	}
	update, err := d.apt(ctx, set, true, "-o", aptLooks, "update")
	if err != nil {
		return nil, err
	}
	planned, err := d.Planned(ctx, set)
	if err != nil {
		if said := aptWords(update.Output); said != "" { // why the package is not to be found
			return nil, aptComplaint(update, "read the package lists")
		}
		return nil, err
	}
	return planned, d.download(ctx, set)
}

// download brings what is not there yet. What is there is verified, and no server is asked for it.
func (d *Dpkg) download(ctx context.Context, set PackageSet) error {
	args := append([]string{"-o", aptLooks, "--no-remove", "--download-only", "install"}, set.Names...)
	result, err := d.apt(ctx, set, true, args...)
	if err == nil && result.ExitCode != 0 {
		err = aptComplaint(result, "download "+strings.Join(set.Names, ", "))
	}
	return err
}

// Planned implements [Repositories].
func (d *Dpkg) Planned(ctx context.Context, set PackageSet) ([]PlannedPackage, error) {
	args := append([]string{"-o", aptLooks, "--no-remove", "--simulate", "install"}, set.Names...)
	result, err := d.apt(ctx, set, true, args...)
	if err != nil {
		return nil, err
	}
	if result.ExitCode != 0 {
		return nil, aptComplaint(result, "install "+strings.Join(set.Names, ", "))
	}
	var planned []PlannedPackage
	for _, line := range aptInstall.FindAllStringSubmatch(result.Output, -1) {
		planned = append(planned, PlannedPackage{Name: line[1], Before: line[2], Version: line[3]})
	}
	return planned, nil
}

// aptInstall is a line of a simulation: "Inst iptables (1.8.9-2 Debian:12.15 [amd64])", with the installed version in
// brackets before the new one where there is one.
var aptInstall = regexp.MustCompile(`(?m)^Inst (\S+) (?:\[(\S+)\] )?\((\S+) `)

// InstallSet implements [Repositories].
func (d *Dpkg) InstallSet(ctx context.Context, set PackageSet) error {
	if err := d.prepare(set); err != nil {
		return err
	}
	state, err := d.State()
	if err != nil {
		return err
	}
	if state.Interrupted { // apt refuses to begin then; what dpkg cannot finish for lack of a package, apt does
		if _, err := d.dpkg(ctx, append(append([]string{}, keepOld...), "--configure", "--pending")...); err != nil {
			return err
		}
	}
	// Without --no-download, with which apt (2.6.1) cannot install from a file: repository. All is there, so it asks no
	// server; and it verifies everything before dpkg begins.
	args := []string{"--no-remove", "-o", "DPkg::Lock::Timeout=60"}
	for _, option := range keepOld {
		args = append(args, "-o", "DPkg::Options::="+option)
	}
	result, err := d.apt(ctx, set, false, append(append(args, "install"), set.Names...)...)
	if err == nil && result.ExitCode != 0 {
		err = aptComplaint(result, "install "+strings.Join(set.Names, ", "))
	}
	return err
}

// Purge implements [Repositories].
func (d *Dpkg) Purge(ctx context.Context, set PackageSet, between func() error) error {
	names := set.Names
	var there []string
	for _, name := range names {
		r, err := d.record(name)
		if err != nil {
			return err
		}
		if r.State == "half-installed" {
			if err := d.unpackAgain(ctx, set, name); err != nil {
				return err
			}
		}
		if r.installed() || r.partial() {
			there = append(there, name)
		}
	}
	if len(there) > 0 {
		// What was killed in the middle of unpacking wants to be installed anew before it is removed; not by us.
		args := append([]string{"--force-remove-reinstreq", "--remove"}, there...)
		// Asked before: dpkg would remove all but the one that is needed.
		result, err := d.dpkg(ctx, append([]string{"--no-act"}, args...)...)
		if err != nil {
			return err
		}
		if strings.Contains(result.Output, "dependency problems prevent removal") {
			return errors.Join(ErrNeeded, complaint(result, failure.PackageInstall, "remove "+strings.Join(there, ", ")))
		}
		if result, err = d.dpkg(ctx, args...); err != nil {
			return err
		}
		if result.ExitCode != 0 {
			return complaint(result, failure.PackageInstall, "remove "+strings.Join(there, ", "))
		}
	}
	if err := between(); err != nil {
		return err
	}
	if err := d.purgeRest(ctx, names); err != nil {
		return err
	}
	return d.forgetAutomatics(names)
}

// unpackAgain unpacks a package whose unpacking was killed, if it is still in the set's folder: removing it as it is would
// leave the files that dpkg had not yet given their names.
func (d *Dpkg) unpackAgain(ctx context.Context, set PackageSet, name string) error {
	archives := path.Join(set.Dir, "archives")
	entries, err := d.files.ReadDir(archives)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failure.Wrap(failure.PackagesBroken, err, "cannot look into %s", archives)
	}
	for _, entry := range entries {
		if file := entry.Name(); strings.HasPrefix(file, name+"_") && strings.HasSuffix(file, ".deb") {
			// What it complains of does not matter: it is going to be removed.
			_, err := d.dpkg(ctx, append(append([]string{}, keepOld...), "--unpack", d.disk.Local(path.Join(archives, file)))...)
			return err
		}
	}
	return nil
}

// purgeRest purges what was removed, and keeps what an administrator changed, as Remove does.
func (d *Dpkg) purgeRest(ctx context.Context, names []string) error {
	var rest []string
	var kept []keptFile
	for _, name := range names {
		r, err := d.record(name)
		if err != nil {
			return err
		}
		if r.State != "config-files" {
			continue
		}
		changed, err := d.changedConffiles(r)
		if err != nil {
			return err
		}
		rest, kept = append(rest, name), append(kept, changed...)
	}
	if len(rest) == 0 {
		return nil
	}
	purged := d.must(ctx, "purge "+strings.Join(rest, ", "), append([]string{"--purge"}, rest...)...)
	for _, file := range kept {
		purged = errors.Join(purged, d.putBack(file))
	}
	return purged
}

// forgetAutomatics takes packages off apt's list of those that came by themselves. apt does so at its own next change.
func (d *Dpkg) forgetAutomatics(names []string) error {
	text, err := d.files.ReadFile(aptAutomatics)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failure.Wrap(failure.PackageInstall, err, "cannot read apt's list of automatic packages")
	}
	var left []string
	for paragraph := range strings.SplitSeq(string(text), "\n\n") {
		first, _, _ := strings.Cut(strings.TrimLeft(paragraph, "\n"), "\n")
		name := strings.TrimSpace(strings.TrimPrefix(first, "Package:"))
		if strings.TrimSpace(paragraph) != "" && !slices.Contains(names, name) {
			left = append(left, strings.Trim(paragraph, "\n")+"\n")
		}
	}
	if len(left) == 0 {
		return d.disk.Remove(aptAutomatics)
	}
	is := strings.Join(left, "\n") + "\n"
	info, err := d.files.Stat(aptAutomatics)
	if err != nil || is == string(text) {
		return err
	}
	return d.disk.WriteFile(aptAutomatics, strings.NewReader(is), info.Mode().Perm(), ownerOf(info))
}

// prepare makes apt's folders below set.Dir, and writes its configuration and its list of sources: the host's own, and
// the set's.
func (d *Dpkg) prepare(set PackageSet) error {
	for _, dir := range []string{"", "lists", "lists/partial", "cache", "archives", "archives/partial"} {
		if err := d.disk.Mkdir(path.Join(set.Dir, dir), 0o700, Owner{}); err != nil {
			return err
		}
	}
	sources, err := d.files.ReadFile(AptSources)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failure.Wrap(failure.PackagesBroken, err, "cannot read %s", AptSources)
	}
	for name, text := range map[string][]byte{
		"apt.conf":     []byte(strings.ReplaceAll(aptOptions, "DIR", d.disk.Local(set.Dir))),
		"sources.list": append(bytes.TrimRight(sources, "\n"), "\n"+set.Source+"\n"...),
	} {
		if err := d.disk.WriteFile(path.Join(set.Dir, name), bytes.NewReader(text), 0o600, Owner{}); err != nil {
			return err
		}
	}
	return nil
}

// apt runs apt-get. One that only fills the cache is ended when ctx ends, and waited for where it outlived another run.
func (d *Dpkg) apt(ctx context.Context, set PackageSet, disposable bool, args ...string) (Result, error) {
	cmd := Cmd{
		Path: "/usr/bin/apt-get",
		Args: append([]string{"-q", "--yes", "-c=" + d.disk.Local(path.Join(set.Dir, "apt.conf"))}, args...),
		Env: []string{
			"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "APT_LISTCHANGES_FRONTEND=none",
			"NEEDRESTART_SUSPEND=1", // no service of the host is restarted for what is installed beside it
		},
		Disposable: disposable,
	}
	if disposable {
		if err := d.runner.Wait(ctx, Child{Argv: cmd.masked()}); err != nil {
			return Result{}, err
		}
	}
	result, err := d.runner.Run(ctx, cmd)
	if login := aptLogin.FindStringSubmatch(set.Source); login != nil {
		result.Output = strings.ReplaceAll(result.Output, login[1], "")
	}
	return result, err
}

// aptLogin is a name and password in a repository's address: nothing that is told has it.
var aptLogin = regexp.MustCompile(`://([^/@\s]+@)`)

// aptWords are apt's errors and warnings, the errors first.
func aptWords(output string) string {
	var words []string
	for _, mark := range []string{"E: ", "W: "} {
		for line := range strings.Lines(output) {
			if strings.HasPrefix(line, mark) {
				words = append(words, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(words, "\n")
}

// aptCauses tell from apt's words what kind of failure it is; the first that fits counts. Sources: apt 1.4 to 2.9,
// apt-pkg/acquire-item.cc, methods/gpgv.cc, methods/connect.cc.
var aptCauses = []struct {
	words *regexp.Regexp
	code  failure.Code
}{
	{regexp.MustCompile(`NO_PUBKEY|EXPKEYSIG|REVKEYSIG|KEYEXPIRED|Missing key|No good signature`), failure.ArtifactKey},
	{regexp.MustCompile(`is not signed|unsigned|NODATA`), failure.ArtifactUnsigned},
	{regexp.MustCompile(`BADSIG|Hash Sum mismatch|File has unexpected size|invalid signature`), failure.ArtifactCorrupt},
	{regexp.MustCompile(`Certificate verification failed|certificate`), failure.TLSUntrusted},
	{regexp.MustCompile(`Could not resolve|Temporary failure resolving|Could not connect|Cannot initiate the connection|` +
		`Unable to connect|Network is unreachable`), failure.Network},
	{regexp.MustCompile(`404 |does not have a Release file|Unable to locate package|has no installation candidate`),
		failure.ArtifactMissing},
	{regexp.MustCompile(`Failed to fetch|Unable to fetch|Connection failed|Connection timed out`), failure.ArtifactDownload},
	{regexp.MustCompile(`No space left|enough free space`), failure.DiskFull},
	{regexp.MustCompile(`Could not get lock|Unable to acquire the dpkg`), failure.PackagesLocked},
}

// aptComplaint is the error of an apt-get that failed, with its own words.
func aptComplaint(result Result, doing string) error {
	words := aptWords(result.Output)
	code := failure.PackageInstall
	for _, cause := range aptCauses {
		if cause.words.MatchString(words) {
			code = cause.code
			break
		}
	}
	first, _, _ := strings.Cut(words, "\n")
	if strings.HasPrefix(first, "E: Sub-process") { // dpkg has said why
		if reason := dpkgReason.FindStringSubmatch(result.Output); reason != nil {
			first = reason[1]
		}
	}
	if _, unmet, found := strings.Cut(result.Output, "have unmet dependencies:\n"); found {
		unmet, _, _ = strings.Cut(strings.TrimSpace(unmet), "\n")
		first = strings.TrimSpace(unmet)
	}
	if first == "" {
		first = "it ended without a word"
	}
	first = strings.TrimPrefix(strings.TrimPrefix(first, "E: "), "W: ")
	if code == failure.PackageInstall && strings.Contains(result.Output, "need to be removed but remove is disabled") {
		first = "it would remove packages that are installed: " + strings.Join(aptRemovals(result.Output), ", ")
	}
	return failure.New(code, "cannot %s: apt-get: %s", doing, first).WithEvidence("%s", lastLines(result.Output))
}

// aptRemovals are the packages under apt's heading "The following packages will be REMOVED:".
func aptRemovals(output string) []string {
	_, after, _ := strings.Cut(output, "will be REMOVED:\n")
	names := map[string]bool{}
	for line := range strings.Lines(after) {
		if !strings.HasPrefix(line, " ") {
			break
		}
		for _, name := range strings.Fields(line) {
			names[strings.TrimSuffix(name, "*")] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
