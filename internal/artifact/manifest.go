package artifact

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Files of a mirror that tell what is in it. Nobody's trust rests on them: a host verifies the signatures.
const (
	ManifestFile = "manifest.json"
	SumsFile     = "SHA256SUMS" // for sha256sum -c
	MirrorLock   = ".anywhere-mirror.lock"
)

// ManifestSchema is the form of a manifest.
const ManifestSchema = "anywhere-mirror/v1"

// Manifest lists what a mirror holds.
type Manifest struct {
	Schema   string     `json:"schema"`
	Packages []Mirrored `json:"packages"` // sorted by path
	Latest   []Alias    `json:"latest"`   // what the alias latest means, sorted likewise
}

// Mirrored is a package in a mirror.
type Mirrored struct {
	Product   Product   `json:"product"`
	Version   string    `json:"version"`
	Family    string    `json:"family"`
	Arch      string    `json:"arch"`
	Region    string    `json:"region"`
	Path      string    `json:"path"` // below the mirror's folder
	Signature string    `json:"signature"`
	Size      int64     `json:"size"`
	SHA256    string    `json:"sha256"`
	Key       string    `json:"key"` // that signed it, by fingerprint
	SignedAt  time.Time `json:"signedAt"`
}

// Ref is the package's name.
func (m Mirrored) Ref() Ref { return Ref{m.Product, m.Version, m.Family, m.Arch, m.Region} }

// Alias is a version that the word latest means.
type Alias struct {
	Product Product  `json:"product"`
	Version string   `json:"version"`
	Family  string   `json:"family"` // empty for the SSM agent, whose latest is that of all families and architectures
	Arch    string   `json:"arch"`   // likewise
	Region  string   `json:"region"`
	Files   []string `json:"files"`
}

// Manifest reads a mirror's, without what is not there any more. A mirror that has none has an empty one.
func (s *Source) Manifest() (Manifest, error) {
	m := Manifest{Schema: ManifestSchema, Packages: []Mirrored{}, Latest: []Alias{}}
	name := filepath.Join(s.CacheDir, ManifestFile)
	raw, err := s.Files.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return m, failure.Wrap(failure.ReadOnly, err, "read %s", name)
	}
	var read Manifest
	if err := json.Unmarshal(raw, &read); err != nil || read.Schema != ManifestSchema {
		return m, failure.New(failure.Usage, "%s is not a manifest of a mirror in the form %s", name, ManifestSchema).
			WithEvidence("it begins with %.60q", raw).
			WithRemedy("name another folder, or remove the file: what the next run looks at is listed anew")
	}
	there := func(key string) bool {
		_, err := s.Files.Stat(filepath.Join(s.CacheDir, filepath.FromSlash(key)))
		return err == nil && filepath.IsLocal(filepath.FromSlash(key))
	}
	for _, p := range read.Packages {
		if there(p.Path) && there(p.Signature) {
			m.Packages = append(m.Packages, p)
		}
	}
	for _, a := range read.Latest {
		if !slices.ContainsFunc(a.Files, func(key string) bool { return !there(key) }) {
			m.Latest = append(m.Latest, a)
		}
	}
	return m, nil
}

// Add notes a package that Fetch or Cached of a mirror has returned.
func (m *Manifest) Add(p Package) {
	ref := p.Canonical()
	entry := Mirrored{
		p.Product, ref.Version, p.Family, p.Arch, p.Region, ref.Key(), ref.SignatureKey(), p.Size, p.SHA256, p.KeyFingerprint,
		p.SignedAt.UTC(),
	}
	m.Packages = slices.DeleteFunc(m.Packages, func(have Mirrored) bool { return have.Path == entry.Path })
	m.Packages = append(m.Packages, entry)
}

// AddLatest notes what SetLatest has made latest mean.
func (m *Manifest) AddLatest(ref Ref) {
	ref = ref.Canonical()
	entry := Alias{ref.Product, ref.Version, ref.Family, ref.Arch, ref.Region, ref.Aliases()}
	if ref.Product == SSMAgent {
		entry.Family, entry.Arch = "", ""
	}
	m.Latest = slices.DeleteFunc(m.Latest, func(have Alias) bool { return have.Files[0] == entry.Files[0] })
	m.Latest = append(m.Latest, entry)
}

// WriteManifest writes a mirror's manifest and the file of sums, where they are not so already.
func (s *Source) WriteManifest(m Manifest) (changed bool, err error) {
	slices.SortFunc(m.Packages, func(a, b Mirrored) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortFunc(m.Latest, func(a, b Alias) int { return cmp.Compare(a.Files[0], b.Files[0]) })
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return false, failure.Wrap(failure.Internal, err, "write the manifest")
	}
	sums := map[string]string{}
	for _, p := range m.Packages {
		sums[p.Path] = p.SHA256
		if sums[p.Signature], err = s.sum(p.Signature); err != nil {
			return false, err
		}
	}
	for _, a := range m.Latest {
		for _, key := range a.Files {
			if sums[key], err = s.sum(key); err != nil {
				return false, err
			}
		}
	}
	var lines []string
	for key, sum := range sums {
		lines = append(lines, sum+"  "+key+"\n")
	}
	slices.SortFunc(lines, func(a, b string) int { return cmp.Compare(a[2*sha256.Size:], b[2*sha256.Size:]) })
	one, err := s.put(ManifestFile, append(text, '\n'))
	if err != nil {
		return one, err
	}
	two, err := s.put(SumsFile, []byte(strings.Join(lines, "")))
	return one || two, err
}

// sum is the SHA-256 of a mirror's file.
func (s *Source) sum(key string) (string, error) {
	name := filepath.Join(s.CacheDir, filepath.FromSlash(key))
	file, err := s.Files.Open(name)
	if err != nil {
		return "", failure.Wrap(failure.ReadOnly, err, "read %s", name)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", failure.Wrap(failure.ReadOnly, err, "read %s", name)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
