package simagent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Exit statuses of the ECS agent (agent/sighandlers/exitcodes). ecs-init runs it again after all but 0 and
// exitTerminal.
const (
	exitOK       = 0
	exitError    = 1
	exitCrash    = 2 // a panic of Go's
	exitTerminal = 5
	exitUpdate   = 42
	exitKilled   = 137 // docker stop's ten seconds are over
)

// ecsConfig is what the agent makes of its environment.
type ecsConfig struct {
	cluster, region, endpoint, dataDir, profile string
	external                                    bool
	attributes, tags                            map[string]string
}

func (a *ECSAgent) version() string {
	if a.Fault == FaultVersion {
		return "1.0.0"
	}
	if a.Version == "" {
		return DefaultECSVersion
	}
	return a.Version
}

func (a *ECSAgent) fullVersion() string {
	return fmt.Sprintf("Amazon ECS Agent - v%s (*%s)", a.version(), commit)
}

// Main is the command line of the agent. It returns the exit status. The end of ctx is SIGTERM.
func (a *ECSAgent) Main(ctx context.Context, args []string) int {
	for _, arg := range args {
		switch strings.TrimLeft(arg, "-") {
		case "version":
			fmt.Fprintf(a.stdout(), "Amazon ECS Agent:\n\tVersion: %s\n\tCommit: %s\n", a.version(), commit)
			return exitOK
		case "healthcheck":
			return a.healthcheck(ctx)
		}
	}
	return a.Run(ctx)
}

func (a *ECSAgent) healthcheck(ctx context.Context) int {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://localhost:51678/v1/metadata", nil)
	if err != nil {
		return exitError
	}
	answer, err := a.client().Do(r)
	if err != nil {
		return exitError
	}
	_ = answer.Body.Close() // a HEAD has none
	return exitOK
}

// Run is the agent until ctx ends: configuration, Docker, state, registration, introspection, the session with ACS.
func (a *ECSAgent) Run(ctx context.Context) int {
	log := logfmt{place: &a.Place, file: a.Env["ECS_LOGFILE"], shuffle: true}
	log.info("Starting Amazon Elastic Container Service Agent", "version", a.version(), "commit", commit)
	if a.Fault == FaultCrash {
		log.critical("unexpected fault address 0x0")
		return exitCrash
	}
	c, code := a.configure(log)
	if code != exitOK {
		return code
	}
	if err := a.reachDocker(ctx); err != nil {
		log.critical("Docker SDK client unable to connect to Docker daemon. Ensure Docker is running: docker client "+
			"factory: client not found for docker version: 1.21", "error", err.Error())
		return exitError
	}
	state, code := a.restore(c, log)
	if code != exitOK {
		return code
	}
	if !a.capable() {
		return exitError // without a word: capability errors are not logged (1.105.1)
	}
	return a.session(ctx, c, state, log)
}

// configure reads the environment. ECS_EXTERNAL is parsed, where ecs-init compares: a value in quotes makes ecs-init
// external and the agent not.
func (a *ECSAgent) configure(log logfmt) (ecsConfig, int) {
	c := ecsConfig{
		cluster: strings.TrimSpace(a.Env["ECS_CLUSTER"]), region: strings.TrimSpace(a.Env["AWS_DEFAULT_REGION"]),
		endpoint: strings.TrimSpace(a.Env["ECS_BACKEND_HOST"]), dataDir: a.Env["ECS_DATADIR"],
		profile: a.Env["ECS_ALTERNATE_CREDENTIAL_PROFILE"],
	}
	if c.profile == "" {
		c.profile = "default"
	}
	if c.dataDir == "" {
		c.dataDir = "/data"
	}
	if text := strings.TrimSpace(a.Env["ECS_EXTERNAL"]); text != "" {
		var err error
		if c.external, err = strconv.ParseBool(text); err != nil {
			log.warn(fmt.Sprintf("Invalid format for \"ECS_EXTERNAL\", expected a boolean but got [%s]", text))
		}
	}
	if !c.external {
		if c.region == "" {
			log.critical("Unable to communicate with EC2 Metadata service to infer region: no EC2 IMDS role found")
			log.critical("Error loading config", "error", "Missing required fields: AWSRegion")
			return c, exitError
		}
		log.critical("Unable to detect VPC ID and Subnet", "error", "no EC2 IMDS found")
		return c, exitError
	}
	if c.region == "" {
		log.critical("Error loading config",
			"error", "AWS_DEFAULT_REGION has to be set when running on external capacity")
		return c, exitError
	}
	for name, into := range map[string]*map[string]string{
		"ECS_INSTANCE_ATTRIBUTES": &c.attributes, "ECS_CONTAINER_INSTANCE_TAGS": &c.tags,
	} {
		if text := a.Env[name]; text != "" {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				log.critical("Error loading config", "error", fmt.Sprintf("Invalid format for %s. Expected a json hash: %v",
					name, err))
				return c, exitError
			}
		}
	}
	log.info("ECS Agent is running in external mode.")
	log.info("Unable to fetch user data: blackholed", "module", "ec2_metadata_client.go")
	switch {
	case c.endpoint == "":
		c.endpoint = "https://ecs." + c.region + "." + ssmSuffix(c.region)
	case !strings.HasPrefix(c.endpoint, "http://") && !strings.HasPrefix(c.endpoint, "https://"):
		c.endpoint = "https://" + c.endpoint
	}
	return c, exitOK
}

