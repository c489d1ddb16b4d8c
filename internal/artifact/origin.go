package artifact

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/partition"
)

// origin is where objects come from: a web server or a folder.
type origin interface {
	// name is the object's full address, for messages and to know it again.
	name(key string) string
	// open begins to read an object. A retryable failure (see the catalogue) may be tried again, any other not.
	open(ctx context.Context, req request) (*object, error)
}

// request asks for an object, or for its rest.
type request struct {
	key       string
	from      int64  // begin here if the object is still the one that validator names
	validator string // empty unless from is above zero
	limit     int64  // only so many bytes are needed; zero is all
}

// object is an object being read.
type object struct {
	io.ReadCloser        // its errors are coded
	from          int64  // the first byte's place: the request's from, or zero when the object has changed
	total         int64  // of the whole object; zero is unknown
	validator     string // names this content of the object; empty when the origin gives nothing that could
}

// origin chooses where the packages of a Region come from.
func (s *Source) origin(region string) (origin, error) {
	base := s.Base
	if base == "" {
		base = partition.S3(region, s.IPv6)
	}
	if filepath.IsAbs(base) {
		return folder{s.Files, base}, nil
	}
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, failure.New(failure.Usage,
			"--artifacts: expected an http or https URL without a query, or an absolute folder").
			WithEvidence("%.200q", redacted(u, base))
	}
	client, stall := s.HTTP, s.Stall
	if client == nil {
		client = http.DefaultClient
	}
	if stall <= 0 {
		stall = DefaultStall
	}
	return web{client, u, stall}, nil
}

// redacted is the base without a password that may stand in it.
func redacted(u *url.URL, base string) string {
	if u != nil {
		return u.Redacted()
	}
	if i := strings.LastIndexByte(base, '@'); i >= 0 {
		return "…" + base[i:]
	}
	return base
}

// folder is a mirror on this machine.
type folder struct {
	files host.Files
	base  string
}

func (f folder) name(key string) string { return filepath.Join(f.base, filepath.FromSlash(key)) }

func (f folder) open(_ context.Context, req request) (*object, error) {
	name := f.name(req.key)
	file, err := f.files.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failure.New(failure.ArtifactMissing, "there is no %s", name)
	case err != nil:
		return nil, failure.Wrap(failure.ArtifactMissing, err, "open %s", name)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, failure.Wrap(failure.ArtifactMissing, err, "look at %s", name)
	}
	if !info.Mode().IsRegular() {
		file.Close()
		return nil, failure.New(failure.ArtifactMissing, "%s is not a file", name)
	}
	return &object{ReadCloser: fileBody{file, name}, total: info.Size()}, nil
}

// fileBody codes the errors of a file. They are not retryable: a disk that fails once fails again.
type fileBody struct {
	fs.File
	name string
}

func (b fileBody) Read(p []byte) (int, error) {
	n, err := b.File.Read(p)
	if err != nil && err != io.EOF {
		err = failure.Wrap(failure.ArtifactMissing, err, "read %s", b.name)
	}
	return n, err
}
