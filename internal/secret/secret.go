package secret

import (
	"io"
	"regexp"
	"sort"
	"strings"
	"sync"
)

// Mask is what stands in a secret's place.
const Mask = "[redacted]"

// Text is a string that prints, formats and marshals as Mask. Reveal gives its content.
type Text struct{ value string }

// NewText wraps s.
func NewText(s string) Text { return Text{s} }

// Reveal returns the secret. Each call is a place where it could leak: keep them few.
func (t Text) Reveal() string { return t.value }

// Empty reports whether there is no secret.
func (t Text) Empty() bool { return t.value == "" }

func (t Text) String() string { return Mask }

// GoString keeps %#v from printing the field.
func (t Text) GoString() string { return Mask }

// MarshalText keeps encoders from printing the field.
func (t Text) MarshalText() ([]byte, error) { return []byte(Mask), nil }

// Disclosed is a Text that a document does show: for the one command whose result is the secret. It prints and formats as
// Mask, so that nothing but the document has it.
type Disclosed struct{ Text }

// MarshalText is the secret.
func (d Disclosed) MarshalText() ([]byte, error) { return []byte(d.value), nil }

// shapes are secrets that can be told by their form, whoever made them. The first group, where there is one, is kept.
var shapes = []*regexp.Regexp{
	regexp.MustCompile(`\banywhere1\.[A-Za-z0-9_-]{8,}`),
	regexp.MustCompile(`(?i)\b((?:aws_)?(?:secret_?access_?key|session_?token|security_?token)["']?\s*[=:]\s*["']?)[^\s"',}]+`),
	regexp.MustCompile(`(?i)\b(activation_?-?code["']?\s*[=:]\s*["']?)[^\s"',}]+`),
	regexp.MustCompile(`(?i)\b(x-amz-security-token["']?\s*[=:]\s*["']?)[^\s"',}]+`),
	regexp.MustCompile(`(?i)(\bECS_ENGINE_AUTH_DATA=).+`),
	regexp.MustCompile(`(\B-code[= ])\S+`),
}

// userinfo is the user and password of a URL, as proxies have them.
var userinfo = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@]+@`)

// Redactor replaces known secrets, and what has a secret's shape, by Mask. The zero value is ready; it is safe for
// concurrent use.
type Redactor struct {
	mu     sync.RWMutex
	values []string
}

// Add makes the redactor know further secrets. Strings shorter than six characters are not secrets but words, and are
// passed over.
func (r *Redactor) Add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		if s = strings.TrimSpace(s); len(s) >= 6 {
			r.values = append(r.values, s)
		}
	}
	sort.Slice(r.values, func(i, j int) bool { return len(r.values[i]) > len(r.values[j]) }) // a secret may hold another
}

// Clean returns s without secrets.
func (r *Redactor) Clean(s string) string {
	r.mu.RLock()
	for _, v := range r.values {
		s = strings.ReplaceAll(s, v, Mask)
	}
	r.mu.RUnlock()
	for _, shape := range shapes {
		s = shape.ReplaceAllString(s, "${1}"+Mask)
	}
	return userinfo.ReplaceAllString(s, "${1}"+Mask+"@")
}

// Writer returns a writer that cleans each Write before w sees it. Callers must write whole lines.
func (r *Redactor) Writer(w io.Writer) io.Writer { return writer{r, w} }

type writer struct {
	redactor *Redactor
	to       io.Writer
}

func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.to, w.redactor.Clean(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
