package artifact

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Mirror is a source like s that fetches into dir, an absolute folder, laid out as AWS's buckets are: what lies there then
// is what Base takes, as a folder or behind a web server. Everything belongs to owner and can be read by all.
func (s *Source) Mirror(dir string, owner host.Owner) *Source {
	m := *s
	m.CacheDir, m.mirrors, m.owner = dir, true, owner
	return &m
}

func (s *Source) mode() fs.FileMode {
	if s.mirrors {
		return 0o644
	}
	return 0o600
}

// shared makes a folder of a mirror, and its parents. All are the owner's: the disk's own way would give them to root.
func (s *Source) shared(dir string) error {
	if _, err := s.Files.Stat(dir); err == nil {
		return nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := s.shared(parent); err != nil {
			return err
		}
	}
	return s.Disk.Mkdir(dir, 0o755, s.owner)
}

// Key is where the package that ref names lies below a base, under its own version.
func (r Ref) Key() string { r = r.Canonical(); return r.key(r.Version) }

// SignatureKey is where its signature lies.
func (r Ref) SignatureKey() string { return r.Key() + r.signature() }

// SetLatest makes the alias Latest of a mirror mean the package, which must be there and verify. Each product has its own
// alias: the ECS agent's is a copy, as in AWS's bucket; the SSM agent's is a file with the version, and is for all
// families and architectures of the Region. changed is false when it was so already.
func (s *Source) SetLatest(ref Ref) (changed bool, err error) {
	ref = ref.Canonical()
	if err := ref.check(); err != nil {
		return false, err
	}
	pkg, err := s.cached(ref)
	if err != nil {
		return false, err
	}
	if ref.Product == SSMAgent {
		return s.put(ref.latestKey(), []byte(ref.Version+"\n"))
	}
	signature, err := s.Files.ReadFile(pkg.Path + ref.signature())
	if err != nil {
		return false, failure.Wrap(failure.ReadOnly, err, "read %s", pkg.Path+ref.signature())
	}
	alias := filepath.Join(s.CacheDir, filepath.FromSlash(ref.key(Latest)))
	changed, err = s.put(ref.key(Latest)+ref.signature(), signature)
	if err != nil {
		return changed, err
	}
	if have, err := s.verified(ref, alias, alias, signature); err == nil && have.SHA256 == pkg.SHA256 {
		return changed, nil
	}
	file, err := s.Files.Open(pkg.Path)
	if err != nil {
		return changed, failure.Wrap(failure.ReadOnly, err, "read %s", pkg.Path)
	}
	defer file.Close()
	return true, s.Disk.WriteFile(alias, file, s.mode(), s.owner)
}

// Aliases are the keys that SetLatest keeps for the package.
func (r Ref) Aliases() []string {
	if r.Product == SSMAgent {
		return []string{r.latestKey()}
	}
	return []string{r.key(Latest), r.key(Latest) + r.signature()}
}

// put writes a small file of a mirror where it is not as it should be.
func (s *Source) put(key string, text []byte) (changed bool, err error) {
	path := filepath.Join(s.CacheDir, filepath.FromSlash(key))
	if old, err := s.Files.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	if err := s.shared(filepath.Dir(path)); err != nil {
		return false, err
	}
	return true, s.Disk.WriteFile(path, bytes.NewReader(text), s.mode(), s.owner)
}

// Missing says of every piece of these packages, a package or its signature, that cannot be had where it was looked for.
// What is in the cache and verifies is there. Each version must be resolved. Nothing is downloaded but first bytes.
//
// Errors are those of the way to the pieces: Network, TLSUntrusted, ArtifactDownload; Usage.
func (s *Source) Missing(ctx context.Context, refs ...Ref) (missing []string, err error) {
	found, errs := make([][]string, len(refs)), make([]error, len(refs))
	var asking sync.WaitGroup
	for i, ref := range refs {
		asking.Go(func() { found[i], errs[i] = s.gaps(ctx, ref.Canonical()) })
	}
	asking.Wait()
	for i := range refs {
		for _, name := range found[i] {
			if !slices.Contains(missing, name) {
				missing = append(missing, name)
			}
		}
		if err == nil {
			err = errs[i]
		}
	}
	return missing, err
}

func (s *Source) gaps(ctx context.Context, ref Ref) (missing []string, err error) {
	if err := ref.check(); err != nil {
		return nil, err
	}
	if _, err := s.cached(ref); err == nil {
		return nil, nil
	}
	from, err := s.origin(ref.Region)
	if err != nil {
		return nil, err
	}
	pieces := func(key string) (missing []string, err error) {
		for _, piece := range []string{key, key + ref.signature()} {
			_, err := s.small(ctx, from, piece, 1)
			if failure.Is(err, failure.ArtifactMissing) {
				says := failure.Of(err).Message
				if piece != key && len(missing) == 0 {
					at, _, _ := strings.Cut(says, " ")
					says = strings.TrimSuffix(at, ref.signature()) + noSignature + says
				}
				missing = append(missing, says)
			} else if err != nil {
				return nil, err
			}
		}
		return missing, nil
	}
	missing, err = pieces(ref.key(ref.Version))
	if err != nil || len(missing) == 0 || !s.isLatest(ctx, from, ref) {
		return missing, err
	}
	return pieces(ref.key(Latest)) // Fetch takes it from there
}

// noSignature is said of a package that is there without one.
const noSignature = " has no signature: "

func isPlace(word string) bool { return strings.Contains(word, "/") }

// MissingFailure is the one error for all pieces that cannot be had: where each was looked for, and in the evidence what came
// of that.
func MissingFailure(missing []string) *failure.Error {
	code, what := failure.ArtifactMissing, "pieces are missing"
	if !slices.ContainsFunc(missing, func(says string) bool { return !strings.Contains(says, noSignature) }) {
		code, what = failure.ArtifactUnsigned, "packages have no signature"
	}
	if len(missing) == 1 {
		return failure.New(code, "%s", missing[0])
	}
	var places, reasons []string
	for _, says := range missing {
		place := says
		if words := strings.Fields(says); slices.ContainsFunc(words, isPlace) {
			place = words[slices.IndexFunc(words, isPlace)]
		}
		reason := strings.TrimSpace(strings.Replace(says, place, "", 1))
		if reason == "there is no" { // place
			reason = "there is no such file"
		}
		places = append(places, place)
		if reason != "" && !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return failure.New(code, "%d %s:\n%s", len(missing), what, strings.Join(places, "\n")).
		WithEvidence("of each: %s", strings.Join(reasons, "; "))
}

// MakeMirror makes the mirror's folder where there is none.
func (s *Source) MakeMirror() (made bool, err error) {
	if _, err := s.Files.Stat(s.CacheDir); err == nil {
		return false, nil
	}
	return true, s.shared(s.CacheDir)
}
