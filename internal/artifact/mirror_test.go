package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// site is a shelf with both products of several versions, and a mirror of it in a folder.
type site struct {
	*shelf
	t      *testing.T
	keys   *Keyring
	mirror *Source
}

const mirrorDir = "/srv/mirror"

func newSite(t *testing.T) *site {
	t.Helper()
	signer := newKey(t, today.Add(-100*day), 300*day)
	s := &site{shelf: &shelf{objects: map[string][]byte{}, faults: map[string]fault{}}, t: t}
	for _, ref := range []Ref{
		{ECSInit, "1.104.0-1", Deb, "amd64", region}, {ECSInit, "1.105.1-1", Deb, "amd64", region},
		{SSMAgent, "3.3.4108.0", Deb, "amd64", region}, {SSMAgent, "3.3.4108.0", Deb, "arm64", region},
	} {
		deb := newDeb(t, string(ref.Product), inside(ref), ref.Arch, packageSize)
		signature := asc(t, sign(t, signer, today.Add(-day), deb))
		for _, key := range []string{ref.key(ref.Version), ref.key(Latest)} {
			s.objects[key], s.objects[key+ref.signature()] = deb, signature
		}
	}
	s.objects["amazon-ssm-"+region+"/latest/VERSION"] = []byte("3.3.4108.0\n")
	ring := map[Product][]*openpgp.Entity{ECSInit: {signer}, SSMAgent: {signer}}
	s.keys = newRing(t, ring)
	s.mirror = newSource(t, "http://mirror.test/", s.serve(t), s.keys).Mirror(mirrorDir, ownerZero)
	if made, err := s.mirror.MakeMirror(); err != nil || !made {
		t.Fatal(made, err)
	}
	return s
}

// host is a host that takes from the mirror's folder and reaches nothing else.
func (s *site) host() *Source {
	h := *s.mirror
	h.mirrors, h.Base, h.CacheDir = false, mirrorDir, "/var/lib/anywhere/packages"
	h.HTTP = &http.Client{Transport: http.NewFileTransport(http.Dir(s.t.TempDir()))}
	return &h
}

// tree are the mirror's files with their sums.
func (s *site) tree() map[string]string {
	s.t.Helper()
	all := map[string]string{}
	var walk func(string)
	walk = func(dir string) {
		entries, err := s.mirror.Files.ReadDir(dir)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range entries {
			if name := path.Join(dir, e.Name()); e.IsDir() {
				walk(name)
			} else {
				raw, err := s.mirror.Files.ReadFile(name)
				if err != nil {
					s.t.Fatal(err)
				}
				sum := sha256.Sum256(raw)
				all[strings.TrimPrefix(name, mirrorDir+"/")] = hex.EncodeToString(sum[:])
			}
		}
	}
	walk(mirrorDir)
	return all
}

