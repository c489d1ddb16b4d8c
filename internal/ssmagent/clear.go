package ssmagent

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/ini.v1"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// agentKeys are the settings of a profile that the agent writes. Source: agent/managedInstances/sharedCredentials of
// 3.3.987.0, run 2026-11-22.
var agentKeys = []string{"aws_access_key_id", "aws_secret_access_key", "aws_session_token"}

// nodeForm is a managed node's id. Source: SSM API model, ManagedInstanceId, read 2026-11-22.
var nodeForm = regexp.MustCompile(`^mi-[0-9a-f]{17}$`)

// IsNode reports whether text has the form of a managed node's id.
func IsNode(text string) bool { return nodeForm.MatchString(text) }

// NodeDir is the folder in which the agent keeps a managed node's documents and replies; "" for what is no node's id,
// which must never become a path.
func NodeDir(node string) string {
	if !IsNode(node) {
		return ""
	}
	return DataDir + "/" + node
}

// IdentityFiles are the files that make a host a managed node: without them it can be registered anew, and nothing in
// them is of use to another registration.
func IdentityFiles() []string { return append(StoreFiles(), RuntimePath) }

// IdentityFolders are their folders, the inner ones first.
func IdentityFolders() []string {
	return []string{StoreDir, VaultDir, DataDir + "/runtimeconfig"}
}

// OwnCredentials is what CredentialsPath is without the keys that the agent maintains there; every other line stays as it
// is. found is false where none of them is the agent's. An empty rest means that the file held nothing else.
func OwnCredentials(r host.Reader) (rest []byte, found bool, err error) {
	run, err := loadRuntime(r.Files)
	if err != nil {
		return nil, false, err
	}
	c, err := ReadCredentials(r, run.ShareProfile)
	if err != nil || !c.Ours {
		return nil, false, err
	}
	text, err := r.Files.ReadFile(CredentialsPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, unreadable(err, "reading the shared credentials in %s", CredentialsPath)
	}
	rest, err = withoutKeys(text, profileName(run.ShareProfile))
	return rest, err == nil, err
}

// sectionLine is the head of a profile.
var sectionLine = regexp.MustCompile(`^\s*\[([^\]]*)\]`)

// withoutKeys takes the agent's keys out of a profile, and the profile's head where nothing else is below it. Lines are
// dropped rather than written anew, so that everything else stays to the letter; the parser that the agent uses then
// has to see the same in the rest.
func withoutKeys(text []byte, profile string) ([]byte, error) {
	var lines []string
	head, bare, inside := -1, false, false // of the profile that we are in
	end := func() {
		if inside && bare {
			lines = slices.Delete(lines, head, len(lines))
		}
	}
	for line := range strings.Lines(string(text)) {
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			end()
			inside, bare, head = m[1] == profile, true, len(lines)
		} else if key, _, _ := strings.Cut(line, "="); inside && slices.Contains(agentKeys, strings.TrimSpace(key)) {
			continue
		} else if strings.TrimSpace(line) != "" {
			bare = false
		}
		lines = append(lines, line)
	}
	end()
	rest := []byte(strings.Join(lines, ""))
	if len(bytes.TrimSpace(rest)) == 0 {
		rest = nil
	}
	if !sameButFor(text, rest, profile) {
		return nil, failure.New(failure.ForeignProfile, "the SSM agent's keys cannot be taken out of %s without touching more than them", CredentialsPath).
			WithEvidence("profile [%s]", profile).
			WithRemedy("remove the three aws_… lines of [%s] by hand, then run the command again", profile)
	}
	return rest, nil
}

// sameButFor reports whether two files say the same but for the agent's keys of one profile, which are in the second no
// more.
func sameButFor(before, after []byte, profile string) bool {
	a, b := settingsOf(before), settingsOf(after)
	for _, key := range agentKeys {
		delete(a, profile+"\x00"+key)
	}
	return a != nil && b != nil && maps.Equal(a, b)
}

// SameCredentials reports whether the agent would write two files the same: all settings and comments are, and only the
// blanks differ. It lines the settings of all profiles up when it writes its own, and ends with an empty line.
func SameCredentials(a, b []byte) bool {
	one, two := asWritten(a), asWritten(b)
	return one != nil && bytes.Equal(one, two)
}

// asWritten is a file as the agent's parser writes it; nil where it cannot be parsed.
func asWritten(text []byte) []byte {
	file, err := ini.Load(text)
	if err != nil {
		return nil
	}
	var out bytes.Buffer
	if _, err := file.WriteTo(&out); err != nil {
		return nil
	}
	return bytes.TrimSpace(out.Bytes())
}

// settingsOf are all settings of a file by profile and key; nil where it cannot be parsed.
func settingsOf(text []byte) map[string]string {
	file, err := ini.Load(text)
	if err != nil {
		return nil
	}
	all := map[string]string{}
	for _, section := range file.Sections() {
		for _, key := range section.Keys() {
			all[section.Name()+"\x00"+key.Name()] = key.String()
		}
	}
	return all
}
