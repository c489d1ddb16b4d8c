package control

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// TokenPrefix begins every join token; the digit is the version of what follows.
const TokenPrefix = "anywhere1."

// Token is what a host needs to join: one opaque line made by "activation create --token".
type Token struct {
	Account      string
	Region       string
	Cluster      string // name
	ActivationID string
	Code         secret.Text
	Expires      time.Time
}

// payload is the token's JSON. Its names are short because people paste the line.
type payload struct {
	Account string `json:"a"`
	Region  string `json:"r"`
	Cluster string `json:"c"`
	ID      string `json:"i"`
	Code    string `json:"k"`
	Expires int64  `json:"e"` // Unix seconds
}

const checksumLen = 4

// Encode returns the token's line. It is a secret.
func (t Token) Encode() string {
	body, err := json.Marshal(payload{t.Account, t.Region, t.Cluster, t.ActivationID, t.Code.Reveal(), t.Expires.Unix()})
	if err != nil { // strings and a number always marshal
		panic(err)
	}
	sum := sha256.Sum256(body)
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(append(sum[:checksumLen:checksumLen], body...))
}

// ParseToken reads a token's line; white space around it is passed over. Its errors have the code failure.InvalidToken
// and never hold any of the token's text.
func ParseToken(line string) (Token, error) {
	line = strings.TrimSpace(line)
	if line == "" {
		return Token{}, failure.New(failure.InvalidToken,
			"--token: the input is empty; expected one line that begins with %s", TokenPrefix)
	}
	if !strings.HasPrefix(line, TokenPrefix) {
		return Token{}, failure.New(failure.InvalidToken, "--token: the input does not begin with %s", TokenPrefix)
	}
	if strings.ContainsAny(line, " \t\r\n") {
		return Token{}, failure.New(failure.InvalidToken,
			"--token: the token is broken over several lines or has blanks in it; it is one line")
	}
	raw, err := base64.RawURLEncoding.DecodeString(line[len(TokenPrefix):])
	if err != nil {
		return Token{}, failure.New(failure.InvalidToken, "--token: the token has characters that no token has, or is cut")
	}
	if len(raw) <= checksumLen {
		return Token{}, failure.New(failure.InvalidToken, "--token: the token is cut")
	}
	sum := sha256.Sum256(raw[checksumLen:])
	if string(sum[:checksumLen]) != string(raw[:checksumLen]) {
		return Token{}, failure.New(failure.InvalidToken,
			"--token: the token's checksum is wrong: it was cut or changed on its way")
	}
	var p payload
	if err := json.Unmarshal(raw[checksumLen:], &p); err != nil {
		return Token{}, failure.New(failure.InvalidToken, "--token: the token's content is not that of a join token")
	}
	t := Token{p.Account, p.Region, p.Cluster, p.ID, secret.NewText(p.Code), time.Unix(p.Expires, 0).UTC()}
	return t, t.validate()
}

// Limits of AWS on what a token holds. Source: SSM API model (botocore 1.43.11, read 2026-11-22), CreateActivation and
// RegisterManagedInstance; ECS cluster names: CreateCluster's reference.
var (
	accountPattern    = regexp.MustCompile(`^[0-9]{12}$`)
	clusterPattern    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	activationPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	codePattern       = regexp.MustCompile(`^[\x21-\x7e]+$`)
)

// The lengths are not in the patterns: a counted repetition costs a tenth of a millisecond and more at every start.
const maxClusterName, minCode, maxCode = 255, 20, 250

func isCluster(name string) bool {
	return len(name) <= maxClusterName && clusterPattern.MatchString(name)
}

func isCode(s string) bool {
	return len(s) >= minCode && len(s) <= maxCode && codePattern.MatchString(s)
}

func (t Token) validate() error {
	wrong := func(what string) error {
		return failure.New(failure.InvalidToken, "--token: the token's %s is not one", what)
	}
	switch {
	case !accountPattern.MatchString(t.Account):
		return wrong("account")
	case !isCluster(t.Cluster):
		return wrong("cluster")
	case !activationPattern.MatchString(t.ActivationID):
		return wrong("activation id")
	case !isCode(t.Code.Reveal()):
		return wrong("activation code")
	case t.Region == "":
		return wrong("region")
	}
	return nil
}