// What a mirror has fetched lies where AWS has it, and a host that reaches nothing but the folder resolves, finds and
// verifies the same.
func TestMirrorIsWhatHostsTakeFrom(t *testing.T) {
	s := newSite(t)
	refs := []Ref{
		{ECSInit, "1.104.0", Deb, "amd64", region}, {ECSInit, "1.105.1", Deb, "amd64", region},
		{SSMAgent, "3.3.4108.0", Deb, "amd64", region}, {SSMAgent, "3.3.4108.0-1", Deb, "arm64", region},
	}
	manifest, err := s.mirror.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		pkg, err := s.mirror.Fetch(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		manifest.Add(pkg)
	}
	for _, ref := range []Ref{refs[1], refs[2]} {
		if changed, err := s.mirror.SetLatest(ref); err != nil || !changed {
			t.Fatalf("%s: %v, %v", ref.Product, changed, err)
		}
		if changed, err := s.mirror.SetLatest(ref); err != nil || changed {
			t.Errorf("%s: the second time: %v, %v", ref.Product, changed, err)
		}
		manifest.AddLatest(ref)
	}
	if changed, err := s.mirror.WriteManifest(manifest); err != nil || !changed {
		t.Fatal(changed, err)
	}
	read, err := s.mirror.Manifest()
	if diff := cmp.Diff(manifest, read); diff != "" || err != nil {
		t.Errorf("the manifest is read as another: %v\n%s", err, diff)
	}
	if changed, err := s.mirror.WriteManifest(read); err != nil || changed {
		t.Errorf("written anew: %v, %v", changed, err)
	}

	tree := s.tree()
	for key, sum := range tree { // the sums hold for every file of the mirror but those that list them
		if key == SumsFile || key == ManifestFile {
			continue
		}
		raw, _ := s.mirror.Files.ReadFile(path.Join(mirrorDir, SumsFile))
		if !strings.Contains(string(raw), sum+"  "+key+"\n") {
			t.Errorf("%s does not list %s", SumsFile, key)
		}
		info, err := s.mirror.Files.Stat(path.Join(mirrorDir, key))
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s cannot be read by a web server: %v, %v", key, info.Mode(), err)
		}
		if object, ok := s.objects[key]; !ok && !strings.HasSuffix(key, "/VERSION") {
			t.Errorf("AWS has no %s", key)
		} else if theirs := sha256.Sum256(object); ok && hex.EncodeToString(theirs[:]) != sum {
			t.Errorf("%s is not what AWS has", key)
		}
	}

	h := s.host()
	for _, ref := range []Ref{{ECSInit, Latest, Deb, "amd64", region}, {SSMAgent, "", Deb, "arm64", region}, refs[0]} {
		if missing, err := h.Missing(t.Context(), Ref{ref.Product, map[bool]string{true: "1.105.1", false: "3.3.4108.0"}[ref.Product == ECSInit], Deb, ref.Arch, region}); err != nil || missing != nil {
			t.Errorf("%+v: missing %v, %v", ref, missing, err)
		}
		pkg, err := h.Fetch(t.Context(), ref)
		if err != nil {
			t.Errorf("%+v: %v", ref, err)
		}
		if sum := tree[pkg.Canonical().Key()]; sum != pkg.SHA256 {
			t.Errorf("%+v: the host has %s and the mirror %s", ref, pkg.SHA256, sum)
		}
	}
}

// A package that the mirror damages, or whose signature it loses, is refused on the host.
func TestHostsVerifyWhatAMirrorHas(t *testing.T) {
	ref := Ref{SSMAgent, "3.3.4108.0", Deb, "amd64", region}
	for _, c := range []struct {
		name  string
		spoil func(s *site, disk *host.Dir)
		code  failure.Code
	}{
		{"damaged", func(s *site, disk *host.Dir) {
			raw, _ := disk.ReadFile(path.Join(mirrorDir, ref.Key()))
			_ = disk.WriteFile(path.Join(mirrorDir, ref.Key()), bytes.NewReader(flip(raw)), 0o644, ownerZero)
		}, failure.ArtifactCorrupt},
		{"without its signature", func(s *site, disk *host.Dir) { _ = disk.Remove(path.Join(mirrorDir, ref.SignatureKey())) }, failure.ArtifactUnsigned},
		{"gone", func(s *site, disk *host.Dir) { _ = disk.Remove(path.Join(mirrorDir, ref.Key())) }, failure.ArtifactMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			if _, err := s.mirror.Fetch(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			c.spoil(s, s.mirror.Disk.(*host.Dir))
			if _, err := s.host().Fetch(t.Context(), ref); !failure.Is(err, c.code) {
				t.Errorf("got %v", err)
			}
			if _, err := s.mirror.Fetch(t.Context(), ref); err != nil { // run again, the mirror mends it
				t.Error(err)
			}
			if _, err := s.host().Fetch(t.Context(), ref); err != nil {
				t.Error(err)
			}
		})
	}
}

