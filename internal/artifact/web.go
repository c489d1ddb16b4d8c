package artifact

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// web is AWS, or a mirror behind HTTP.
type web struct {
	client *http.Client
	base   *url.URL
	stall  time.Duration
}

func (w web) name(key string) string { return w.base.JoinPath(key).Redacted() }

func (w web) open(ctx context.Context, req request) (*object, error) {
	obj, err := w.get(ctx, req)
	if errors.Is(err, errOtherContent) { // what we have is of no use any more
		req.from, req.validator = 0, ""
		return w.get(ctx, req)
	}
	return obj, err
}

// errOtherContent says that the rest of an object cannot be had, because the object is not what it was.
var errOtherContent = errors.New("the object has changed")

var errStalled = errors.New("no byte came")

// maxRedirects is what a mirror in front of a store needs, and no more.
const maxRedirects = 5

func (w web) get(ctx context.Context, req request) (_ *object, err error) {
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	watch := time.AfterFunc(w.stall, func() { cancel(errStalled) })
	defer func() {
		if err != nil {
			watch.Stop()
			cancel(nil)
		}
	}()
	client := *w.client
	client.CheckRedirect = w.redirect
	asked, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base.JoinPath(req.key).String(), nil)
	if err != nil {
		return nil, failure.Wrap(failure.Usage, err, "make a URL of %s", w.name(req.key))
	}
	asked.Header.Set("Accept-Encoding", "identity") // else lengths and ranges are those of something else
	if req.from > 0 {
		asked.Header.Set("Range", fmt.Sprintf("bytes=%d-", req.from))
		asked.Header.Set("If-Range", req.validator)
	} else if req.limit > 0 {
		asked.Header.Set("Range", fmt.Sprintf("bytes=0-%d", req.limit-1))
	}
	answer, err := client.Do(asked)
	if err != nil {
		return nil, w.failed(parent, ctx, err, req.key)
	}
	watch.Stop()
	body := &webBody{ReadCloser: answer.Body, web: w, key: req.key, watch: watch, parent: parent, ctx: ctx, cancel: cancel}
	obj := &object{ReadCloser: body, validator: validator(answer.Header)}
	switch answer.StatusCode {
	case http.StatusOK:
		obj.total = max(answer.ContentLength, 0)
	case http.StatusPartialContent:
		var ok bool
		obj.from, obj.total, ok = contentRange(answer.Header.Get("Content-Range"))
		other := obj.validator != "" && obj.validator != req.validator // a 206 may leave Last-Modified out
		if !ok || obj.from != req.from || (req.from > 0 && other) {
			body.Close()
			if req.from == 0 {
				return nil, failure.New(failure.ArtifactDownload,
					"%s answered with another part than was asked for", w.name(req.key))
			}
			return nil, errOtherContent
		}
	case http.StatusRequestedRangeNotSatisfiable:
		body.Close()
		if req.from > 0 {
			return nil, errOtherContent
		}
		return nil, failure.New(failure.ArtifactMissing, "%s is empty", w.name(req.key))
	default:
		defer body.Close()
		return nil, w.refused(answer, body, req.key)
	}
	return obj, nil
}

// redirect lets a mirror point elsewhere, but never from https to http.
func (w web) redirect(to *http.Request, via []*http.Request) error {
	if to.URL.Scheme != "https" && w.base.Scheme == "https" {
		return failure.New(failure.ArtifactMissing,
			"%s redirects to %s, which is not https", via[0].URL.Redacted(), to.URL.Redacted()).
			WithRemedy("name the right place with --artifacts; an http:// one is taken when it is named openly")
	}
	if len(via) > maxRedirects {
		return failure.New(failure.ArtifactMissing, "%s redirects more than %d times", via[0].URL.Redacted(), maxRedirects)
	}
	return nil
}

// refused codes an answer that is not the object. S3 answers 403, with a page of XML, for an object that is not
// there, to those who may not list the bucket.
func (w web) refused(answer *http.Response, body io.Reader, key string) error {
	start, _ := io.ReadAll(io.LimitReader(body, 300))
	code := failure.ArtifactMissing
	switch status := answer.StatusCode; {
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusRequestTimeout:
		code = failure.ArtifactDownload
	}
	return failure.New(code, "%s answered %s", w.name(key), answer.Status).
		WithEvidence("HTTP %s, %q", answer.Status, start)
}

// failed codes what happened to a connection. parent is the caller's context, ctx the one that a stall cancels too.
func (w web) failed(parent, ctx context.Context, err error, key string) error {
	name := w.name(key)
	if parent.Err() != nil {
		return fmt.Errorf("download %s: %w", name, parent.Err())
	}
	if errors.Is(context.Cause(ctx), errStalled) {
		return failure.New(failure.ArtifactDownload, "download %s: no byte came for %s", name, w.stall)
	}
	var (
		coded *failure.Error
		trust *tls.CertificateVerificationError
		dns   *net.DNSError
		op    *net.OpError
		asked *url.Error
	)
	if errors.As(err, &coded) { // from redirect
		return coded
	}
	if errors.As(err, &asked) { // its text repeats the URL
		err = asked.Err
	}
	switch {
	case errors.As(err, &trust):
		return failure.Wrap(failure.TLSUntrusted, err, "download %s", name).WithEvidence("%s", err)
	case errors.As(err, &dns):
		return network(err, "the name %s does not resolve: %s", dns.Name, dns.Err)
	case errors.As(err, &op) && op.Op != "read" && op.Op != "write": // dial, proxyconnect, socks connect
		return network(err, "cannot connect to %s: %s", w.base.Host, op.Err)
	}
	return failure.Wrap(failure.ArtifactDownload, err, "download %s", name).
		WithEvidence("GET %s: the connection broke off: %s", name, err)
}

// network is a failure to reach a host, with the cause in few words and all of them in the evidence.
func network(err error, format string, args ...any) error {
	f := failure.New(failure.Network, format, args...).WithEvidence("%s", err)
	f.Err = err
	return f
}

// webBody is an answer's body: watched for stalls, its errors coded.
type webBody struct {
	io.ReadCloser
	web         web
	key         string
	watch       *time.Timer
	parent, ctx context.Context
	cancel      context.CancelCauseFunc
}

func (b *webBody) Read(p []byte) (int, error) {
	b.watch.Reset(b.web.stall)
	n, err := b.ReadCloser.Read(p)
	b.watch.Stop()
	if err != nil && err != io.EOF {
		err = b.web.failed(b.parent, b.ctx, err, b.key)
	}
	return n, err
}

func (b *webBody) Close() error {
	b.watch.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// validator is what If-Range takes: a strong ETag, else the time of the last change.
func validator(header http.Header) string {
	if tag := header.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return header.Get("Last-Modified")
}

// contentRange reads "bytes 10-19/20"; total is zero when it is "*".
func contentRange(value string) (from, total int64, ok bool) {
	rest, ok := strings.CutPrefix(value, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, size, ok := strings.Cut(rest, "/")
	if !ok {
		return 0, 0, false
	}
	first, _, ok := strings.Cut(span, "-")
	if !ok {
		return 0, 0, false
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, 0, false
	}
	if size == "*" {
		return from, 0, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return from, total, err == nil && total > from
}
