package host

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Rpm is the package manager of the rpm families. Packages of files are installed by rpm itself, which needs no
// repository and no key of the host's: they are verified by then. It implements [PackageReader], [Packager] and
// [Repositories].
type Rpm struct {
	files  Files
	disk   Disk
	runner Runner
}

// NewRpm returns rpm with its files in files and its children run by runner.
func NewRpm(files Files, disk Disk, runner Runner) *Rpm { return &Rpm{files, disk, runner} }

const rpmProgram = "/usr/bin/rpm"

// rpmWork is what this program notes of the transactions that it begins, for rpm's database does not say that one was
// killed: a package is in it before its last script has run, and not in it while its files are being written.
const rpmWork = "/var/lib/anywhere/rpm"

// rpmDatabases are where rpm keeps its database: everywhere of old, and on Fedora from 36 and SUSE.
var rpmDatabases = []string{"/var/lib/rpm", "/usr/lib/sysimage/rpm"}

// rpmMacros are the files that may say where the database is, the later ones over the earlier. Source: rpm 4.11 to 4.20,
// MACROFILES in configure.ac.
var rpmMacros = []string{"/usr/lib/rpm/macros", "/usr/lib/rpm/macros.d", "/etc/rpm", "/etc/rpm/macros"}

var (
	dbPath = regexp.MustCompile(`(?m)^%_dbpath[ \t]+(\S+)`)
	// dbFolders are the macros that systems write it with.
	dbFolders = strings.NewReplacer("%{_var}", "/var", "%{_localstatedir}", "/var", "%{_usr}", "/usr", "%{_prefix}", "/usr", "%{_sysconfdir}", "/etc")
)

// databases are the folders in which rpm keeps its database, as far as that can be told: the usual ones and the one that
// the host's macros name.
func (r *Rpm) databases() []string {
	found := ""
	look := func(name string) {
		text, err := r.files.ReadFile(name)
		if err != nil { // none, or not for us to read
			return
		}
		for _, match := range dbPath.FindAllStringSubmatch(string(text), -1) {
			found = path.Clean(dbFolders.Replace(match[1]))
		}
	}
	for _, name := range rpmMacros {
		entries, err := r.files.ReadDir(name)
		if err != nil {
			look(name)
			continue
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), "macros.") {
				look(path.Join(name, entry.Name()))
			}
		}
	}
	dirs := slices.Clone(rpmDatabases)
	if path.IsAbs(found) && !strings.Contains(found, "%") && !slices.Contains(dirs, found) {
		dirs = append(dirs, found)
	}
	return dirs
}

// askTime bounds a question to rpm's database, which waits for who writes into it.
const askTime = time.Minute

// Install implements Packager. What the package depends on must be there: nothing else is installed with it, and what
// is missing is named in the error.
func (r *Rpm) Install(ctx context.Context, file string) error {
	return r.install(ctx, "install "+file, true, file)
}

// install installs package files in one transaction of rpm's, each noted before it begins. Where strict, a script that
// failed is a failure; rpm itself takes no offence at most of them.
func (r *Rpm) install(ctx context.Context, doing string, strict bool, files ...string) error {
	packages, temporary, err := r.unpackable(ctx, files)
	if err != nil {
		return err
	}
	args := []string{"-U", "--oldpackage", "--replacepkgs", "--nosignature"}
	for _, p := range packages {
		if err := r.begin(p.name, transaction{Doing: installing, File: p.file}); err != nil {
			return err
		}
		args = append(args, r.disk.Local(p.file))
	}
	result, err := r.rpm(ctx, args...)
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		err := r.complaint(result, doing)
		for _, p := range packages {
			if untouched.MatchString(result.Output) && p.begun == (transaction{}) { // it has begun nothing
				err = errors.Join(err, r.end(p.name))
			}
		}
		return err
	}
	if failed := scriptFailed.FindString(result.Output); failed != "" && strict {
		return failure.New(failure.PackageInstall, "cannot %s: %s", doing, failed).WithEvidence("%s", lastLines(result.Output))
	}
	for _, p := range packages {
		there, err := r.versions(ctx, p.name)
		if err != nil {
			return err
		}
		if !slices.Contains(there, p.version) || strict && len(there) != 1 {
			return failure.New(failure.PackageInstall, "cannot %s: rpm says it is done, and its database has %s %s",
				doing, p.name, orNone(there)).WithEvidence("%s", lastLines(result.Output))
		}
	}
	if err := r.clear(temporary); err != nil {
		return err
	}
	for _, p := range packages {
		if err := r.end(p.name); err != nil {
			return err
		}
	}
	return nil
}

