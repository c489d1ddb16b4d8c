package ssmagent

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/ini.v1"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Credentials is what can be said about one profile of CredentialsPath without its secrets.
type Credentials struct {
	Exists     bool // the file
	Parsable   bool
	Mode       fs.FileMode // permission bits; the agent keeps those of a file that it finds
	Profiles   []string    // all of the file's, in its order
	HasProfile bool        // the profile that was asked for
	KeyID      string      // masked but for its last four characters
	Temporary  bool        // the key id is a session's (ASIA…)
	HasSession bool        // there is a session token
	Sources    []string    // other settings of the profile that give credentials: credential_process, role_arn, …
	Ours       bool        // it is what the SSM agent maintains
}

// sources are the settings by which a profile gets credentials without a key. A key that the agent writes would win
// over them. Source: AWS SDKs and Tools reference, "Settings reference", read 2026-11-22.
var sources = []string{
	"credential_process", "role_arn", "source_profile", "credential_source", "web_identity_token_file",
	"sso_session", "sso_start_url", "sso_account_id",
}

// ReadCredentials reads a profile ("" is default) of CredentialsPath, with the library that the agent reads it with,
// so that Parsable is the agent's view. A missing file is no error; one that may not be read is an error with the
// code failure.NotRoot. No secret leaves the function.
func ReadCredentials(r host.Reader, profile string) (Credentials, error) {
	info, err := r.Files.Stat(CredentialsPath)
	if errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, nil
	}
	var text []byte
	if err == nil {
		text, err = r.Files.ReadFile(CredentialsPath)
	}
	if err != nil {
		return Credentials{}, unreadable(err, "reading the shared credentials in %s", CredentialsPath)
	}
	run, err := loadRuntime(r.Files)
	if err != nil {
		run = Runtime{} // the file that says whose the credentials are does not help: then they are nobody's
	}
	c := parseCredentials(text, profile)
	c.Mode = info.Mode().Perm()
	c.Ours = c.Temporary && c.HasSession && path.Clean(run.ShareFile) == CredentialsPath &&
		profileName(run.ShareProfile) == profileName(profile)
	return c, nil
}

// NodeKey is the access key id in CredentialsPath that the agent maintains, which is no secret; empty when there is none.
func NodeKey(r host.Reader) (string, error) {
	keys, err := NodeKeys(r)
	return keys.ID, err
}

// Keys are the access keys that the agent maintains.
type Keys struct {
	ID              string
	Secret, Session secret.Text
}

// NodeKeys are the keys in CredentialsPath that the agent maintains; zero when there are none.
func NodeKeys(r host.Reader) (Keys, error) {
	run, err := loadRuntime(r.Files)
	if err != nil {
		return Keys{}, nil //nolint:nilerr // nobody says that a key is the agent's, so none is
	}
	c, err := ReadCredentials(r, run.ShareProfile)
	if err != nil || !c.Ours {
		return Keys{}, err
	}
	text, err := r.Files.ReadFile(CredentialsPath)
	if err != nil {
		return Keys{}, unreadable(err, "reading the shared credentials in %s", CredentialsPath)
	}
	file, err := ini.Load(text)
	if err != nil {
		return Keys{}, nil //nolint:nilerr // see parseCredentials: the parser's error may quote a secret
	}
	section := file.Section(profileName(run.ShareProfile))
	return Keys{
		ID:      section.Key("aws_access_key_id").String(),
		Secret:  secret.NewText(section.Key("aws_secret_access_key").String()),
		Session: secret.NewText(section.Key("aws_session_token").String()),
	}, nil
}

// parseCredentials drops the parser's error: it quotes the line, which may hold a secret.
func parseCredentials(text []byte, profile string) Credentials {
	c := Credentials{Exists: true}
	file, err := ini.Load(text)
	if err != nil {
		return c
	}
	c.Parsable = true
	for _, section := range file.Sections() {
		if section.Name() != ini.DefaultSection || len(section.Keys()) > 0 { // the parser always has that one
			c.Profiles = append(c.Profiles, section.Name())
		}
	}
	section, err := file.GetSection(profileName(profile))
	if err != nil {
		return c
	}
	c.HasProfile = true
	for _, key := range section.Keys() {
		switch name, value := key.Name(), key.Value(); {
		case value == "":
		case name == "aws_access_key_id":
			c.KeyID, c.Temporary = MaskKeyID(value), strings.HasPrefix(value, "ASIA")
		case name == "aws_session_token":
			c.HasSession = true
		case slices.Contains(sources, name):
			c.Sources = append(c.Sources, name)
		}
	}
	return c
}

func profileName(profile string) string {
	if profile == "" {
		return DefaultProfile
	}
	return profile
}

// MaskKeyID shows the last four characters of an access key's id, which is no secret but identifies its owner.
func MaskKeyID(id string) string {
	if len(id) < 16 { // not an id at all: perhaps a secret in the wrong place
		return "****"
	}
	return "****" + id[len(id)-4:]
}

