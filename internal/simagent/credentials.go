package simagent

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"gopkg.in/ini.v1"
)

// shareFile is where the agent writes the role's keys. Under systemd HOME is unset, and it is root's.
func (s *SSM) shareFile() string {
	if file := s.Env["AWS_SHARED_CREDENTIALS_FILE"]; file != "" {
		return file
	}
	if home := s.Env["HOME"]; home != "" {
		return filepath.Join(home, ".aws/credentials")
	}
	return "/root/.aws/credentials"
}

// share writes the keys into a profile of the shared file. Other profiles, other keys of this one, comments and an
// existing file's mode stay; a file that cannot be parsed is replaced as a whole. The file does not say when the keys
// expire.
func (s *SSM) share(keys accessKeys, profile string, log seelog) error {
	file := s.shareFile()
	if err := os.MkdirAll(filepath.Dir(s.path(file)), 0o700); err != nil {
		return err
	}
	parsed := ini.Empty()
	data, err := os.ReadFile(s.path(file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if loaded, err := ini.Load(data); err == nil {
		parsed = loaded
	} else {
		log.warn("Failed to write credentials to disk, attempting force write")
		log.warn("Failed to load shared credentials file. Force update is enabled, creating a new empty config")
	}
	section := parsed.Section(profile)
	section.Key("aws_access_key_id").SetValue(keys.ID)
	section.Key("aws_secret_access_key").SetValue(keys.Secret)
	section.Key("aws_session_token").SetValue(keys.Token)
	var out bytes.Buffer
	if _, err := parsed.WriteTo(&out); err != nil {
		return err
	}
	return os.WriteFile(s.path(file), out.Bytes(), 0o600) // the mode is for a new file only
}

// readKeys reads a profile of a shared credentials file; false when it is not whole.
func (p *Place) readKeys(file, profile string) (accessKeys, bool) {
	parsed, err := ini.Load(p.path(file))
	if err != nil {
		return accessKeys{}, false
	}
	section, err := parsed.GetSection(profile)
	if err != nil {
		return accessKeys{}, false
	}
	keys := accessKeys{
		section.Key("aws_access_key_id").String(), section.Key("aws_secret_access_key").String(),
		section.Key("aws_session_token").String(),
	}
	return keys, keys.ID != "" && keys.Secret != ""
}
