package secret

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// Scrubber takes out of a text all that must not leave the machine with it: what a Redactor knows, every form of key and
// token that can be told by its looks, and account ids. It would rather take too much: its texts are for strangers. The
// same account id is the same word in all texts of a Scrubber. It is safe for concurrent use.
type Scrubber struct {
	known    Redactor
	mu       sync.Mutex
	accounts map[string]string
}

// Know makes the scrubber know secrets, also in the forms in which they travel: base64, in a URL, inside JSON.
func (s *Scrubber) Know(secrets ...string) {
	for _, text := range secrets {
		if text = strings.TrimSpace(text); len(text) < 6 {
			continue
		}
		s.known.Add(text, url.QueryEscape(text), url.PathEscape(text),
			base64.StdEncoding.EncodeToString([]byte(text)), base64.RawStdEncoding.EncodeToString([]byte(text)),
			base64.URLEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)))
		if quoted, err := json.Marshal(text); err == nil {
			s.known.Add(strings.Trim(string(quoted), `"`))
		}
	}
}

const label = `[A-Za-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api_?key|private_?key|auth_?data|access_?key|activation_?-?code)[A-Za-z0-9_.-]*`

var (
	labelled    = regexp.MustCompile(`(?i)(\b` + label + `\\*["']?\s*[=:]\s*\\*["']?)[^\s"',}\\][^\s"',}\\]*`)
	labelledKey = regexp.MustCompile(`(?i)^` + label + `$`)
	// quotedValue is a value that has blanks in it.
	quotedValue = regexp.MustCompile(`(?i)(\b` + label + `\\*["']?\s*[=:]\s*\\*")[^"\n]+`)

	// toTheEnd are things after which nothing on the line can be trusted.
	toTheEnd = []*regexp.Regexp{
		regexp.MustCompile(`(?i)(\b(?:proxy-)?authorization\\*["']?\s*[=:]\s*).+`),
		regexp.MustCompile(`(?i)(\b_?EngineAuthData\\*["']?\s*[=:]\s*).+`),
		regexp.MustCompile(`(?i)(\bECS_ENGINE_AUTH_DATA\\*["']?\s*[=:]\s*).+`),
		regexp.MustCompile(`(?i)(\b(?:set-)?cookie\\*["']?\s*:\s*).+`),
	}
	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`)

	whole = []*regexp.Regexp{
		regexp.MustCompile(`\b(?:AKIA|ASIA|AIDA|AROA|ABIA|ACCA)[A-Z0-9]{12,}\b`),
		regexp.MustCompile(`\b(?:gh[pousr]_|github_pat_|dckr_pat_|glpat-|xox[abp]-)[A-Za-z0-9_-]{10,}`),
		regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+`),
	}
	kept = []*regexp.Regexp{ // the first group stays
		regexp.MustCompile(`(?i)(\bbearer\s+)[A-Za-z0-9+/=._~-]{8,}`),
		regexp.MustCompile(`(?i)(signature["']?[=:]\s*["']?)[^\s"'&,]+`),
		regexp.MustCompile(`(?i)("auth\\*"\s*:\s*\\*")[^"\\]+`),
		regexp.MustCompile(`(?i)(_?proxy\\*["']?\s*[=:]\s*\\*["']?(?:[a-z]+://)?)[^\s"'/]*@`),
		regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s"'/]*@`), // greedy: a password may have an @
	}
)

// suspicious are words without which no line can have what the forms above look for; all in small letters. To hold every
// line of some megabytes to all of them would take half a minute.
var suspicious = []string{
	"pass", "secret", "token", "key", "auth", "code", "signature", "bearer", "cookie", "@", "eyj", "gh", "dckr_pat", "glpat", "xox", "anywhere1.",
	"akia", "asia", "aida", "aroa", "abia", "acca",
}

