package ecsagent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Config is the agent's configuration on a host, in the order in which the later beats the earlier. A file that is
// missing is empty, never nil.
type Config struct {
	Instance *File  // InstanceConfigPath
	User     *File  // ConfigPath
	JSON     []byte // JSONConfigPath, which only the agent reads, below both
}

// ReadConfig reads the files. A missing one is no error; one that cannot be read is.
func ReadConfig(r host.Reader) (Config, error) {
	instance, err := readOptional(r, InstanceConfigPath)
	if err != nil {
		return Config{}, err
	}
	user, err := readOptional(r, ConfigPath)
	if err != nil {
		return Config{}, err
	}
	object, err := readOptional(r, JSONConfigPath)
	if err != nil {
		return Config{}, err
	}
	return Config{Instance: Parse(instance), User: Parse(user), JSON: object}, nil
}

func readOptional(r host.Reader, path string) ([]byte, error) {
	data, err := r.Files.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, failure.Wrap(failure.AgentConfig, err, "could not read the ECS agent's configuration %s", path)
	}
	return data, nil
}

// Agent is the value that reaches the agent in its container: both files as ecs-init reads them, unquoted nowhere. It is
// empty for a setting that is not there. What systemd gives ecs-init's process does not reach the agent.
func (c Config) Agent(key string) string {
	if value, ok := c.User.Get(key); ok {
		return value
	}
	value, _ := c.Instance.Get(key)
	return value
}

// Cluster is the cluster that the agent is configured for, a name or an ARN, wherever that stands: what reaches its
// environment beats JSONConfigPath, whose keys are fields of agent/config/types.go (1.105.1; ClusterArn is the older
// name). Empty when nothing says so; the agent takes "default" then.
func (c Config) Cluster() string {
	if cluster := strings.TrimSpace(c.Agent(KeyCluster)); cluster != "" {
		return cluster
	}
	var fields struct{ Cluster, ClusterArn string }
	if json.Unmarshal(c.JSON, &fields) != nil { // Problems tells of a file that is none
		return ""
	}
	if fields.Cluster == "" {
		return fields.ClusterArn
	}
	return fields.Cluster
}

// Init is the value in the environment of ecs-init's own process: both files as systemd reads them. ecs-init takes
// DOCKER_HOST, its log driver and its switches from there (ecs-init/config/common.go of 1.105.1).
func (c Config) Init(key string) string {
	var value string
	for _, file := range []*File{c.Instance, c.User} {
		for _, a := range host.ParseEnvironmentFile(string(file.Bytes())) {
			if a.Key == key {
				value = a.Value
			}
		}
	}
	return value
}

// Problem is a line, or a whole file where Line is 0, that does not do what its author had in mind.
type Problem struct {
	File   string
	Line   int    // from 1
	Key    string // empty when the line has none
	Wrong  string // what is wrong, a sentence without a full stop; never a secret value
	Remedy string
	Fatal  bool // the agent will not start, or not register as it should
}
