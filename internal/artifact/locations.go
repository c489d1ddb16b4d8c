package artifact

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/partition"
)

// Where AWS keeps its packages, relative to the Region's S3 endpoint. {region}, {version} and {arch} are filled in;
// the version "latest" is an alias that AWS moves. Sources, read 2026-11-22: amazon-ecs-agent,
// scripts/ecs-anywhere-install.sh and buildspecs/signing.yml; amazon-ssm-agent, agent/updateutil/updateutil.go and
// README.md.
var locations = map[Product]map[string]location{
	ECSInit: {
		Deb: {
			pattern: "amazon-ecs-agent-{region}/amazon-ecs-init-{version}.{arch}.deb", signature: ".asc",
			arch: map[string]string{"amd64": "amd64", "arm64": "arm64"},
		},
		RPM: {
			pattern: "amazon-ecs-agent-{region}/amazon-ecs-init-{version}.{arch}.rpm", signature: ".asc",
			arch: map[string]string{"amd64": "x86_64", "arm64": "aarch64"},
		},
	},
	SSMAgent: {
		Deb: {
			pattern: "amazon-ssm-{region}/{version}/debian_{arch}/amazon-ssm-agent.deb", signature: ".sig",
			arch: map[string]string{"amd64": "amd64", "arm64": "arm64"},
		},
		RPM: {
			pattern: "amazon-ssm-{region}/{version}/linux_{arch}/amazon-ssm-agent.rpm", signature: ".sig",
			arch: map[string]string{"amd64": "amd64", "arm64": "arm64"},
		},
	},
}

// ssmLatest is a text file with the newest SSM agent's version. ECS has no such file.
const ssmLatest = "amazon-ssm-{region}/latest/VERSION"

type location struct {
	pattern   string
	signature string            // what a detached signature's name has in addition
	arch      map[string]string // Go's names to this family's
}

var (
	// What becomes part of a URL and of a file name: no slash, no leading dot or dash.
	versionPattern = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~-]*$`)
	ssmPattern     = regexp.MustCompile(`^[0-9]+(\.[0-9]+){3}$`)
	ecsPattern     = regexp.MustCompile(`^[0-9]+(\.[0-9]+){2}$`)
)

// maxVersion is the length of a version at most. It is not in the pattern, where a counted repetition costs time at every
// start of the program.
const maxVersion = 64

// check refuses references that no location can be made of.
func (r Ref) check() error {
	products, ok := locations[r.Product]
	if !ok {
		return failure.New(failure.Internal, "no location is known of the package %q", r.Product)
	}
	where, ok := products[r.Family]
	if !ok {
		return failure.New(failure.NotBuilt, "AWS has no %s for package managers of the family %q", r.Product, r.Family)
	}
	if where.arch[r.Arch] == "" {
		return failure.New(failure.UnsupportedArch, "AWS has no %s for the architecture %q", r.Product, r.Arch)
	}
	if err := partition.CheckRegion(r.Region); err != nil {
		return err
	}
	if r.resolved() && (len(r.Version) > maxVersion || !versionPattern.MatchString(r.Version)) {
		return failure.New(failure.Usage, "%q is not a version of %s", r.Version, r.Product)
	}
	return nil
}

func (r Ref) resolved() bool { return r.Version != "" && r.Version != Latest }

// normal is the version as it stands in AWS's file names. Package managers know the SSM agent 3.3.4108.0 as
// 3.3.4108.0-1; the ECS agent's own version, 1.105.1, is that of the package's first revision, 1.105.1-1.
func (r Ref) normal() string {
	switch r.Product {
	case SSMAgent:
		return withoutRevision(r.Version)
	case ECSInit:
		if ecsPattern.MatchString(r.Version) {
			return r.Version + "-1"
		}
	}
	return r.Version
}

// is reports whether a package whose control file says version is the one that r wants.
func (r Ref) is(version string) bool {
	if r.Product == SSMAgent {
		return withoutRevision(version) == withoutRevision(r.Version)
	}
	return version == r.Version
}

func withoutRevision(version string) string {
	before, _, _ := strings.Cut(version, "-")
	return before
}

// key is where the package lies below the base, in the given version or under the alias Latest.
func (r Ref) key(version string) string {
	where := locations[r.Product][r.Family]
	fill := strings.NewReplacer("{region}", r.Region, "{version}", version, "{arch}", where.arch[r.Arch])
	return fill.Replace(where.pattern)
}

func (r Ref) signature() string { return locations[r.Product][r.Family].signature }

func (r Ref) latestKey() string { return strings.ReplaceAll(ssmLatest, "{region}", r.Region) }

// file is the package's name in the cache: a function of product, version and architecture.
func (r Ref) file() string {
	return string(r.Product) + "_" + r.Version + "_" + r.Arch + "." + r.Family
}

func (s *Source) path(r Ref) string {
	if s.mirrors {
		return filepath.Join(s.CacheDir, filepath.FromSlash(r.key(r.Version)))
	}
	return filepath.Join(s.CacheDir, r.file())
}
