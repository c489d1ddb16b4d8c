package platform

import (
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Family is the kind of packages that a system takes.
type Family string

// Families.
const (
	Deb     Family = "deb"
	RPM     Family = "rpm"
	Windows Family = "windows"
	None    Family = "none" // an image without a package manager
)

// State is what AWS's list of operating systems for ECS Anywhere says.
type State string

// States.
const (
	Listed    State = "listed"
	WasListed State = "was-listed"
	Never     State = "never"
)

// Position is AWS's position. Since and Until are dates (2021-05-27), or say in words between which copies of AWS's
// page the change lies; they may be empty.
type Position struct {
	State        State
	Since, Until string
}

// Where Docker can come from.
const (
	SourceDocker = "docker" // Docker's own repository, download.docker.com
	SourceDistro = "distro" // the distribution's package
)

// Row is what is known of one operating system in some of its versions.
type Row struct {
	System   string   // for people: "Debian"
	ID       string   // of os-release; "windows" for Windows Server
	NameHas  string   // part of os-release's NAME, where the ID does not tell systems apart
	NameNot  string   // and what must not be part of it
	Marker   string   // a file that tells it, where os-release cannot; such a row is only shown, never found
	Versions []string // VERSION_ID or its first part: "8" is 8.10 too; none means any (rolling)
	Family   Family
	Manager  string   // apt, yum, dnf, dnf5, zypper; empty when there is none
	AWS      Position // as of Date
	Docker   []string // sources, the better first; none means that Docker must be there before
	// DockerPackage is the distribution's name for Docker; empty without SourceDistro.
	DockerPackage string
	// DockerFolder is the system whose packages of Docker's own repository fit; the ID when empty.
	DockerFolder string
	// DockerEnable is a repository of the distribution that is configured but off, and has DockerPackage.
	DockerEnable string
	ECSUnit      string // the ECS agent's unit
	Built        bool   // anywhere can register it today
	Broken       bool   // known not to work; Notes say why
	Notes        string // what its operator should know
	Source       string // where the facts are from
}

// Verdict is how well a system fits its row.
type Verdict string

// Verdicts.
const (
	Known   Verdict = "known"   // the row is about this version
	Newer   Verdict = "newer"   // this version is newer than the table, or has no number (testing, unreleased)
	Older   Verdict = "older"   // this version is older than all that ECS Anywhere ever ran on
	Between Verdict = "between" // this version was passed over: an interim release
	Similar Verdict = "similar" // the row is about a system that this one says it is like; its version means nothing here
)

// Find looks a system up by os-release's ID, VERSION_ID, NAME and ID_LIKE. A row that is not about this very version is
// the nearest one, with AWS's position Never. It is false when nothing is known of the system.
func Find(id, versionID, name string, like []string) (Row, Verdict, bool) {
	if rows := rowsOf(id, name); len(rows) > 0 {
		row, verdict := nearest(rows, versionID)
		return row, verdict, true
	}
	for _, relation := range like {
		if rows := rowsOf(relation, ""); len(rows) > 0 {
			return unlisted(rows[len(rows)-1]), Similar, true
		}
	}
	return Row{}, "", false
}

// rowsOf are the rows of a system, oldest first.
func rowsOf(id, name string) []Row {
	var rows []Row
	for _, row := range Table() {
		if row.ID == id && row.Marker == "" && strings.Contains(name, row.NameHas) &&
			(row.NameNot == "" || !strings.Contains(name, row.NameNot)) {
			rows = append(rows, row)
		}
	}
	return rows
}

func nearest(rows []Row, version string) (Row, Verdict) {
	for _, row := range rows {
		if row.has(version) {
			return row, Known
		}
	}
	last := rows[len(rows)-1]
	for i, row := range rows {
		if version != "" && compare(version, row.Versions[0]) < 0 {
			if i == 0 {
				return unlisted(row), Older
			}
			return unlisted(rows[i-1]), Between
		}
	}
	if n := len(last.Versions); version != "" && compare(version, last.Versions[n-1]) < 0 {
		return unlisted(last), Between
	}
	return unlisted(last), Newer
}

func (r Row) has(version string) bool {
	for _, v := range r.Versions {
		if version == v || strings.HasPrefix(version, v+".") {
			return true
		}
	}
	return len(r.Versions) == 0
}

// unlisted is what remains of a row for a version that it is not about.
func unlisted(r Row) Row {
	r.AWS, r.Broken = Position{State: Never}, false
	return r
}

// compare compares dotted numbers.
func compare(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := 0; i < len(as) && i < len(bs); i++ {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x - y
		}
	}
	return len(as) - len(bs)
}

// Arch is how deb and rpm packages, and the URLs of both agents, name a Go architecture. ECS Anywhere exists for two;
// any other is failure.UnsupportedArch. Source: ecs-anywhere-install.sh of 2026-04-14, lines 206-214.
func Arch(goarch string) (deb, rpm string, err error) {
	switch goarch {
	case "amd64":
		return "amd64", "x86_64", nil
	case "arm64":
		return "arm64", "aarch64", nil
	}
	return "", "", failure.New(failure.UnsupportedArch, "this is a %s machine, and there are no ECS agents for it", goarch)
}