// packageFile is a package in a file, and what was begun with it before.
type packageFile struct {
	file, name, version string
	begun               transaction
}

// unpackable looks into package files that are to be installed, and settles what killed runs have left of them. It returns
// the paths at which those may have left temporary files too.
func (r *Rpm) unpackable(ctx context.Context, files []string) (packages []packageFile, temporary []string, err error) {
	removal := false
	for _, file := range files {
		p := packageFile{file: file}
		if p.name, p.version, err = r.inFile(ctx, file); err != nil {
			return nil, nil, err
		}
		if p.begun, err = r.begun(p.name); err != nil {
			return nil, nil, err
		}
		left, err := r.settle(ctx, p.name, p.begun, file)
		if err != nil {
			return nil, nil, err
		}
		packages, temporary, removal = append(packages, p), append(temporary, left...), removal || p.begun.Doing == removing
	}
	if removal { // one that was killed, and is taken back: before rpm brings files of the same names
		err = r.putBackAll()
	}
	return packages, temporary, err
}

// orNone are versions for people.
func orNone(versions []string) string {
	if len(versions) == 0 {
		return "in no version"
	}
	return "in the versions " + strings.Join(versions, ", ")
}

// inFile asks a package file for its name and version.
func (r *Rpm) inFile(ctx context.Context, file string) (name, version string, err error) {
	lines, result, err := r.ask(ctx, "-qp", "--nosignature", "--qf", packageFormat, r.disk.Local(file))
	if err != nil {
		return "", "", err
	}
	if len(lines) != 1 || len(lines[0]) != 2 {
		return "", "", failure.New(failure.PackageInstall, "cannot install %s: rpm does not take it for a package", file).
			WithEvidence("%s", lastLines(result.Output))
	}
	return lines[0][0], lines[0][1], nil
}

// settle makes rpm know of what a killed run has written of another package file than the one that is to come: its database
// does not have it, and would leave its files behind. It returns the paths at which that run may have left temporary files.
func (r *Rpm) settle(ctx context.Context, name string, begun transaction, next string) (temporary []string, err error) {
	if begun.Doing != installing {
		return nil, nil
	}
	if _, err := r.files.Stat(begun.File); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, failure.Wrap(failure.PackagesBroken, err, "cannot look at %s", begun.File)
	}
	local := r.disk.Local(begun.File)
	lines, _, err := r.ask(ctx, "-qp", "--nosignature", "--qf", "[@%{FILENAMES}\n]", local)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		temporary = append(temporary, line[0])
	}
	if begun.File == next {
		return temporary, nil
	}
	_, version, err := r.inFile(ctx, begun.File)
	if err != nil {
		return nil, err
	}
	there, err := r.versions(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, v := range there {
		if v == version {
			return temporary, nil
		}
	}
	result, err := r.rpm(ctx, "-i", "--justdb", "--force", "--nodeps", "--noscripts", "--notriggers", "--nosignature", local)
	if err == nil && result.ExitCode != 0 {
		err = r.complaint(result, "take stock of the interrupted installation of "+begun.File)
	}
	return temporary, err
}

// temporaryName is what rpm calls a file while it writes it: NAME;65a1b2c3. Source: rpm 4.11 to 4.20, lib/fsm.c.
var temporaryName = regexp.MustCompile(`^(.+);[0-9a-f]{8}$`)

