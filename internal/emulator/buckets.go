package emulator

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

// serveBucket is S3 in path style, anonymous: GET and HEAD with Range, If-Range and ETag.
func (e *Emulator) serveBucket(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
	rec := &recorder{ResponseWriter: w, status: http.StatusOK}
	defer func() { e.record("s3:"+method(r)+" "+name, "", rec.status, rec.code) }()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		rec.refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed.", name)
		return
	}
	data, modified, ok := e.object(name)
	signature := strings.HasSuffix(name, ".asc") || strings.HasSuffix(name, ".sig")
	if !ok || e.faulty(FaultArtifactMissing) || signature && e.faulty(FaultArtifactUnsigned) || isPackage(name) && e.faulty(FaultVersionMissing) {
		rec.refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.", name)
		return
	}
	if signature {
		data = e.forged(name, data)
	}
	sum := md5.Sum(data) // S3's ETag of an object that was put in one piece
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	if isPackage(name) && e.faulty(FaultArtifactCorrupt) {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 0x20
	}
	if isPackage(name) && e.faulty(FaultArtifactTruncated) {
		rec.status = http.StatusOK
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		_ = http.NewResponseController(w).Flush() // so that the first half arrives
		panic(http.ErrAbortHandler)               // cuts the connection, as a broken network does
	}
	http.ServeContent(rec, r, "", modified, bytes.NewReader(data))
}

// object reads what a bucket holds.
func (e *Emulator) object(name string) (data []byte, modified time.Time, ok bool) {
	if e.opts.Artifacts == nil {
		return nil, time.Time{}, false
	}
	f, err := e.opts.Artifacts.Open(name)
	if err != nil {
		return nil, time.Time{}, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return nil, time.Time{}, false
	}
	if data, err = io.ReadAll(f); err != nil {
		return nil, time.Time{}, false
	}
	return data, info.ModTime(), true
}

// isPackage tells what the faults of artifacts damage: not signatures, not the small text files.
func isPackage(name string) bool {
	for _, suffix := range []string{".deb", ".rpm", ".tar", ".tar.gz", ".zip"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func method(r *http.Request) string {
	if r.Method == http.MethodHead {
		return "HeadObject"
	}
	return "GetObject"
}

// recorder keeps the status for the log of requests.
type recorder struct {
	http.ResponseWriter
	status int
	code   string
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) refuse(status int, code, message, name string) {
	r.code = code
	r.Header().Set("Content-Type", "application/xml")
	r.WriteHeader(status)
	fmt.Fprintf(r, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><Key>%s</Key>"+
		"</Error>", code, message, escapeXML(name[strings.Index(name, "/")+1:]))
}
