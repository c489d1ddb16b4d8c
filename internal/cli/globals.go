package cli

import (
	"time"

	"github.com/spf13/pflag"
)

// Paths that hold when nothing else is said.
const (
	defaultConfig  = "/etc/anywhere/config.yaml"
	defaultLogFile = "/var/log/anywhere/anywhere.log"
)

// Names of output forms.
const (
	outputText = "text"
	outputJSON = "json"
)

// codeVariable brings an activation code. It is unset before anything is started.
const codeVariable = "ANYWHERE_ACTIVATION_CODE"

// risks are what --accept-risk knows. Each is a harm that only the operator can take upon themselves.
var risks = []string{
	"running-tasks", "replace-identity", "no-way-back", "live-instance", "lose-ssm-session", "unproven-target",
	"docker-restart", "purge-data",
}

// globals are the flags of every command.
type globals struct {
	region      string
	profile     string
	endpointURL string
	output      string
	quiet       bool
	verbose     bool
	color       string
	logFile     string
	timeout     time.Duration
	lockTimeout time.Duration
	config      string
	yes         bool
	acceptRisk  []string
}

// register declares the flags with the variables that stand for them.
func (g *globals) register(flags *pflag.FlagSet) {
	flags.StringVar(&g.region, "region", "", "AWS Region")
	fromEnv(flags, "region", "ANYWHERE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION")

	flags.StringVar(&g.profile, "profile", "", "the operator's AWS profile, for calls to AWS's API")
	fromEnv(flags, "profile", "AWS_PROFILE")

	flags.StringVar(&g.endpointURL, "endpoint-url", "",
		"where this command's own API calls go (the agents' endpoints: register --agent-endpoint)")
	fromEnv(flags, "endpoint-url", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_ECS", "AWS_ENDPOINT_URL_SSM")

	g.output = outputText
	flags.VarP(choiceValue{&g.output, []string{outputText, outputJSON}}, "output", "o", "json: one object on stdout")
	fromEnv(flags, "output", "ANYWHERE_OUTPUT")

	flags.BoolVarP(&g.quiet, "quiet", "q", false, "print errors only")
	flags.BoolVarP(&g.verbose, "verbose", "v", false, "print every command run and every API call too")

	g.color = "auto"
	flags.Var(choiceValue{&g.color, []string{"auto", "always", "never"}}, "color",
		"colour; auto: on a terminal")
	fromEnv(flags, "color", "NO_COLOR=never", "TERM:dumb=never", "CLICOLOR_FORCE=always")

	flags.StringVar(&g.logFile, "log-file", defaultLogFile, "`FILE` to which commands that change things append their log")
	fromEnv(flags, "log-file", "ANYWHERE_LOG_FILE")

	flags.Var(durationValue{&g.timeout}, "timeout", "bound on the whole command, like 90s, 30m or 1d; 0 is none")
	fromEnv(flags, "timeout", "ANYWHERE_TIMEOUT")

	flags.Var(durationValue{&g.lockTimeout}, "lock-timeout", "how long to wait for another run on this host to end")
	fromEnv(flags, "lock-timeout", "ANYWHERE_LOCK_TIMEOUT")

	flags.StringVar(&g.config, "config", defaultConfig, "YAML `FILE` with defaults")
	fromEnv(flags, "config", "ANYWHERE_CONFIG")
	notInConfig(flags, "config", "the file cannot name another one")

	flags.BoolVarP(&g.yes, "yes", "y", false, "answer ordinary confirmations with yes")
	fromEnv(flags, "yes", "ANYWHERE_YES")

	flags.Var(wordsValue{&g.acceptRisk, risks}, "accept-risk", "risks that are accepted, by name")
	fromEnv(flags, "accept-risk", "ANYWHERE_ACCEPT_RISK")
	notInConfig(flags, "accept-risk", "a risk is accepted for one run, not for good")
}