// clear removes the temporary files that a killed rpm has left beside these paths.
func (r *Rpm) clear(paths []string) error {
	named := map[string]map[string]bool{}
	for _, p := range paths {
		if named[path.Dir(p)] == nil {
			named[path.Dir(p)] = map[string]bool{}
		}
		named[path.Dir(p)][path.Base(p)] = true
	}
	for dir, names := range named {
		entries, err := r.files.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return failure.Wrap(failure.PackageInstall, err, "cannot look into %s", dir)
		}
		for _, entry := range entries {
			match := temporaryName.FindStringSubmatch(entry.Name())
			if match == nil || !names[match[1]] || entry.IsDir() {
				continue
			}
			if err := r.disk.Remove(path.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Repair implements Packager. What our own run left half-way, its package file repairs; rpm's database repairs itself.
func (r *Rpm) Repair(context.Context) error { return nil }

// rpm runs rpm for a change.
func (r *Rpm) rpm(ctx context.Context, args ...string) (Result, error) {
	return r.runner.Run(ctx, Cmd{Path: rpmProgram, Args: args})
}

// ask runs rpm for a question. The lines of its answer begin with an @, which tells them from what it warns of; their
// fields are parted by tabs.
func (r *Rpm) ask(ctx context.Context, args ...string) (lines [][]string, result Result, err error) {
	// A question changes nothing, so no child of it is anybody's to wait for.
	ctx, cancel := context.WithTimeoutCause(WithChildHook(ctx, func(Child) {}), askTime,
		failure.New(failure.PackagesLocked, "rpm's database has not answered within %s", askTime))
	defer cancel()
	result, err = r.runner.Run(ctx, Cmd{Path: rpmProgram, Args: args, Disposable: true})
	if err != nil {
		return nil, result, err
	}
	for line := range strings.Lines(result.Output) {
		if text, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "@"); ok {
			lines = append(lines, strings.Split(text, "\t"))
		}
	}
	if broken := databaseBroken.FindString(result.Output); broken != "" && len(lines) == 0 {
		return nil, result, failure.New(failure.PackagesBroken, "rpm's database cannot be read: %s", broken).
			WithEvidence("%s", lastLines(result.Output)).
			WithRemedy("rm -f /var/lib/rpm/__db.*; rpm --rebuilddb; then run the same command again")
	}
	return lines, result, nil
}

// What rpm says. Sources: rpm 4.11 to 4.20, and 6.1 as it ran on 2026-11-26, lib/rpmts.c, lib/rpmps.c, lib/psm.c, lib/rpmdb.c.
var (
	lockLostRPM    = regexp.MustCompile(`can't create transaction lock on (\S+)`)
	unmetRPM       = regexp.MustCompile(`(?m)^\s+(\S.*?) is needed by \S+`)
	neededRPM      = regexp.MustCompile(`is needed by \(installed\) (\S+)`) // what is to be removed
	scriptFailed   = regexp.MustCompile(`%(?:pre|post)(?:trans)?\(\S+\) scriptlet failed, (exit status|signal) \d+`)
	databaseBroken = regexp.MustCompile(`error: (?:rpmdb: .*|db\d? error.*|cannot open Packages .*|sqlite failure: .*)`)
	errorRPM       = regexp.MustCompile(`(?m)^error: (.+)$`)
	// untouched is what it ends with before it writes anything.
	untouched = regexp.MustCompile(`Failed dependencies:|can't create transaction lock|conflicts with file from|` + noRoomRPM.String())
	// noRoomRPM ends "installing package NAME needs 12MB on the / filesystem", newer ones "needs 12MB more space" and "3 more inodes".
	noRoomRPM = regexp.MustCompile(`needs \d+\S*(?: more \S+| inodes)? on the \S+ filesystem`)
)

// complaint is the error of an rpm that failed, with its own words.
func (r *Rpm) complaint(result Result, doing string) error {
	words := func(f *failure.Error) error { return f.WithEvidence("%s", lastLines(result.Output)) }
	if lockLostRPM.MatchString(result.Output) {
		holder, err := r.lockedBy()
		if err != nil || holder == "" {
			holder = "another process"
		}
		return words(failure.New(failure.PackagesLocked, "cannot %s: rpm's lock is held by %s", doing, holder))
	}
	if needed := neededRPM.FindAllStringSubmatch(result.Output, -1); len(needed) > 0 {
		var by []string
		for _, match := range needed {
			by = append(by, match[1])
		}
		return words(failure.New(failure.PackageInstall, "cannot %s: it is needed by %s", doing, strings.Join(by, ", ")))
	}
	var missing []string
	for _, match := range unmetRPM.FindAllStringSubmatch(result.Output, -1) {
		missing = append(missing, match[1])
	}
	if len(missing) > 0 {
		state := ManagerState{Family: "rpm", Manager: r.frontend().name}
		return words(failure.New(failure.PackageInstall, "cannot %s: it depends on what is not installed: %s",
			doing, strings.Join(missing, "; ")).
			WithRemedy("%s, then run the command again", state.InstallCommand(missing...)))
	}
	if strings.Contains(result.Output, "No space left") || noRoomRPM.MatchString(result.Output) {
		return words(failure.New(failure.DiskFull, "cannot %s: no space is left", doing))
	}
	first := "it ended without a word"
	if found := errorRPM.FindStringSubmatch(result.Output); found != nil {
		first = found[1]
	}
	return words(failure.New(failure.PackageInstall, "cannot %s: rpm: %s", doing, first))
}
