package secret

import (
	"encoding/base64"
	"io"
	"net/url"
	"regexp"
	"slices"
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

// Credentials in front of a host, as proxies have them. Greedy: a password may have an @ that nobody encoded.
var (
	// ofProxy stands behind the name of a setting, so that also a slash may be in the password.
	ofProxy  = regexp.MustCompile(`(?i)(proxy\\*["']?\s*[=:]\s*\\*["']?(?:[a-z][a-z0-9+.-]*://)?)[^\s"']+@`)
	userinfo = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/"']+@`)
	// schemeless is an address such as user:password@host, which all programs take for a proxy's too.
	schemeless = regexp.MustCompile(`(^|[\s"'=(,\\])[^\s:/@"'=(,]+:[^\s/"']+@[^\s"']`)
)

// withoutCredentials takes what stands in front of the host out of the addresses in a text.
func withoutCredentials(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	s = ofProxy.ReplaceAllString(s, "${1}"+Mask+"@")
	s = userinfo.ReplaceAllString(s, "${1}"+Mask+"@")
	at := 0
	var out strings.Builder
	for _, m := range schemeless.FindAllStringSubmatchIndex(s, -1) {
		if strings.HasPrefix(s[m[1]-1:], "sha256:") { // an image's tag and digest
			continue
		}
		out.WriteString(s[at:m[3]] + Mask + "@")
		at = m[1] - 1
	}
	return out.String() + s[at:]
}

// InAddress are the credentials in the address of a proxy, with or without a scheme, in the forms in which they travel: as they stand there, decoded,
// encoded, and as a header has them.
func InAddress(address string) (all []string) {
	if _, rest, found := strings.Cut(address, "://"); found {
		address = rest
	}
	end := strings.LastIndexByte(address, '@')
	if end <= 0 {
		return nil
	}
	raw := address[:end]
	user, password, _ := strings.Cut(raw, ":")
	add := func(forms ...string) {
		for _, form := range forms {
			if form != "" && !slices.Contains(all, form) {
				all = append(all, form)
			}
		}
	}
	add(raw, password)
	plainUser, err := url.PathUnescape(user)
	if err != nil {
		plainUser = user
	}
	plain, err := url.PathUnescape(password)
	if err != nil {
		plain = password
	}
	add(plain, url.PathEscape(plain), url.QueryEscape(plain), strings.TrimPrefix(url.UserPassword("", plain).String(), ":"))
	if password != "" {
		add(plainUser+":"+plain, base64.StdEncoding.EncodeToString([]byte(plainUser+":"+plain)))
	}
	return all
}

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
	return withoutCredentials(s)
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
