package emulator

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// containerDefinition is one of a task definition, as RegisterTaskDefinition takes it. What it lacks, the emulator does
// not pass on to agents.
type containerDefinition struct {
	Name                   string            `json:"name"`
	Image                  string            `json:"image"`
	CPU                    int               `json:"cpu"`
	Memory                 int               `json:"memory"`
	MemoryReservation      int64             `json:"memoryReservation"`
	Essential              *bool             `json:"essential"`
	EntryPoint             []string          `json:"entryPoint"`
	Command                []string          `json:"command"`
	Environment            []keyValue        `json:"environment"`
	PortMappings           []portMapping     `json:"portMappings"`
	MountPoints            []json.RawMessage `json:"mountPoints"`
	VolumesFrom            []json.RawMessage `json:"volumesFrom"`
	Links                  []string          `json:"links"`
	DependsOn              []json.RawMessage `json:"dependsOn"`
	Secrets                []json.RawMessage `json:"secrets"`
	RestartPolicy          json.RawMessage   `json:"restartPolicy"`
	StartTimeout           int               `json:"startTimeout"`
	StopTimeout            int               `json:"stopTimeout"`
	User                   string            `json:"user"`
	WorkingDirectory       string            `json:"workingDirectory"`
	Hostname               string            `json:"hostname"`
	Privileged             bool              `json:"privileged"`
	ReadonlyRootFilesystem bool              `json:"readonlyRootFilesystem"`
	Interactive            bool              `json:"interactive"`
	PseudoTerminal         bool              `json:"pseudoTerminal"`
	DNSServers             []string          `json:"dnsServers"`
	DNSSearchDomains       []string          `json:"dnsSearchDomains"`
	DockerLabels           map[string]string `json:"dockerLabels"`
	DockerSecurityOptions  []string          `json:"dockerSecurityOptions"`
	ExtraHosts             []struct {
		Hostname  string `json:"hostname"`
		IPAddress string `json:"ipAddress"`
	} `json:"extraHosts"`
	Ulimits []struct {
		Name string `json:"name"`
		Soft int64  `json:"softLimit"`
		Hard int64  `json:"hardLimit"`
	} `json:"ulimits"`
	SystemControls []struct {
		Namespace string `json:"namespace"`
		Value     string `json:"value"`
	} `json:"systemControls"`
	LogConfiguration *struct {
		LogDriver string            `json:"logDriver"`
		Options   map[string]string `json:"options"`
	} `json:"logConfiguration"`
	HealthCheck *struct {
		Command     []string `json:"command"`
		Interval    int      `json:"interval"`
		Timeout     int      `json:"timeout"`
		Retries     int      `json:"retries"`
		StartPeriod int      `json:"startPeriod"`
	} `json:"healthCheck"`
	LinuxParameters *struct {
		Capabilities struct {
			Add  []string `json:"add"`
			Drop []string `json:"drop"`
		} `json:"capabilities"`
		InitProcessEnabled bool  `json:"initProcessEnabled"`
		SharedMemorySize   int64 `json:"sharedMemorySize"`
	} `json:"linuxParameters"`
}

type keyValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type portMapping struct {
	ContainerPort int    `json:"containerPort"`
	HostPort      int    `json:"hostPort"`
	Protocol      string `json:"protocol,omitempty"`
}

// taskShape is what the rest of a task definition says of its tasks.
type taskShape struct {
	NetworkMode          string                `json:"networkMode"`
	PidMode              string                `json:"pidMode"`
	IpcMode              string                `json:"ipcMode"`
	CPU                  string                `json:"cpu"`
	Memory               string                `json:"memory"`
	TaskRoleARN          string                `json:"taskRoleArn"`
	ExecutionRoleARN     string                `json:"executionRoleArn"`
	Volumes              []map[string]any      `json:"volumes"`
	ContainerDefinitions []containerDefinition `json:"containerDefinitions"`
}

// shape reads a revision; the zero shape if there is none.
func (e *Emulator) shape(family string, revision int) *taskShape {
	name := taskDefinition(family, revision)
	if known := e.shapes[name]; known != nil {
		return known
	}
	out := &taskShape{}
	for _, d := range e.definitions {
		if d.Family == family && d.Revision == revision {
			text, _ := json.Marshal(d.More) // what DescribeTaskDefinition answers with
			_ = json.Unmarshal(text, out)   // registerTaskDefinition has read it into this before
			e.shapes[name] = out
		}
	}
	return out
}

