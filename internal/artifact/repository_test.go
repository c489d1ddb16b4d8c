package artifact

import (
	"slices"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestWhereDockersRepositoryIs(t *testing.T) {
	for _, test := range []struct {
		base, url, name string
		lasting         bool
	}{
		{"", "https://download.docker.com/linux/debian", "https://download.docker.com/linux/debian", true},
		{"http://mirror/aws/", "http://mirror/aws/docker/linux/debian", "http://mirror/aws/docker/linux/debian", true},
		{"https://me:pw@mirror", "https://me:pw@mirror/docker/linux/debian", "https://me:xxxxx@mirror/docker/linux/debian", false},
		{"/mnt/the stick", "file:/mnt/the%20stick/docker/linux/debian", "/mnt/the stick/docker/linux/debian", false},
	} {
		r, err := newSource(t, test.base, nil, nil).DockerRepository("debian")
		if err != nil || r.URL != test.url || r.Name() != test.name || r.Lasting != test.lasting {
			t.Errorf("%q: %+v %q, %v", test.base, r, r.Name(), err)
		}
	}
	if _, err := newSource(t, "ftp://mirror", nil, nil).DockerRepository("debian"); !failure.Is(err, failure.Usage) {
		t.Error(err)
	}
}

// The key of the repository counts when it is pinned or the operator's own, and only it comes out of a file of several.
func TestDockersKey(t *testing.T) {
	own, other, aws := newKey(t, today.Add(-day), 0), newKey(t, today.Add(-day), 0), newKey(t, today.Add(-day), 0)
	ring := newRing(t, map[Product][]*openpgp.Entity{"": {own}, ECSInit: {aws}})
	for _, test := range []struct {
		name    string
		file    []byte
		code    failure.Code
		message string
	}{
		{name: "the operator's own", file: public(t, own)},
		{name: "beside another", file: slices.Concat(public(t, other), public(t, own))},
		{name: "another", file: public(t, other), code: failure.ArtifactKey, message: "which is not Docker's"},
		{name: "one that is pinned for something else", file: public(t, aws), code: failure.ArtifactKey, message: "which is not Docker's"},
		{name: "a login page", file: []byte("<html>"), code: failure.ArtifactKey, message: "is not a public key"},
		{name: "nothing", code: failure.ArtifactKey, message: "is not a public key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &shelf{prefix: "docker/linux/debian/", objects: map[string][]byte{
				"gpg": test.file, "dists/bookworm/InRelease": []byte("Origin: Docker\n"),
			}}
			r, err := newSource(t, "http://mirror", s.serve(t), ring).DockerRepository("debian")
			if err != nil {
				t.Fatal(err)
			}
			key, err := r.Key(t.Context(), "bookworm")
			if test.code != "" {
				if f := failure.Of(err); !failure.Is(err, test.code) || !strings.Contains(f.Message, test.message) || f.Evidence == "" {
					t.Errorf("%v, evidence %q", err, failure.Of(err).Evidence)
				}
				return
			}
			entries, parseErr := parseKeys(key, Docker)
			if err != nil || parseErr != nil || len(entries) != 1 || !slices.Equal(public(t, own)[:40], key[:40]) {
				t.Errorf("%d keys, %v, %v: %s", len(entries), err, parseErr, key)
			}
			if !r.Trusted(key) || r.Trusted(public(t, other)) {
				t.Error("it is not trusted afterwards, or another is")
			}
		})
	}
}

// A release that the repository has nothing for is missing, not a failure of the key.
func TestDockersRepositoryWithoutTheRelease(t *testing.T) {
	own := newKey(t, today.Add(-day), 0)
	s := &shelf{prefix: "docker/linux/debian/", objects: map[string][]byte{"gpg": public(t, own)}}
	source := newSource(t, "http://mirror", s.serve(t), newRing(t, map[Product][]*openpgp.Entity{"": {own}}))
	source.Backoff = func(int) time.Duration { return 0 }
	r, err := source.DockerRepository("debian")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Key(t.Context(), "forky"); !failure.Is(err, failure.ArtifactMissing) || !strings.Contains(err.Error(), "forky") {
		t.Error(err)
	}
}
