package artifact

import (
	"bytes"
	"context"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Resolve tells which version ref means, as it stands in AWS's file names. Only an empty version or Latest needs the
// network, and what it says then is not verified: Fetch holds the package's own header to it.
//
// Errors: Usage for a version or Region that cannot be one, ArtifactMissing, Network, TLSUntrusted, ArtifactDownload.
func (s *Source) Resolve(ctx context.Context, ref Ref) (version string, err error) {
	if err := ref.check(); err != nil {
		return "", err
	}
	if ref.resolved() {
		return ref.normal(), nil
	}
	from, err := s.origin(ref.Region)
	if err != nil {
		return "", err
	}
	if ref.Product == SSMAgent {
		return s.latestSSM(ctx, from, ref)
	}
	return s.peek(ctx, from, ref)
}

func (s *Source) latestSSM(ctx context.Context, from origin, ref Ref) (string, error) {
	raw, err := s.small(ctx, from, ref.latestKey(), maxSmall)
	if err != nil {
		return "", err
	}
	version := strings.TrimSpace(string(raw))
	if !ssmPattern.MatchString(version) {
		return "", failure.New(failure.ArtifactMissing, "%s does not hold a version", from.name(ref.latestKey())).
			WithEvidence("it begins with %.60q", raw)
	}
	return version, nil
}

// peek reads the version of the package under the alias Latest from its beginning, where a deb has its control file and
// an rpm its header.
func (s *Source) peek(ctx context.Context, from origin, ref Ref) (string, error) {
	key := ref.key(Latest)
	raw, err := s.small(ctx, from, key, maxSmall)
	if err != nil {
		return "", err
	}
	name, version, arch, err := Identify(ref.Family, bytes.NewReader(raw))
	if err != nil {
		return "", failure.New(failure.ArtifactMissing, "%s is not a package of the family %s", from.name(key), ref.Family).
			WithEvidence("it begins with %.60q; %s", raw, err)
	}
	if name != string(ref.Product) || arch != ref.Arch {
		return "", failure.New(failure.ArtifactMissing, "%s is %s for %s, not %s for %s",
			from.name(key), name, arch, ref.Product, ref.Arch)
	}
	ref.Version = version
	if err := ref.check(); err != nil {
		return "", err
	}
	return ref.normal(), nil
}