// Foreign reports whether the SSM agent, writing its own credentials to this profile, would destroy somebody else's,
// and why.
func Foreign(c Credentials, i Identity, profile string) (why string, foreign bool) {
	name := profileName(profile)
	switch {
	case !c.Exists:
		return "", false
	case !c.Parsable:
		return fmt.Sprintf("%s cannot be parsed; the SSM agent would replace all of it", CredentialsPath), true
	case !c.HasProfile || c.Ours:
		return "", false
	case c.KeyID == "" && len(c.Sources) == 0:
		return "", false // settings such as a Region stay as they are
	case c.KeyID == "":
		return fmt.Sprintf("profile [%s] of %s gets credentials by %s; a key that the SSM agent adds would win over it",
			name, CredentialsPath, strings.Join(c.Sources, ", ")), true
	case !c.Temporary:
		return fmt.Sprintf("profile [%s] of %s has the long-term key %s; the SSM agent would overwrite it",
			name, CredentialsPath, c.KeyID), true
	case i.Registered() && profileName(i.Runtime.ShareProfile) != name:
		return fmt.Sprintf("profile [%s] of %s has the temporary key %s, and the SSM agent maintains [%s]",
			name, CredentialsPath, c.KeyID, profileName(i.Runtime.ShareProfile)), true
	}
	return fmt.Sprintf("profile [%s] of %s has the temporary key %s, and %s does not say that the SSM agent wrote it",
		name, CredentialsPath, c.KeyID, RuntimePath), true
}

// CredentialsReady reports whether the agent, registered as i, has written credentials that are good now and were
// fetched at or after notBefore, into the profile that its configuration names. The string says what was seen or what is
// missing.
func CredentialsReady(r host.Reader, i Identity, notBefore time.Time) (bool, string) {
	run, err := loadRuntime(r.Files)
	if err != nil {
		return false, err.Error()
	}
	config, err := ReadConfig(r)
	if err != nil {
		return false, err.Error()
	}
	switch {
	case run.InstanceID == "":
		return false, "the agent has not fetched credentials yet"
	case run.InstanceID != i.InstanceID:
		return false, fmt.Sprintf("the last credentials were those of %s", run.InstanceID)
	case run.ShareFile == "":
		return false, fmt.Sprintf("the agent does not share its credentials: Profile.ShareCreds is off in %s", ConfigPath)
	case profileName(run.ShareProfile) != profileName(config.ShareProfile):
		return false, fmt.Sprintf("the agent still maintains profile [%s], and is told to maintain [%s]",
			profileName(run.ShareProfile), profileName(config.ShareProfile))
	case path.Clean(run.ShareFile) != CredentialsPath:
		return false, fmt.Sprintf("the agent writes its credentials to %s, where the ECS agent does not look", run.ShareFile)
	case !run.CredentialsExpiresAt.After(r.Now()):
		return false, fmt.Sprintf("the last credentials expired at %s", stamp(run.CredentialsExpiresAt))
	case run.CredentialsRetrievedAt.Before(notBefore.Truncate(time.Second)): // the file has whole seconds
		return false, fmt.Sprintf("the credentials are still those of %s", stamp(run.CredentialsRetrievedAt))
	}
	c, err := ReadCredentials(r, run.ShareProfile)
	switch {
	case err != nil:
		return false, err.Error()
	case !c.Ours:
		return false, fmt.Sprintf("%s has no credentials of the agent in profile [%s]",
			CredentialsPath, profileName(run.ShareProfile))
	}
	return true, fmt.Sprintf("credentials of %s until %s", i.InstanceID, stamp(run.CredentialsExpiresAt))
}

// profileForm keeps to what the agent's parser, the SDK of the ECS agent and people's tools read alike: a dot would make
// the section a child of another one for the first, a blank or a bracket would end its name for the second.
var profileForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// CheckProfile refuses, with failure.Usage, a name that cannot be a profile of CredentialsPath for all who read it.
func CheckProfile(name string) error {
	if profileForm.MatchString(name) && name != ini.DefaultSection {
		return nil
	}
	return failure.New(failure.Usage, "%q cannot be the name of a credentials profile", name).
		WithRemedy("use 1 to 64 letters, digits, - and _, like ecs-anywhere")
}

// SharedFile is where the agent's service writes its credentials, and the file that makes it so; "" when nothing does and
// it is CredentialsPath. Source: agent/managedInstances/sharedCredentials of 3.3.987.0: AWS_SHARED_CREDENTIALS_FILE, else
// $HOME/.aws/credentials, else root's home, for systemd gives its services no HOME.
func SharedFile(variables []host.UnitVariable) (file, because string) {
	file = CredentialsPath
	for _, v := range variables {
		if v.Name == "HOME" && v.Value != "" {
			file, because = path.Join(v.Value, ".aws/credentials"), v.At
		}
	}
	for _, v := range variables {
		if v.Name == "AWS_SHARED_CREDENTIALS_FILE" && v.Value != "" {
			file, because = path.Clean(v.Value), v.At
		}
	}
	if file == CredentialsPath {
		because = ""
	}
	return file, because
}