// A download that was cut off is gone on with by Range, in a folder that all can read.
func TestMirrorResumes(t *testing.T) {
	s := newSite(t)
	ref := Ref{ECSInit, "1.105.1-1", Deb, "amd64", region}
	s.faults[ref.Key()] = first(5, halfway)
	s.mirror.Backoff = func(int) time.Duration { return 0 }
	if _, err := s.mirror.Fetch(t.Context(), ref); err != nil && !failure.Is(err, failure.ArtifactDownload) {
		t.Fatal(err)
	}
	asked := len(s.of(ref.Key()))
	pkg, err := s.mirror.Fetch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	if again := s.of(ref.Key()); len(again) > asked && again[asked].rangeOf == "" {
		t.Errorf("the second run began anew: %+v", again)
	}
	if info, err := s.mirror.Files.Stat(pkg.Path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := s.mirror.Files.Stat(pkg.Path + ".part"); err == nil {
		t.Error("the part is left")
	}
}

// Every piece that is missing is named, and nothing else is asked for.
func TestMissing(t *testing.T) {
	const bucket = "amazon-ecs-agent-" + region
	for _, c := range []struct {
		name string
		gone []string
		refs []Ref
		want []string // parts, one a piece
	}{
		{"nothing", nil, []Ref{{ECSInit, "1.105.1", Deb, "amd64", region}, {SSMAgent, "3.3.4108.0", Deb, "arm64", region}}, nil},
		{"a version that never was, and another's signature", []string{bucket + "/amazon-ecs-init-1.104.0-1.amd64.deb.asc"},
			[]Ref{{ECSInit, "1.104.0", Deb, "amd64", region}, {SSMAgent, "9.9.9.9", Deb, "amd64", region}},
			[]string{"1.104.0-1.amd64.deb.asc", "9.9.9.9/debian_amd64/amazon-ssm-agent.deb answered", "9.9.9.9/debian_amd64/amazon-ssm-agent.deb.sig"}},
		{"only the alias has it", []string{bucket + "/amazon-ecs-init-1.105.1-1.amd64.deb", bucket + "/amazon-ecs-init-1.105.1-1.amd64.deb.asc"},
			[]Ref{{ECSInit, "1.105.1", Deb, "amd64", region}}, nil},
		{"the same twice", nil, []Ref{{SSMAgent, "9.9.9.9", Deb, "amd64", region}, {SSMAgent, "9.9.9.9-1", Deb, "amd64", region}},
			[]string{"amazon-ssm-agent.deb answered 403", "amazon-ssm-agent.deb.sig answered 403"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			for _, key := range c.gone {
				delete(s.objects, key)
			}
			missing, err := s.mirror.Missing(t.Context(), c.refs...)
			if err != nil || len(missing) != len(c.want) {
				t.Fatalf("%q, %v", missing, err)
			}
			for i, part := range c.want {
				if !strings.Contains(missing[i], part) {
					t.Errorf("%q does not name %q", missing[i], part)
				}
			}
			if entries, err := s.mirror.Files.ReadDir(mirrorDir); err != nil || len(entries) > 0 {
				t.Errorf("something was written: %v, %v", entries, err)
			}
		})
	}
}

// A manifest forgets what is gone, and one that is none is not written over.
func TestManifestOfWhatIsThere(t *testing.T) {
	s := newSite(t)
	ref := Ref{SSMAgent, "3.3.4108.0", Deb, "amd64", region}
	pkg, err := s.mirror.Fetch(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	manifest, _ := s.mirror.Manifest()
	manifest.Add(pkg)
	if _, err := s.mirror.SetLatest(ref); err != nil {
		t.Fatal(err)
	}
	manifest.AddLatest(ref)
	if _, err := s.mirror.WriteManifest(manifest); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{ref.SignatureKey(), "amazon-ssm-" + region + "/latest/VERSION"} {
		if err := s.mirror.Disk.Remove(path.Join(mirrorDir, key)); err != nil {
			t.Fatal(err)
		}
	}
	if manifest, err = s.mirror.Manifest(); err != nil || len(manifest.Packages) != 0 || len(manifest.Latest) != 0 {
		t.Errorf("%+v, %v", manifest, err)
	}
	for _, text := range []string{"", "{}", `{"schema": "anywhere-mirror/v9"}`, "<html>"} {
		if err := s.mirror.Disk.WriteFile(path.Join(mirrorDir, ManifestFile), strings.NewReader(text), 0o644, ownerZero); err != nil {
			t.Fatal(err)
		}
		if _, err := s.mirror.Manifest(); !failure.Is(err, failure.Usage) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := s.mirror.SetLatest(ref); err == nil {
		t.Error("latest means a package that is not there")
	}
}
