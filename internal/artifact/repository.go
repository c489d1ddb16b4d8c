package artifact

import (
	"bytes"
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Docker is what Docker's own repository holds. Only its key is pinned: the package manager verifies the packages by it.
const Docker Product = "docker"

// Docker's repositories, and the keys that sign them, without an end: of Debian's and Ubuntu's "Docker Release (CE deb)
// <docker@docker.com>", of CentOS's and Fedora's "Docker Release (CE rpm) <docker@docker.com>". Source:
// https://docs.docker.com/engine/install/ with debian/, ubuntu/, centos/ and fedora/, which have named these fingerprints
// since 2017; read 2026-11-25.
const (
	dockerSite        = "https://download.docker.com"
	dockerFingerprint = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
	dockerRPM         = "060A61C51B558A7F742B77AAC52FEB6B621E9F35"
)

// dockerPins are the fingerprints by the system that Docker's repository is for.
var dockerPins = map[string]string{
	"debian": dockerFingerprint, "ubuntu": dockerFingerprint, "raspbian": dockerFingerprint,
	"centos": dockerRPM, "fedora": dockerRPM,
}

// dockerFolder is where a mirror has what download.docker.com has.
const dockerFolder = "docker"

// DockerKeys are the keys that are pinned for Docker's repositories. They come from there themselves, and are held to
// the pin then.
func DockerKeys() []Key {
	return []Key{
		{
			Fingerprint: dockerFingerprint, Product: Docker, UserID: "Docker Release (CE deb) <docker@docker.com>",
			Created: time.Date(2017, 2, 22, 18, 36, 26, 0, time.UTC),
		},
		{
			Fingerprint: dockerRPM, Product: Docker, UserID: "Docker Release (CE rpm) <docker@docker.com>",
			Created: time.Date(2017, 2, 22, 0, 0, 0, 0, time.UTC), // the day; the key itself has the second
		},
	}
}

// DockerRepository is Docker's package repository for one system.
type DockerRepository struct {
	URL string // of the system's folder, as sources.list(5) has it
	// Lasting tells that a host can go on taking updates from it: one in a folder, or behind a password, cannot stay in
	// the host's list of sources.
	Lasting bool

	source *Source
	from   origin
	folder string // of the system, below from
	pin    string // fingerprint of the key that signs it
}

// DockerRepository is where Docker's packages for a system (debian, ubuntu, centos, fedora) are: with Docker, or below docker/ of Base.
func (s *Source) DockerRepository(system string) (DockerRepository, error) {
	r := DockerRepository{source: s, folder: "linux/" + system, Lasting: true, pin: dockerPins[system]}
	base := dockerSite
	if s.Base != "" {
		base, r.folder = s.Base, dockerFolder+"/"+r.folder
	}
	at := *s
	at.Base = base
	var err error
	if r.from, err = at.origin(""); err != nil {
		return r, err
	}
	if filepath.IsAbs(base) {
		r.URL, r.Lasting = "file:"+(&url.URL{Path: r.from.name(r.folder)}).EscapedPath(), false
		return r, nil
	}
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil {
		return r, failure.Wrap(failure.Usage, err, "--artifacts")
	}
	r.URL, r.Lasting = u.JoinPath(r.folder).String(), u.User == nil
	return r, nil
}

// Name is the repository's address for people, without a password.
func (r DockerRepository) Name() string { return r.from.name(r.folder) }

// Key fetches the repository's public key and holds it to its pin. Before, it makes sure that there are packages for the
// release: a code name of Debian's or Ubuntu's, else a version with rpm's name of the architecture, as in 9/x86_64. The result is armored and has the trusted key only.
//
// Errors: ArtifactMissing, ArtifactDownload, Network, TLSUntrusted; ArtifactKey.
func (r DockerRepository) Key(ctx context.Context, release string) ([]byte, error) {
	name := r.folder + "/gpg"
	raw, err := r.source.small(ctx, r.from, name, maxSmall)
	if err != nil {
		return nil, err
	}
	key, err := r.source.Keys.dockerKey(raw, r.pin, r.from.name(name))
	if err != nil {
		return nil, err
	}
	index := "/dists/" + release + "/InRelease"
	if r.pin == dockerRPM {
		index = "/" + release + "/stable/repodata/repomd.xml"
	}
	_, err = r.source.small(ctx, r.from, r.folder+index, 1)
	return key, err
}

// Trusted reports whether a key that Key has returned earlier is still one that counts.
func (r DockerRepository) Trusted(key []byte) bool {
	_, err := r.source.Keys.dockerKey(key, r.pin, "")
	return err == nil
}

// dockerKey is the key of an armored file that may sign Docker's repository: the pinned one, or the operator's own.
func (k *Keyring) dockerKey(raw []byte, pin, name string) ([]byte, error) {
	entries, err := parseKeys(raw, Docker)
	if err != nil {
		return nil, failure.New(failure.ArtifactKey, "%s is not a public key: %v", name, err).
			WithEvidence("it begins with %.60q", raw)
	}
	var seen []string
	for _, e := range entries {
		seen = append(seen, e.Fingerprint)
		trusted := e.Fingerprint == pin
		for _, own := range k.entries {
			trusted = trusted || own.Product == "" && own.Fingerprint == e.Fingerprint
		}
		if !trusted {
			continue
		}
		var out bytes.Buffer
		w, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
		if err == nil {
			_, err = w.Write(e.packets)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, failure.Wrap(failure.Internal, err, "armor the key %s", e.Fingerprint)
		}
		return append(out.Bytes(), '\n'), nil
	}
	return nil, failure.New(failure.ArtifactKey, "%s is the key %s, which is not Docker's", name, strings.Join(seen, ", ")).
		WithEvidence("pinned for Docker's repository is %s", pin)
}
