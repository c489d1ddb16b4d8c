package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Bounds of a download.
const (
	maxTries       = 5         // failures in a row
	maxLookups     = 3         // of a host name that does not exist, which is seldom for a moment only
	maxSmall       = 64 << 10  // a signature, a version, the beginning of a package
	maxPackage     = 2 << 30   // AWS's are below 100 MB; a stream without end must not fill the disk
	spareDisk      = 16 << 20  // what a download leaves free
	worthwhile     = 256 << 10 // so many new bytes make a connection good, and the count of failures begins anew
	copyBuffer     = 128 << 10
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = 20 * time.Second
)

// Backoff waits twice as long each time, up to a cap, and half of that by chance, so that a fleet does not come back in
// step.
func Backoff(attempt int) time.Duration {
	wait := longestBackoff
	if attempt < 6 {
		wait = min(wait, firstBackoff<<max(attempt-1, 0))
	}
	return wait/2 + rand.N(wait/2)
}

// retry calls try until it succeeds or fails for good. good tells that a failed try was worth it all the same.
func (s *Source) retry(ctx context.Context, try func() (good bool, err error)) error {
	for failures := 1; ; failures++ {
		good, err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if good {
			failures = 1
		}
		if !again(err, failures) {
			return err
		}
		backoff := s.Backoff
		if backoff == nil {
			backoff = Backoff
		}
		if ended := sleep(ctx, backoff(failures)); ended != nil {
			return fmt.Errorf("%w while waiting to try again after: %v", ended, err)
		}
	}
}

