package artifact

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// Canonical is the ref with its version as it stands in AWS's file names: two refs of one package are equal then.
func (r Ref) Canonical() Ref {
	if r.resolved() {
		r.Version = r.normal()
	}
	return r
}

// File is where the package that ref names lies in the cache, if it does.
func (s *Source) File(ref Ref) string {
	ref.Version = ref.normal()
	return s.path(ref)
}

// Prune removes from the cache what it has of the kept packages' product but those packages. All are of one product.
func (s *Source) Prune(kept ...Ref) error {
	if len(kept) == 0 {
		return nil
	}
	var names []string
	for _, ref := range kept {
		ref.Version = ref.normal()
		names = append(names, ref.file(), ref.file()+ref.signature())
	}
	entries, err := s.Files.ReadDir(s.CacheDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), string(kept[0].Product)+"_") && !slices.Contains(names, e.Name()) {
			err = errors.Join(err, s.Disk.Remove(s.CacheDir+"/"+e.Name()))
		}
	}
	return err
}