func (a *ECSAgent) reachDocker(ctx context.Context) error {
	return newDocker(a.socket()).negotiate(ctx)
}

// ecsState stands for the agent's BoltDB: the same keys, as JSON.
type ecsState struct {
	Version string `json:"agent-version,omitempty"`
	Cluster string `json:"cluster-name,omitempty"`
	ARN     string `json:"container-instance-arn,omitempty"`
}

func stateFile(c ecsConfig) string { return path.Join(c.dataDir, "agent.db") }

// restore reads the state and compares the cluster as the real agent does: as a string, so that a name and the ARN of
// the same cluster differ.
func (a *ECSAgent) restore(c ecsConfig, log logfmt) (ecsState, int) {
	var state ecsState
	if info, err := os.Stat(a.path(c.dataDir)); err != nil || !info.IsDir() {
		log.critical("Error creating data client", "error", fmt.Sprintf("data directory %s does not exist", c.dataDir))
		return state, exitError
	}
	if a.Fault == FaultForget {
		return state, exitOK
	}
	data, err := os.ReadFile(a.path(stateFile(c)))
	if errors.Is(err, fs.ErrNotExist) {
		return state, exitOK
	}
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err != nil {
		log.critical("Error loading previously saved state", "error", err.Error())
		return state, exitTerminal
	}
	configured := c.cluster
	if configured == "" {
		configured = "default"
	}
	if state.Cluster != "" && state.Cluster != configured {
		mismatch := fmt.Sprintf("Data mismatch; saved cluster '%s' does not match configured cluster '%s'. Perhaps you "+
			"want to delete the configured checkpoint file?", state.Cluster, configured)
		log.critical("Error restoring cluster", "error", mismatch)
		log.critical("Unable to initialize new task engine", "error", mismatch)
		return state, exitTerminal
	}
	return state, exitOK
}

func (a *ECSAgent) save(c ecsConfig, state ecsState) error {
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return a.writeFile(stateFile(c), data, 0o600)
}

var versionDir = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)

// capable is the part of capability building that ends the agent: ECS Exec's folders are there and no version of its
// binaries is whole, or the tags are to come from EC2.
func (a *ECSAgent) capable() bool {
	if a.Env["ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM"] == "ec2_instance" {
		return false
	}
	const deps = "/managed-agents/execute-command"
	for _, need := range []string{"/bin", "/config", "/certs/tls-ca-bundle.pem"} {
		if _, err := os.Stat(a.path(deps + need)); err != nil {
			return true // the capability is left out, and that is all
		}
	}
	versions, _ := os.ReadDir(a.path(deps + "/bin"))
	for _, v := range versions {
		whole := versionDir.MatchString(v.Name())
		for _, binary := range []string{"amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker"} {
			_, err := os.Stat(a.path(path.Join(deps, "bin", v.Name(), binary)))
			whole = whole && err == nil
		}
		if whole {
			return true
		}
	}
	return false
}

// credentials is the chain of 1.100.0 and later: the container's environment, then the file that the SSM agent keeps.
func (a *ECSAgent) credentials(c ecsConfig, log logfmt) (accessKeys, error) {
	if id := a.Env["AWS_ACCESS_KEY_ID"]; id != "" && a.Env["AWS_SECRET_ACCESS_KEY"] != "" {
		log.info("Successfully got ECS instance credentials from provider: EnvConfigCredentials")
		return accessKeys{id, a.Env["AWS_SECRET_ACCESS_KEY"], a.Env["AWS_SESSION_TOKEN"]}, nil
	}
	const file = "/rotatingcreds/credentials"
	keys, ok := a.readKeys(file, c.profile)
	if !ok {
		return keys, fmt.Errorf("no valid providers in chain: failed to get shared config profile, %s\n"+
			"no EC2 IMDS role found", c.profile)
	}
	log.info(fmt.Sprintf("Successfully got instance credentials from file %s. "+
		"Provider: RotatingSharedCredentialsProvider. Access Key ID XXXX%s", file, keys.ID[max(0, len(keys.ID)-4):]))
	log.info("Successfully got ECS instance credentials from provider: RotatingSharedCredentialsProvider")
	return keys, nil
}