func (e *Emulator) containersOf(family string, revision int) []containerDefinition {
	return e.shape(family, revision).ContainerDefinitions
}

// acsTask is a task in a PayloadMessage. Source of the words: amazon-ecs-agent 1.105.1, ecs-agent/acs/model.
func (e *Emulator) acsTask(t *task) map[string]any {
	shape := e.shape(t.Family, t.Revision)
	containers := []any{}
	for _, c := range shape.ContainerDefinitions {
		containers = append(containers, c.acs(t, shape.NetworkMode))
	}
	out := map[string]any{
		"arn": t.ARN, "family": t.Family, "version": strconv.Itoa(t.Revision), "desiredStatus": t.Desired,
		"taskDefinitionAccountId": e.opts.Account, "taskClusterArn": e.clusterARN(t.cluster), "group": t.Group,
		"launchType": "EXTERNAL", "networkMode": or(shape.NetworkMode, "bridge"), "containers": containers,
		"volumes": acsVolumes(shape.Volumes), "overrides": "{}",
	}
	if t.Service != "" {
		out["serviceName"] = t.Service
	}
	for name, value := range map[string]string{"pidMode": shape.PidMode, "ipcMode": shape.IpcMode} {
		if value != "" {
			out[name] = value
		}
	}
	if units, err := strconv.ParseFloat(shape.CPU, 64); err == nil { // "512": units of a core
		out["cpu"] = units / 1024
	}
	if mib, err := strconv.Atoi(shape.Memory); err == nil {
		out["memory"] = mib
	}
	if t.Desired == "RUNNING" {
		if shape.TaskRoleARN != "" {
			out["roleCredentials"] = e.issue(t, taskRole, shape.TaskRoleARN)
		}
		if shape.ExecutionRoleARN != "" {
			out["executionRoleCredentials"] = e.issue(t, executionRole, shape.ExecutionRoleARN)
		}
	}
	return out
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// acsVolumes gives volumes the type that agents tell them by.
func acsVolumes(volumes []map[string]any) []any {
	out := []any{}
	for _, v := range volumes {
		kind := "host"
		if v["dockerVolumeConfiguration"] != nil {
			kind = "docker"
		}
		volume := map[string]any{"name": v["name"], "type": kind}
		for _, part := range []string{"host", "dockerVolumeConfiguration"} {
			if v[part] != nil {
				volume[part] = v[part]
			}
		}
		if kind == "host" && volume["host"] == nil {
			volume["host"] = map[string]any{}
		}
		out = append(out, volume)
	}
	return out
}

// acs is a container in a PayloadMessage. What Docker calls otherwise than ECS goes as Docker's own JSON.
func (c *containerDefinition) acs(t *task, network string) map[string]any {
	environment := map[string]string{}
	for _, v := range c.Environment {
		environment[v.Name] = v.Value
	}
	var override struct {
		Command     []string   `json:"command"`
		Environment []keyValue `json:"environment"`
	}
	if text := t.Overrides[c.Name]; text != nil {
		_ = json.Unmarshal(text, &override) // RunTask has read it
	}
	for _, v := range override.Environment {
		environment[v.Name] = v.Value
	}
	overrides := []byte("{}")
	if override.Command != nil {
		overrides, _ = json.Marshal(map[string]any{"command": override.Command}) // strings always marshal
	}
	ports := []any{}
	for _, p := range c.PortMappings {
		host := p.HostPort
		if host == 0 && network == "host" {
			host = p.ContainerPort
		}
		ports = append(ports, portMapping{p.ContainerPort, host, or(p.Protocol, "tcp")})
	}
	config, host := c.docker(network)
	out := map[string]any{
		"name": c.Name, "image": c.Image, "cpu": c.CPU, "memory": c.Memory, "essential": c.Essential == nil || *c.Essential,
		"environment": environment, "portMappings": ports, "mountPoints": list(c.MountPoints),
		"volumesFrom": list(c.VolumesFrom), "links": list(c.Links), "overrides": string(overrides),
		"dockerConfig": map[string]string{"version": "1.21", "config": config, "hostConfig": host},
	}
	if c.EntryPoint != nil {
		out["entryPoint"] = c.EntryPoint
	}
	if c.Command != nil {
		out["command"] = c.Command
	}
	if c.DependsOn != nil {
		out["dependsOn"] = c.DependsOn
	}
	if c.Secrets != nil {
		out["secrets"] = c.Secrets
	}
	if c.RestartPolicy != nil {
		out["restartPolicy"] = c.RestartPolicy
	}
	if c.HealthCheck != nil {
		out["healthCheckType"] = "docker"
	}
	if c.StartTimeout > 0 {
		out["startTimeout"] = c.StartTimeout
	}
	if c.StopTimeout > 0 {
		out["stopTimeout"] = c.StopTimeout
	}
	return out
}

// list is never null: the agent's types are lists.
func list[T any](l []T) []T { return append([]T{}, l...) }

// docker is the container's configuration, and its host's part, in Docker's own words.
func (c *containerDefinition) docker(network string) (config, host string) {
	conf, h := map[string]any{}, map[string]any{"NetworkMode": or(network, "bridge")}
	put := func(into map[string]any, name string, value any, is bool) {
		if is {
			into[name] = value
		}
	}
	put(conf, "User", c.User, c.User != "")
	put(conf, "WorkingDir", c.WorkingDirectory, c.WorkingDirectory != "")
	put(conf, "Hostname", c.Hostname, c.Hostname != "")
	put(conf, "OpenStdin", true, c.Interactive)
	put(conf, "Tty", true, c.PseudoTerminal)
	put(conf, "Labels", c.DockerLabels, c.DockerLabels != nil)
	if check := c.HealthCheck; check != nil { // ECS's own defaults: API reference, HealthCheck, read 2026-11-25
		seconds := func(n, otherwise int) time.Duration { return time.Duration(positive(n, otherwise)) * time.Second }
		conf["Healthcheck"] = map[string]any{
			"Test": check.Command, "Interval": seconds(check.Interval, 30), "Timeout": seconds(check.Timeout, 5),
			"Retries": positive(check.Retries, 3), "StartPeriod": time.Duration(check.StartPeriod) * time.Second,
		}
	}
	put(h, "Privileged", true, c.Privileged)
	put(h, "ReadonlyRootfs", true, c.ReadonlyRootFilesystem)
	put(h, "Dns", c.DNSServers, c.DNSServers != nil)
	put(h, "DnsSearch", c.DNSSearchDomains, c.DNSSearchDomains != nil)
	put(h, "SecurityOpt", c.DockerSecurityOptions, c.DockerSecurityOptions != nil)
	put(h, "MemoryReservation", c.MemoryReservation<<20, c.MemoryReservation > 0)
	if c.LogConfiguration != nil {
		h["LogConfig"] = map[string]any{"Type": c.LogConfiguration.LogDriver, "Config": c.LogConfiguration.Options}
	}
	hosts, limits, controls := []string{}, []any{}, map[string]string{}
	for _, x := range c.ExtraHosts {
		hosts = append(hosts, fmt.Sprintf("%s:%s", x.Hostname, x.IPAddress))
	}
	for _, u := range c.Ulimits {
		limits = append(limits, map[string]any{"Name": u.Name, "Soft": u.Soft, "Hard": u.Hard})
	}
	for _, s := range c.SystemControls {
		controls[s.Namespace] = s.Value
	}
	put(h, "ExtraHosts", hosts, len(hosts) > 0)
	put(h, "Ulimits", limits, len(limits) > 0)
	put(h, "Sysctls", controls, len(controls) > 0)
	if l := c.LinuxParameters; l != nil {
		put(h, "CapAdd", l.Capabilities.Add, l.Capabilities.Add != nil)
		put(h, "CapDrop", l.Capabilities.Drop, l.Capabilities.Drop != nil)
		put(h, "Init", true, l.InitProcessEnabled)
		put(h, "ShmSize", l.SharedMemorySize<<20, l.SharedMemorySize > 0)
	}
	text := func(m map[string]any) string {
		out, _ := json.Marshal(m) // strings, numbers and lists of them
		return string(out)
	}
	return text(conf), text(h)
}

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}
