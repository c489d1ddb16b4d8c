package host

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Dpkg is Debian's package manager. It implements [PackageReader] and [Packager], and with apt
// [Repositories].
type Dpkg struct {
	files  Files
	disk   Disk
	runner Runner
}

// NewDpkg returns dpkg with its database in files and its children run by runner.
func NewDpkg(files Files, disk Disk, runner Runner) *Dpkg { return &Dpkg{files, disk, runner} }

// keepOld makes dpkg decide about changed configuration files without asking: as the package wants where nobody changed
// the file, else the old one stays.
var keepOld = []string{"--force-confdef", "--force-confold"}

// Install implements Packager. What the package depends on must be there: nothing else is installed with it, and what
// is missing is named in the error.
func (d *Dpkg) Install(ctx context.Context, file string) error {
	result, err := d.dpkg(ctx, append(append([]string{}, keepOld...), "--install", d.disk.Local(file))...)
	if err != nil || result.ExitCode == 0 {
		return err
	}
	doing := "install " + file
	if missing := unmet(result.Output); len(missing) > 0 {
		return failure.New(failure.PackageInstall, "cannot %s: it depends on what is not installed: %s",
			doing, strings.Join(missing, "; ")).
			WithEvidence("%s", lastLines(result.Output)).
			WithRemedy("install what is missing with apt-get install, then run the command again")
	}
	return complaint(result, failure.PackageInstall, doing)
}

// Repair implements Packager: it configures what was unpacked and runs the triggers that wait. What only its package file
// can repair stays as it is.
func (d *Dpkg) Repair(ctx context.Context) error {
	result, err := d.dpkg(ctx, append(append([]string{}, keepOld...), "--configure", "--pending")...)
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return complaint(result, failure.PackagesBroken, "finish what dpkg was interrupted in")
	}
	unfinished, err := d.unfinished()
	if err != nil {
		return err
	}
	for _, p := range unfinished {
		if !p.Reinstall {
			return failure.New(failure.PackagesBroken, "dpkg cannot finish by itself: %s is %s", p.Name, p.State).
				WithEvidence("%s", lastLines(result.Output)).
				WithRemedy("dpkg --configure -a; apt-get -f install")
		}
	}
	return nil
}

func (d *Dpkg) dpkg(ctx context.Context, args ...string) (Result, error) {
	return d.runner.Run(ctx, Cmd{
		Path: "/usr/bin/dpkg",
		Args: args,
		Env:  []string{"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true"},
	})
}

// lockLost is what dpkg says when another process got the lock first: "dpkg: error: dpkg frontend lock was locked by
// another process with pid 4711"; older ones "status database is locked by another process".
var lockLost = regexp.MustCompile(`(?:lock|database) (?:was|is) locked by (.+)`)

// complaint is the error of a dpkg that failed, with its own last words.
func complaint(result Result, code failure.Code, doing string) error {
	if lost := lockLost.FindStringSubmatch(result.Output); lost != nil {
		return failure.New(failure.PackagesLocked, "cannot %s: dpkg's lock is held by %s", doing, strings.TrimSpace(lost[1])).
			WithEvidence("%s", lastLines(result.Output))
	}
	if member := unknownCompression.FindStringSubmatch(result.Output); member != nil {
		return failure.New(code, "cannot %s: this system's dpkg does not know how its %s is compressed", doing, member[1]).
			WithEvidence("%s", lastLines(result.Output)).
			WithRemedy("name an older version of the package (--ssm-agent-version, --ecs-agent-version), or upgrade the system: " +
				"Debian's dpkg knows zstd from Debian 12 on")
	}
	how := fmt.Sprintf("exit status %d", result.ExitCode)
	if result.ExitCode < 0 {
		how = "a signal"
	}
	if reason := dpkgReason.FindStringSubmatch(result.Output); reason != nil {
		how = how + ": " + reason[1]
	}
	if full := noSpace.FindString(result.Output); full != "" { // its own, or a script's
		code, how = failure.DiskFull, how+": "+full
	}
	return failure.New(code, "cannot %s: dpkg ended with %s", doing, how).WithEvidence("%s", lastLines(result.Output))
}

// dpkgReason is the line in which dpkg says why it gave a package up: " new amazon-ecs-init package pre-installation
// script subprocess returned error exit status 1".
var dpkgReason = regexp.MustCompile(`(?m)^dpkg: error processing .*:\n (\S.*)$`)

// noSpace is what dpkg, and what its scripts run, say of a full disk, with the file: " unable to flush /var/lib/dpkg/updates/tmp.i after padding: No space
// left on device".
var noSpace = regexp.MustCompile(`(?m)[^\s:][^\n:]*(?:: |\()No space left on device\)?`)

// unknownCompression is dpkg's word for a package that is packed in a way that came after it. Source: dpkg 1.20.14 of Debian 11
// on 2026-11-26.
var unknownCompression = regexp.MustCompile(`uses unknown compression for member '([^']+)'`)

// unmetDependency is a line like " amazon-ecs-init depends on docker-ce (>= 17.12.0) | docker.io; however:".
var unmetDependency = regexp.MustCompile(`(?m)^ \S+ (?:pre-)?depends on (.+); however:\s*$`)

// unmet are the dependencies that dpkg found missing, in its own form.
func unmet(output string) []string {
	var missing []string
	for _, match := range unmetDependency.FindAllStringSubmatch(output, -1) {
		missing = append(missing, match[1])
	}
	return missing
}

// evidenceLines is how much of a child's output is worth a reader's time.
const evidenceLines = 12

func lastLines(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-evidenceLines):], "\n")
}