// again reports whether to try again after so many failures in a row.
func again(err error, failures int) bool {
	var coded *failure.Error
	if !errors.As(err, &coded) || !coded.Entry().Retryable {
		return false
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return failures < maxLookups
	}
	return failures < maxTries
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// small reads the first limit bytes of an object, at most maxSmall.
func (s *Source) small(ctx context.Context, from origin, key string, limit int64) (data []byte, err error) {
	err = s.retry(ctx, func() (bool, error) {
		obj, err := from.open(ctx, request{key: key, limit: limit})
		if err != nil {
			return false, err
		}
		defer obj.Close()
		data, err = io.ReadAll(io.LimitReader(obj, limit))
		return false, err
	})
	return data, err
}

// part is a download that is not finished: the file path and, beside it, what is known of the object.
type part struct {
	path string
	have int64
	note note
}

// note is a part's memory, in a file of its own, so that a later run can go on.
type note struct {
	Source    string `json:"source"`    // the object's full address
	Validator string `json:"validator"` // for If-Range; without one nothing can be resumed
	Total     int64  `json:"total"`     // bytes; zero is unknown
}

func (p *part) notePath() string { return p.path + ".json" }

func (p *part) whole() bool { return p.note.Total > 0 && p.have == p.note.Total }

// openPart finds what an earlier run has left of the object at this address, if it can be gone on with.
func (s *Source) openPart(path, address string) (*part, error) {
	p := &part{path: path}
	if raw, err := s.Files.ReadFile(p.notePath()); err == nil && json.Unmarshal(raw, &p.note) == nil {
		if info, err := s.Files.Lstat(path); err == nil && info.Mode().IsRegular() && p.note.Source == address &&
			p.note.Validator != "" && (p.note.Total == 0 || info.Size() <= p.note.Total) {
			p.have = info.Size()
			return p, nil
		}
	}
	return p, s.restart(p)
}

// restart forgets what was downloaded.
func (s *Source) restart(p *part) error {
	p.have, p.note = 0, note{}
	for _, path := range []string{p.path, p.notePath()} {
		if err := s.Disk.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// download brings the object under key into the file at path, going on where this or an earlier run was cut off.
// resumed tells that some of it is an earlier run's. The object must begin with magic.
func (s *Source) download(ctx context.Context, from origin, key, path, magic string) (resumed bool, err error) {
	p, err := s.openPart(path, from.name(key))
	if err != nil {
		return false, err
	}
	resumed = p.have > 0
	mark := p.have
	err = s.retry(ctx, func() (bool, error) {
		if p.whole() {
			return false, nil
		}
		err := s.attempt(ctx, from, key, magic, p)
		good := p.have >= mark+worthwhile
		mark = max(mark, p.have)
		return good, err
	})
	return resumed, err
}

// attempt reads the object, or its rest, once.
func (s *Source) attempt(ctx context.Context, from origin, key, magic string, p *part) (err error) {
	req := request{key: key}
	if p.note.Validator != "" {
		req.from, req.validator = p.have, p.note.Validator
	}
	obj, err := from.open(ctx, req)
	if err != nil {
		return err
	}
	defer obj.Close()
	if obj.from == 0 {
		start := make([]byte, len(magic))
		n, err := io.ReadFull(obj, start)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err
		}
		if string(start[:n]) != magic {
			return failure.New(failure.ArtifactCorrupt, "%s is not a package", from.name(key)).
				WithEvidence("it begins with %q", start[:n]).
				WithRemedy("a proxy or login page may answer in the server's place: look at the address yourself")
		}
		if err := s.restart(p); err != nil {
			return err
		}
		p.note = note{from.name(key), obj.validator, obj.total}
		raw, err := json.Marshal(p.note)
		if err != nil {
			return err
		}
		if err := s.Disk.WriteFile(p.notePath(), bytes.NewReader(raw), 0o600, s.owner); err != nil {
			return err
		}
		if s.mirrors { // made readable for all now: it keeps its mode when it is moved to its place
			if err := s.Disk.WriteFile(p.path, strings.NewReader(""), s.mode(), s.owner); err != nil {
				return err
			}
		}
		if err := s.room(obj.total); err != nil {
			return err
		}
		return s.write(ctx, p, io.MultiReader(bytes.NewReader(start), obj))
	}
	if obj.total > 0 && p.note.Total > 0 && obj.total != p.note.Total { // changed, whatever its validator says
		if err := s.restart(p); err != nil {
			return err
		}
		return s.attempt(ctx, from, key, magic, p)
	}
	if err := s.room(obj.total - obj.from); err != nil {
		return err
	}
	return s.write(ctx, p, obj)
}

// room refuses a download that the disk has no room for.
func (s *Source) room(size int64) error {
	free, err := s.Files.Space(s.CacheDir)
	if err != nil || size <= 0 { // not known beforehand; writing will tell
		return nil
	}
	if need := uint64(size) + spareDisk; free < need {
		return failure.New(failure.DiskFull, "%s has no room for a download: %d MB are free and %d MB are needed",
			s.CacheDir, free/1e6, need/1e6)
	}
	return nil
}

// write appends what body has to the part and leaves it on the disk, also when the body breaks off.
func (s *Source) write(ctx context.Context, p *part, body io.Reader) (err error) {
	file, err := s.Disk.Append(p.path)
	if err != nil {
		return err
	}
	defer func() {
		if e := errors.Join(file.Sync(), file.Close()); e != nil && err == nil {
			err = unwritable(e, p.path)
		}
	}()
	progress(ctx, p.have, p.note.Total)
	buffer := make([]byte, copyBuffer)
	for {
		n, broken := body.Read(buffer)
		if n > 0 {
			if p.have+int64(n) > maxPackage {
				return failure.New(failure.ArtifactCorrupt, "%s is larger than any package of AWS", p.note.Source)
			}
			written, err := file.Write(buffer[:n])
			p.have += int64(written)
			if err != nil {
				return unwritable(err, p.path)
			}
			progress(ctx, p.have, p.note.Total)
		}
		switch {
		case broken == io.EOF && p.note.Total > 0 && p.have != p.note.Total:
			return failure.New(failure.ArtifactDownload, "download %s: it broke off after %d of %d bytes",
				p.note.Source, p.have, p.note.Total)
		case broken == io.EOF:
			return nil
		case broken != nil:
			return broken
		}
	}
}

// unwritable codes an error of an open file; host.Disk codes its own.
func unwritable(err error, path string) error {
	code := failure.ReadOnly
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		code = failure.DiskFull
	}
	return failure.Wrap(code, err, "write %s", path)
}
