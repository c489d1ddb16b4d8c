package ssmagent

import (
	"io/fs"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Credentials is what can be said about one profile of CredentialsPath without its secrets.
type Credentials struct {
	Exists     bool // the file
	Parsable   bool
	Mode       fs.FileMode
	Profiles   []string // all of the file's, in its order
	HasProfile bool     // the profile that was asked for
	KeyID      string   // masked but for its last four characters
	Temporary  bool     // the key id is a session's (ASIA…)
	HasSession bool     // there is a session token
	Sources    []string // other settings of the profile that give credentials: credential_process, role_arn, …
	Ours       bool     // it is what the SSM agent maintains
}

// ReadCredentials reads a profile ("" is default) of CredentialsPath. A missing file is no error; one that may not be
// read is an error with the code failure.NotRoot. No secret leaves the function.
func ReadCredentials(r host.Reader, profile string) (Credentials, error) { panic("not yet") }

// Foreign reports whether the SSM agent would destroy somebody else's credentials when it writes its own to this profile,
// and why.
func Foreign(c Credentials, i Identity, profile string) (why string, foreign bool) { panic("not yet") }

// CredentialsReady reports whether the agent, registered as i, has written credentials that are good now and were fetched
// at or after notBefore. The string says what was seen or what is missing.
func CredentialsReady(r host.Reader, i Identity, notBefore time.Time) (bool, string) { panic("not yet") }
