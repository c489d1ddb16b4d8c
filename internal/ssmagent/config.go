package ssmagent

import "github.com/anywhere-ecs/anywhere/internal/host"

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
}

// Settings is what SetConfig writes. An empty field leaves alone what the file says.
type Settings struct {
	SSMEndpoint  string
	MDSEndpoint  string // defaults to SSMEndpoint when that is plain http
	MGSEndpoint  string // a host, or a URL with https://
	S3Endpoint   string
	ShareProfile string
}

// ReadConfig reads ConfigPath. A missing file is the defaults; a malformed one is an error with the code
// failure.AgentConfig.
func ReadConfig(r host.Reader) (Config, error) { panic("not yet") }

// SetConfig returns the content of ConfigPath with the settings in it: other keys and their order stay. It always limits
// the agent to its on-premises identity, and turns on the sharing of credentials where it was off. Content that has all
// of it is returned as it is. A malformed file is an error with the code failure.AgentConfig that names the offset.
func SetConfig(old []byte, s Settings) ([]byte, error) { panic("not yet") }
