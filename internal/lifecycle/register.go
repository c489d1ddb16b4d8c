package lifecycle

import (
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
)

// RegisterRequest is what "anywhere register" was asked for. Empty fields mean "as it is, else the default".
type RegisterRequest struct {
	// Activation, with its account, Region and cluster when it came as a join token. Nil when none was given: then the
	// host's own registration must be sound.
	Activation *control.Token
	Region     string // --region; must agree with the token's
	Cluster    string // --cluster, a name or an ARN; must agree with the token's

	ECSAgentVersion string // like 1.105.1 or 1.105.1-1; "latest" and "" are different: "" keeps an installed version
	SSMAgentVersion string
	Tags            []Pair // ECS_CONTAINER_INSTANCE_TAGS
	Attributes      []Pair // ECS_INSTANCE_ATTRIBUTES, of the first registration only
	Settings        []Pair // --ecs-config KEY=VALUE

	Artifacts     string // --artifacts: URL or absolute folder
	Keyring       string // --keyring: file with further public keys
	AgentEndpoint string // --agent-endpoint: where the agents find AWS; URL, or NAME=URL,… with names ecs, ssm, ssmmessages, ec2messages
	EndpointURL   string // --endpoint-url or AWS_ENDPOINT_URL…: only to refuse one without the other

	NoExec      bool
	NoStart     bool
	Ignore      []string      // ids of checks whose failure is a warning
	WaitTimeout time.Duration // for the agents to connect
	AcceptRisk  []string

	DryRun           bool
	DetailedExitcode bool
	NoRollback       bool
	LockTimeout      time.Duration
}

// Pair is one KEY=VALUE, in the order it was given.
type Pair struct{ Key, Value string }

// RegisterResult is the "result" of register's document.
type RegisterResult struct {
	Cluster              string   `json:"cluster"`
	Region               string   `json:"region"`
	Account              string   `json:"account"`
	ManagedInstanceID    string   `json:"managedInstanceId"`
	ContainerInstanceARN string   `json:"containerInstanceArn"`
	ECSAgentVersion      string   `json:"ecsAgentVersion"`
	SSMAgentVersion      string   `json:"ssmAgentVersion"`
	DockerVersion        string   `json:"dockerVersion"`
	Verified             Verified `json:"verified"`
	RebootNeeded         bool     `json:"rebootNeeded"`
	Owed                 []string `json:"owed"` // AWS calls still to be made, as command lines of the aws tool
}

// Verified says who vouches for a registration.
type Verified string

// Levels of proof.
const (
	VerifiedNone  Verified = "none"
	VerifiedLocal Verified = "local" // the ECS agent itself reports its instance in the wanted cluster, account and Region
	VerifiedAWS   Verified = "aws"   // and ECS and SSM agree
)
