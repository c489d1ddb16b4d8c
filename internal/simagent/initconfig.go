package simagent

import (
	"os"
	"sort"
	"strings"
)

// parseConfig is ecs-init's own parser, which is not systemd's: it takes no quotes off, knows no comments, and keeps
// blanks around the "=" (ecs-init 1.105.1, docker/docker.go 400-456).
func parseConfig(text string) map[string]string {
	out := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			out[name] = value
		}
	}
	return out
}

// merged is both files, the operator's over the instance's.
func (i *Init) merged() map[string]string {
	out := parseConfig(i.readText(instanceConfig))
	for name, value := range parseConfig(i.readText(userConfig)) {
		out[name] = value
	}
	return out
}

// containerEnv is the agent's environment: ecs-init's defaults, the two files over them. systemd's environment and
// drop-ins do not reach it.
func (i *Init) containerEnv() map[string]string {
	env := map[string]string{
		"ECS_LOGFILE": "/log/ecs-agent.log", "ECS_DATADIR": "/data", "ECS_UPDATE_DOWNLOAD_DIR": "/var/cache/ecs",
		"ECS_AGENT_CONFIG_FILE_PATH": "/etc/ecs/ecs.config.json", "ECS_UPDATES_ENABLED": "true",
		"ECS_AVAILABLE_LOGGING_DRIVERS": `["json-file","syslog","awslogs","fluentd","none"]`,
		"ECS_ENABLE_TASK_IAM_ROLE":      "true", "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST": "true",
		"ECS_ENABLE_TASK_ENI": "true", "ECS_DETAILED_OS_FAMILY": i.osFamily(), "SSL_CERT_DIR": "/etc/ssl/certs",
		"ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE": "true",
	}
	for name, value := range i.merged() {
		env[name] = value
	}
	if i.external() {
		env["ECS_ENABLE_TASK_ENI"] = "false"
	}
	return env
}

// external compares with one string, where the agent parses a boolean, and looks at ecs-init's own environment only,
// which is systemd's reading of the files. So a value in quotes makes ecs-init external and the agent not.
func (i *Init) external() bool { return i.Env["ECS_EXTERNAL"] == "true" }

// UnitEnv is the environment that ecs.service's two EnvironmentFile lines give ecs-init: unlike ecs-init's parser,
// systemd takes quotes off and knows comments.
func UnitEnv(root string) map[string]string {
	p, env := Place{Root: root}, map[string]string{}
	for _, file := range []string{instanceConfig, userConfig} {
		for _, line := range strings.Split(p.readText(file), "\n") {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
				continue
			}
			if name, value, ok := strings.Cut(line, "="); ok {
				env[strings.TrimSpace(name)] = unquote(strings.TrimSpace(value))
			}
		}
	}
	return env
}

func unquote(s string) string {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

func (i *Init) osFamily() string {
	if id, version := i.osRelease("ID"), i.osRelease("VERSION_ID"); id != "" && version != "" {
		return id + "_" + version
	}
	return "linux"
}

type containerSpec struct {
	Image      string
	Env        []string
	HostConfig hostConfig
}

type hostConfig struct {
	NetworkMode   string
	UsernsMode    string
	Init          bool
	Binds         []string
	RestartPolicy struct{ Name string }
}

func (i *Init) containerSpec() containerSpec {
	spec := containerSpec{Image: agentImage, HostConfig: hostConfig{NetworkMode: "host", UsernsMode: "host", Init: true}}
	for name, value := range i.containerEnv() {
		spec.Env = append(spec.Env, name+"="+value)
	}
	sort.Strings(spec.Env)
	binds := []string{
		"/var/run:/var/run", "/var/log/ecs:/log", "/var/lib/ecs/data:/data", "/etc/ecs:/etc/ecs",
		"/var/cache/ecs:/var/cache/ecs", "/var/lib/ecs:/var/lib/ecs", "/var/log/ecs/exec:/log/exec",
	}
	if i.external() {
		binds = append(binds, "/root/.aws:/rotatingcreds:ro")
	}
	if i.isDir("/var/lib/ecs/deps") {
		binds = append(binds, "/var/lib/ecs/deps:/managed-agents:ro")
		if i.isDir("/var/lib/ecs/deps/execute-command") {
			binds = append(binds,
				"/var/lib/ecs/deps/execute-command/config:/managed-agents/execute-command/config")
		}
	}
	spec.HostConfig.Binds = binds
	return spec
}

func (p *Place) isDir(name string) bool {
	info, err := os.Stat(p.path(name))
	return err == nil && info.IsDir()
}
