package emulator

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What ECS calls otherwise than Docker goes down as Docker's own JSON. The definition is one that the real agent ran on
// 2026-11-26; what Docker then had was looked at with `docker inspect`.
func TestADefinitionIsTranslatedForTheAgent(t *testing.T) {
	text, err := os.ReadFile("testdata/definition.json")
	if err != nil {
		t.Fatal(err)
	}
	e := New(Options{})
	e.AddCluster("demo")
	var more map[string]any
	if err := json.Unmarshal(text, &more); err != nil {
		t.Fatal(err)
	}
	e.AddTaskDefinition(TaskDefinition{Family: "rich", More: more})
	arn := e.AddTask(e.AddInstance("demo"), Task{Family: "rich", Service: "api", Last: "PENDING"})
	sent, err := json.Marshal(e.acsTask(e.task(arn)))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		CPU         float64 `json:"cpu"`
		Memory      int     `json:"memory"`
		PidMode     string  `json:"pidMode"`
		ServiceName string  `json:"serviceName"`
		Group       string  `json:"group"`
		Volumes     []map[string]any
		Containers  []struct {
			Name            string `json:"name"`
			Essential       bool   `json:"essential"`
			EntryPoint      []string
			Command         []string
			HealthCheckType string `json:"healthCheckType"`
			StopTimeout     int    `json:"stopTimeout"`
			StartTimeout    int    `json:"startTimeout"`
			DependsOn       []map[string]string
			MountPoints     []map[string]any
			PortMappings    []portMapping
			RestartPolicy   map[string]any
			Secrets         []map[string]string
			DockerConfig    struct{ Config, HostConfig string }
		}
	}
	if err := json.Unmarshal(sent, &got); err != nil {
		t.Fatal(err)
	}
	if got.CPU != 0.25 || got.Memory != 64 || got.PidMode != "task" || got.ServiceName != "api" || got.Group != "service:api" {
		t.Errorf("the task is %s", sent)
	}
	wantVolumes := []map[string]any{
		{"name": "etc", "type": "host", "host": map[string]any{"sourcePath": "/srv/etc"}},
		{"name": "scratch", "type": "host", "host": map[string]any{}},
		{"name": "vol", "type": "docker", "dockerVolumeConfiguration": map[string]any{"scope": "task", "driver": "local"}},
	}
	if !reflect.DeepEqual(got.Volumes, wantVolumes) {
		t.Errorf("volumes are %v", got.Volumes)
	}
	main, side := got.Containers[0], got.Containers[1]
	if main.Name != "main" || !main.Essential || side.Essential || main.EntryPoint[0] != "/sleeper" || main.Command[0] != "x y" ||
		main.HealthCheckType != "docker" || main.StopTimeout != 5 || main.StartTimeout != 60 ||
		main.DependsOn[0]["condition"] != "START" || main.MountPoints[0]["readOnly"] != true ||
		main.PortMappings[0] != (portMapping{80, 8080, "udp"}) || main.RestartPolicy["enabled"] != true ||
		main.Secrets[0]["name"] != "S" {
		t.Errorf("the container is %+v", main)
	}
	for _, c := range []struct{ name, text, want string }{
		{"config", main.DockerConfig.Config, `{"Healthcheck":{"Interval":5000000000,"Retries":2,"StartPeriod":0,"Test":["CMD","/none"],` +
			`"Timeout":5000000000},"Hostname":"inside","Labels":{"a":"b"},"OpenStdin":true,"Tty":true,"User":"1000","WorkingDir":"/tmp"}`},
		{"host", main.DockerConfig.HostConfig, `{"CapAdd":["NET_ADMIN"],"CapDrop":["MKNOD"],"Dns":["10.0.0.2"],"DnsSearch":["lab"],` +
			`"ExtraHosts":["db:10.0.0.9"],"Init":true,"LogConfig":{"Config":{"max-size":"1m"},"Type":"json-file"},` +
			`"MemoryReservation":16777216,"NetworkMode":"bridge","Privileged":true,"ReadonlyRootfs":true,` +
			`"SecurityOpt":["no-new-privileges"],"ShmSize":16777216,"Sysctls":{"net.core.somaxconn":"100"},` +
			`"Ulimits":[{"Hard":200,"Name":"nofile","Soft":100}]}`},
		{"the other's host", side.DockerConfig.HostConfig, `{"NetworkMode":"bridge"}`},
	} {
		if c.text != c.want {
			t.Errorf("%s is\n%s\nwant\n%s", c.name, c.text, c.want)
		}
	}
	e.AddTaskDefinition(TaskDefinition{Family: "host", More: map[string]any{
		"networkMode": "host", "containerDefinitions": []any{map[string]any{
			"name": "a", "image": "a", "portMappings": []any{map[string]any{"containerPort": 80}},
		}},
	}})
	if n := e.shape("host", 1).needs(); !n.ports["80/tcp"] || len(n.ports) != 1 {
		t.Errorf("on the host's network a container's port is the host's: %v", n.ports)
	}
	if n := e.shape("rich", 1).needs(); n.cpu != 256 || n.memory != 64 || !n.ports["8080/udp"] {
		t.Errorf("what the definition has for the task counts: %+v", n)
	}
}

func TestFramesThatAreNoMessages(t *testing.T) {
	whole := agentMessage{kind: "agent_job_reply", id: uuid(), payload: []byte(`{"jobId":"1"}`), created: time.UnixMilli(5)}
	got, err := parseAgentMessage(whole.bytes())
	if err != nil || got.kind != whole.kind || got.id != whole.id || !got.created.Equal(whole.created) || got.schema != 1 ||
		string(got.payload) != string(whole.payload) {
		t.Errorf("a message comes back as %+v, %v", got, err)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"short":                   func(b []byte) []byte { return b[:60] },
		"a header past the end":   func(b []byte) []byte { b[2] = 0xff; return b },
		"a header that is small":  func(b []byte) []byte { b[3] = 1; return b },
		"a payload that was cut":  func(b []byte) []byte { return b[:len(b)-1] },
		"a payload that was bent": func(b []byte) []byte { b[len(b)-2] ^= 1; return b },
	} {
		if got, err := parseAgentMessage(spoil(whole.bytes())); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAnIDFollowsFromItsName(t *testing.T) {
	id := nameUUID("arn:aws:ecs:us-east-1:123456789012:task/demo/1TaskApplication")
	if id != nameUUID("arn:aws:ecs:us-east-1:123456789012:task/demo/1TaskApplication") || len(id) != 36 ||
		strings.Count(id, "-") != 4 || id == nameUUID("other") {
		t.Errorf("the id is %s", id)
	}
}
