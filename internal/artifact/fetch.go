package artifact

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"path/filepath"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// arMagic begins every Debian package.
const arMagic = "!<arch>\n"

// magic begins every package of a family.
var magic = map[string]string{Deb: arMagic, RPM: rpmMagic}

// Fetch returns the package that ref names, from the cache when it verifies, else downloaded. It is verified when it is
// returned: signed by a key pinned for its product, and the product, version and architecture that were asked for.
//
// Errors: those of Resolve; ArtifactMissing, ArtifactDownload, Network, TLSUntrusted; ArtifactUnsigned,
// ArtifactCorrupt, ArtifactKey; DiskFull, ReadOnly. After a failure that trying again may mend, what was downloaded
// is kept.
func (s *Source) Fetch(ctx context.Context, ref Ref) (Package, error) {
	version, err := s.Resolve(ctx, ref)
	if err != nil {
		return Package{}, err
	}
	ref.Version = version
	if pkg, err := s.cached(ref); err == nil {
		progress(ctx, pkg.Size, pkg.Size)
		return pkg, nil
	}
	from, err := s.origin(ref.Region)
	if err != nil {
		return Package{}, err
	}
	if err := s.folders(ref); err != nil {
		return Package{}, err
	}
	pkg, err := s.obtain(ctx, from, ref, version)
	if failure.Is(err, failure.ArtifactMissing) && s.isLatest(ctx, from, ref) {
		return s.obtain(ctx, from, ref, Latest)
	}
	if failure.Is(err, failure.ArtifactMissing) {
		return Package{}, failure.Wrap(failure.ArtifactMissing, err, "find %s %s", ref.Product, version)
	}
	return pkg, err
}

// folders makes those that the package will lie in.
func (s *Source) folders(ref Ref) error {
	if s.mirrors {
		return s.shared(filepath.Dir(s.path(ref)))
	}
	for _, dir := range []string{filepath.Dir(s.CacheDir), s.CacheDir} {
		if err := s.Disk.Mkdir(dir, 0o700, host.Owner{}); err != nil {
			return err
		}
	}
	return nil
}

// isLatest reports whether the alias Latest has the version that could not be found under its own name.
func (s *Source) isLatest(ctx context.Context, from origin, ref Ref) bool {
	version, err := s.peek(ctx, from, ref)
	return err == nil && version == ref.Version
}

// Cached returns the package that ref names if it is in the cache and verifies now. It needs no network.
func (s *Source) Cached(_ context.Context, ref Ref) (Package, bool) {
	if ref.check() != nil || !ref.resolved() {
		return Package{}, false
	}
	ref.Version = ref.normal()
	pkg, err := s.cached(ref)
	return pkg, err == nil
}

func (s *Source) cached(ref Ref) (Package, error) {
	path := s.path(ref)
	signature, err := s.Files.ReadFile(path + ref.signature())
	if err != nil {
		return Package{}, err
	}
	return s.verified(ref, path, path, signature)
}

// obtain downloads the package under this version's name or alias, with its signature, and moves it to its place once
// it verifies. A download that an earlier run began, and that is not what was signed, is thrown away and made anew
// once: the object may have changed without its validator telling.
func (s *Source) obtain(ctx context.Context, from origin, ref Ref, version string) (Package, error) {
	key, path := ref.key(version), s.path(ref)
	for {
		coming, take := s.beside(ctx, from, key+ref.signature())
		resumed, err := s.download(coming, from, key, path+".part", magic[ref.Family])
		signature, unsigned := take(err == nil)
		if err != nil {
			return Package{}, err
		}
		if failure.Is(unsigned, failure.ArtifactMissing) {
			return Package{}, failure.New(failure.ArtifactUnsigned, "%s has no signature: %s", from.name(key), unsigned).
				WithEvidence("%s: %s", from.name(key+ref.signature()), failure.Of(unsigned).Evidence)
		} else if unsigned != nil {
			return Package{}, unsigned
		}
		pkg, err := s.verified(ref, path+".part", from.name(key), signature)
		if failure.Is(err, failure.ArtifactCorrupt) {
			if err := s.restart(&part{path: path + ".part"}); err != nil {
				return Package{}, err
			}
			if resumed {
				continue
			}
		}
		if err != nil {
			return Package{}, err
		}
		pkg.Path = path
		return pkg, s.keep(path, ref.signature(), signature)
	}
}

// beside reads a package's signature while the package comes under the context that it returns: it would be a round trip
// more at the end. It begins with the package's first byte, so that what cannot be had is asked for once. take waits for
// it, or drops it.
func (s *Source) beside(
	ctx context.Context, from origin, key string,
) (coming context.Context, take func(wanted bool) ([]byte, error)) {
	begun, ended := make(chan struct{}), make(chan struct{})
	begin := sync.OnceFunc(func() { close(begun) })
	coming = WithProgress(ctx, func(done, total int64) {
		begin()
		progress(ctx, done, total)
	})
	reading, stop := context.WithCancel(ctx)
	var data []byte
	var err error
	go func() {
		defer close(ended)
		select {
		case <-begun:
			data, err = s.small(reading, from, key, maxSmall)
		case <-reading.Done():
			err = reading.Err()
		}
	}()
	return coming, func(wanted bool) ([]byte, error) {
		defer stop()
		if wanted {
			begin() // all of the package was there
		} else {
			stop()
		}
		<-ended
		return data, err
	}
}

// keep moves a verified part to its place. The signature goes first: a package without one is never in the cache.
func (s *Source) keep(path, suffix string, signature []byte) error {
	if err := s.Disk.WriteFile(path+suffix, bytes.NewReader(signature), s.mode(), s.owner); err != nil {
		return err
	}
	if err := s.Disk.Remove(path); err != nil { // one that did not verify
		return err
	}
	if err := s.Disk.Rename(path+".part", path); err != nil {
		return err
	}
	return s.Disk.Remove((&part{path: path + ".part"}).notePath())
}

// verified holds the file at path to its signature and to ref. name is what messages call it.
func (s *Source) verified(ref Ref, path, name string, signature []byte) (Package, error) {
	open := func() (io.ReadCloser, error) {
		file, err := s.Files.Open(path)
		if err != nil {
			return nil, failure.Wrap(failure.ReadOnly, err, "read %s", path)
		}
		return file, nil
	}
	proof, err := s.Keys.verify(ref.Product, name, open, signature, s.Now())
	if err != nil {
		return Package{}, err
	}
	file, err := open()
	if err != nil {
		return Package{}, err
	}
	defer file.Close()
	product, version, arch, err := Identify(ref.Family, file)
	if err != nil {
		return Package{}, failure.Wrap(failure.ArtifactCorrupt, err, "read %s", name)
	}
	if product != string(ref.Product) || !ref.is(version) || arch != ref.Arch {
		return Package{}, failure.New(failure.ArtifactCorrupt, "%s is signed but is %s %s for %s; wanted is %s %s for %s",
			name, product, version, arch, ref.Product, ref.Version, ref.Arch).
			WithRemedy("the source has another package under this name: name the version, or another --artifacts location")
	}
	return Package{ref, path, proof.size, hex.EncodeToString(proof.sum), proof.fingerprint, proof.at}, nil
}