// Clean returns a text without all that.
func (s *Scrubber) Clean(text string) string {
	text = s.without(strings.ToValidUTF8(text, "?"))
	if strings.Contains(text, "PRIVATE KEY-----") {
		text = privateKey.ReplaceAllString(text, Mask)
	}
	var clean strings.Builder
	clean.Grow(len(text))
	for line := range strings.Lines(text) {
		end := ""
		if strings.HasSuffix(line, "\n") {
			line, end = line[:len(line)-1], "\n"
		}
		lower := strings.ToLower(line)
		for _, word := range suspicious {
			if strings.Contains(lower, word) {
				line = s.line(line)
				break
			}
		}
		s.runs(&clean, line)
		clean.WriteString(end)
	}
	return clean.String()
}

// without is a text without what is known.
func (s *Scrubber) without(text string) string {
	s.known.mu.RLock()
	defer s.known.mu.RUnlock()
	for _, v := range s.known.values {
		text = strings.ReplaceAll(text, v, Mask)
	}
	return text
}

// line holds a line to all forms.
func (s *Scrubber) line(line string) string {
	line = s.known.Clean(line)
	for _, form := range whole {
		line = form.ReplaceAllString(line, Mask)
	}
	for _, form := range toTheEnd {
		line = form.ReplaceAllString(line, "${1}"+Mask)
	}
	line = quotedValue.ReplaceAllString(line, "${1}"+Mask)
	line = labelled.ReplaceAllString(line, "${1}"+Mask)
	for _, form := range kept {
		line = form.ReplaceAllStringFunc(line, func(found string) string {
			parts := form.FindStringSubmatch(found)
			if strings.HasSuffix(found, "@") {
				return parts[1] + Mask + "@"
			}
			return parts[1] + Mask
		})
	}
	return line
}

// How long a run must be to be taken for a key or a token: 40 is a secret key, and in the alphabet of URLs names are long too.
const (
	longRun    = 40
	longURLRun = 60
)

// runs writes a line without long runs of base64, which are keys and tokens unless they are hexadecimal or words, and with a
// word for each account id.
func (s *Scrubber) runs(to *strings.Builder, line string) {
	for i := 0; i < len(line); {
		plain, inURL := i, i
		for plain < len(line) && (alphanumeric(line[plain]) || line[plain] == '+' || line[plain] == '/') {
			plain++
		}
		for inURL < len(line) && (alphanumeric(line[inURL]) || line[inURL] == '-' || line[inURL] == '_') {
			inURL++
		}
		switch {
		case plain-i >= longRun && mixed(line[i:plain]):
			to.WriteString(Mask)
			for i = plain; i < len(line) && line[i] == '='; i++ {
				continue
			}
		case inURL-i >= longURLRun && mixed(line[i:inURL]):
			to.WriteString(Mask)
			i = inURL
		case !alphanumeric(line[i]):
			to.WriteByte(line[i])
			i++
		default: // a word; the rest of the run is looked at anew
			end := i
			for end < len(line) && alphanumeric(line[end]) {
				end++
			}
			to.WriteString(s.account(line[i:end]))
			i = end
		}
	}
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// account puts a word in the place of an account id: twelve digits, and nothing else about them.
func (s *Scrubber) account(word string) string {
	if len(word) != 12 || strings.Trim(word, "0123456789") != "" {
		return word
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts == nil {
		s.accounts = map[string]string{}
	}
	if s.accounts[word] == "" {
		s.accounts[word] = fmt.Sprintf("ACCOUNT-%d", len(s.accounts)+1)
	}
	return s.accounts[word]
}

// mixed reports whether a run has capitals, small letters and digits.
func mixed(run string) bool {
	return strings.ContainsAny(run, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") && strings.ContainsAny(run, "abcdefghijklmnopqrstuvwxyz") &&
		strings.ContainsAny(run, "0123456789")
}

// CleanJSON cleans every text of a document as encoding/json decodes it into an any; numbers stay numbers.
func (s *Scrubber) CleanJSON(value any) any {
	switch v := value.(type) {
	case string:
		return s.Clean(v)
	case []any:
		for i := range v {
			v[i] = s.CleanJSON(v[i])
		}
		return v
	case map[string]any:
		clean := make(map[string]any, len(v))
		for key, inner := range v {
			if text, ok := inner.(string); ok && text != "" && labelledKey.MatchString(key) {
				clean[s.Clean(key)] = Mask
				continue
			}
			clean[s.Clean(key)] = s.CleanJSON(inner)
		}
		return clean
	}
	return value
}
