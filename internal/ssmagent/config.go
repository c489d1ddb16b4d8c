package ssmagent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Config is what ConfigPath says of the settings that matter to an external instance.
type Config struct {
	Exists           bool
	ShareCreds       bool     // default true; the ECS agent lives on the shared file
	ShareProfile     string   // empty is the default profile
	ConsumptionOrder []string // empty is the agent's own order, which tries EC2 too
	SSMEndpoint      string
	MDSEndpoint      string
	MGSEndpoint      string
	S3Endpoint       string
	DualStack        bool // AWS is reached by the names that have IPv6
}

// onPrem is the agent's name for the identity of a managed node. With it alone in the consumption order, a host on
// whose network something answers like the EC2 metadata service never takes itself for an EC2 instance. Source:
// https://github.com/aws/amazon-ssm-agent/issues/134; ssm-setup-cli writes the same.
const onPrem = "OnPrem"

// configFile is the part of ConfigPath that is read. The agent's names match in any case, as encoding/json does it.
type configFile struct {
	Profile struct {
		ShareCreds   *bool
		ShareProfile string
	}
	Ssm      struct{ Endpoint string }
	Mds      struct{ Endpoint string }
	Mgs      struct{ Endpoint string }
	S3       struct{ Endpoint string }
	Identity struct{ ConsumptionOrder []string }
	Agent    struct{ UseDualStackEndpoint bool }
}

// ReadConfig reads ConfigPath. A missing file is the defaults; a malformed one is an error with the code
// failure.AgentConfig.
func ReadConfig(r host.Reader) (Config, error) {
	text, err := r.Files.ReadFile(ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{ShareCreds: true}, nil
	}
	if err != nil {
		return Config{}, unreadable(err, "reading the SSM agent's configuration %s", ConfigPath)
	}
	c, err := parseConfig(text)
	c.Exists = true
	return c, err
}

func parseConfig(text []byte) (Config, error) {
	var file configFile
	if err := json.Unmarshal(text, &file); err != nil {
		return Config{}, failure.New(failure.AgentConfig, "the SSM agent's configuration %s cannot be understood: %s",
			ConfigPath, jsonTrouble(text, err)).
			WithRemedy("correct the file, or move it away; then run the command again")
	}
	return Config{
		ShareCreds:       file.Profile.ShareCreds == nil || *file.Profile.ShareCreds,
		ShareProfile:     file.Profile.ShareProfile,
		ConsumptionOrder: file.Identity.ConsumptionOrder,
		SSMEndpoint:      file.Ssm.Endpoint,
		MDSEndpoint:      file.Mds.Endpoint,
		MGSEndpoint:      file.Mgs.Endpoint,
		S3Endpoint:       file.S3.Endpoint,
		DualStack:        file.Agent.UseDualStackEndpoint,
	}, nil
}

// Settings is what SetConfig writes. An empty field leaves alone what the file says.
type Settings struct {
	SSMEndpoint  string // with http:// it serves ec2messages (MDSEndpoint) too unless that is given
	MDSEndpoint  string
	MGSEndpoint  string // a host, or a URL with https://: the agent has no other way to the message gateway
	S3Endpoint   string
	ShareProfile string
	// DualStack is "true" or "false". The agent knows the key since 2026 (ecs-anywhere-install.sh of 2026-04-14 writes it);
	// an older one passes over it.
	DualStack string
}

// SetConfig returns the content of ConfigPath with the settings in it: other keys and their order stay. It always
// limits the agent to its identity as a managed node, and turns the sharing of credentials on where it was off.
// Content that has all of it already is returned as it is; an empty old is a file that does not exist yet. A
// malformed file is an error with the code failure.AgentConfig that names the offset.
func SetConfig(old []byte, s Settings) ([]byte, error) {
	if len(strings.TrimSpace(string(old))) == 0 {
		old = []byte("{}")
	}
	have, err := parseConfig(old)
	if err != nil {
		return nil, err
	}
	if s.MGSEndpoint, err = gatewayURL(s.MGSEndpoint); err != nil {
		return nil, err
	}
	if s.MDSEndpoint == "" && strings.HasPrefix(s.SSMEndpoint, "http://") {
		s.MDSEndpoint = s.SSMEndpoint
	}

	file, err := parseObject(old)
	if err != nil {
		return nil, failure.Wrap(failure.AgentConfig, err, "editing the SSM agent's configuration %s", ConfigPath)
	}
	changed := false
	set := func(section, name string, value any) {
		file, changed = file.with(section, name, value), true
	}
	setText := func(section, name, has, want string) {
		if want != "" && want != has {
			set(section, name, want)
		}
	}
	setText("Profile", "ShareProfile", have.ShareProfile, s.ShareProfile)
	if !have.ShareCreds {
		set("Profile", "ShareCreds", true)
	}
	setText("Ssm", "Endpoint", have.SSMEndpoint, s.SSMEndpoint)
	setText("Mds", "Endpoint", have.MDSEndpoint, s.MDSEndpoint)
	setText("Mgs", "Endpoint", have.MGSEndpoint, s.MGSEndpoint)
	setText("S3", "Endpoint", have.S3Endpoint, s.S3Endpoint)
	if on := s.DualStack == "true"; s.DualStack != "" && on != have.DualStack {
		set("Agent", "UseDualStackEndpoint", on)
	}
	if want := []string{onPrem}; !slices.Equal(have.ConsumptionOrder, want) {
		set("Identity", "ConsumptionOrder", want)
	}
	if !changed {
		return old, nil
	}
	return file.render(), nil
}

// gatewayURL is the form in which the agent understands the message gateway's endpoint: it parses it as a URL and,
// when that fails as with a bare address and port, silently takes AWS's own. Source: agent/session/config/config.go
// and runs of 3.3.987.0, 2026-11-22.
func gatewayURL(endpoint string) (string, error) {
	switch {
	case endpoint == "", strings.HasPrefix(endpoint, "https://"):
		return endpoint, nil
	case strings.Contains(endpoint, "://"):
		return "", failure.New(failure.Usage,
			"the SSM agent reaches ssmmessages by https only, and its endpoint is given as %s", endpoint).
			WithRemedy("give the endpoint for ssmmessages with https://")
	}
	return "https://" + endpoint, nil
}
