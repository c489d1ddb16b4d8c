package simagent_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// node is a registered host with keys in the shared file, on which a container's root is laid out by links.
func newNode(t *testing.T) *host {
	h := newHost(t)
	h.registered()
	stop := h.serve()
	h.until("keys", func() bool { return h.says("Credentials ready") })
	stop()
	if err := os.MkdirAll(filepath.Join(h.root, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(h.root, "root/.aws"), filepath.Join(h.root, "rotatingcreds")); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) agent(env map[string]string) (*simagent.ECSAgent, func() string) {
	listen, address := loopback()
	a := &simagent.ECSAgent{Place: h.place(), Listen: listen}
	a.Docker = h.docker(func(context.Context, simagent.Container) int { return 0 })
	a.Env = map[string]string{
		"ECS_EXTERNAL": "true", "AWS_DEFAULT_REGION": "us-east-1", "ECS_CLUSTER": "demo", "ECS_BACKEND_HOST": h.url,
		"ECS_LOGFILE": "/log/ecs-agent.log", "ECS_DATADIR": "/data",
	}
	for name, value := range env {
		a.Env[name] = value
	}
	return a, address
}

func TestECSRegistration(t *testing.T) {
	h := newNode(t)
	a, address := h.agent(map[string]string{"ECS_INSTANCE_ATTRIBUTES": `{"rack":"7"}`})
	if err := h.cloud.FaultFor(emulator.FaultServerError, 9); err != nil { // three tries of three attempts
		t.Fatal(err)
	}
	stop := h.background(a.Run)
	h.until("a retry", func() bool { return h.says("Received non-terminal error from RegisterContainerInstance call") })
	if address() != "" {
		t.Error("introspection is open before registration")
	}
	h.until("the connection", func() bool { i := h.cloud.Instances(); return len(i) == 1 && i[0].Connected })
	i := h.cloud.Instances()[0]
	if i.NodeID != h.cloud.Nodes()[0].ID || i.Cluster != "demo" || i.Status != "ACTIVE" ||
		i.AgentVersion != simagent.DefaultECSVersion {
		t.Errorf("the instance is %+v", i)
	}
	answer, err := http.Get("http://" + address() + "/v1/metadata")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var metadata struct{ Cluster, ContainerInstanceArn, Version string }
	if err := json.NewDecoder(answer.Body).Decode(&metadata); err != nil {
		t.Fatal(err)
	}
	if metadata.Cluster != "demo" || metadata.ContainerInstanceArn != i.ARN ||
		!strings.HasPrefix(metadata.Version, "Amazon ECS Agent - v"+simagent.DefaultECSVersion+" (*") {
		t.Errorf("metadata is %+v", metadata)
	}
	h.until("the log", func() bool { return h.says("Connected to TCS endpoint") && h.says("Connected to ACS endpoint") })
	if code := stop(); code != 0 {
		t.Errorf("SIGTERM ended it with %d", code)
	}
	h.until("the disconnection", func() bool { return !h.cloud.Instances()[0].Connected })
	h.wants("ECS Agent is running in external mode.", "Registered container instance with cluster!",
		"Instance registration completed successfully",
		"Successfully got ECS instance credentials from provider: RotatingSharedCredentialsProvider")
	if !strings.Contains(h.read("/log/ecs-agent.log"), "Registered container instance with cluster!") {
		t.Error("the log file lacks the registration")
	}

	a, _ = h.agent(nil)
	stop = h.background(a.Run)
	h.until("the second start", func() bool { return h.says("Restored from checkpoint file") })
	stop()
	if again := h.cloud.Instances(); len(again) != 1 || again[0].ARN != i.ARN {
		t.Errorf("the second start made %+v", again)
	}
}

func TestHowTheAgentEnds(t *testing.T) {
	registered := func(h *host) { // an earlier run that registered
		a, _ := h.agent(nil)
		stop := h.background(a.Run)
		h.until("registration", func() bool { return len(h.cloud.Instances()) == 1 && h.says("Connected to ACS") })
		stop()
	}
	fault := func(name string) func(*host) { return func(h *host) { _ = h.cloud.Fault(name) } }
	for _, c := range []struct {
		name   string
		before func(*host)
		env    map[string]string
		code   int
		want   []string
	}{
		{"access denied", fault(emulator.FaultRegisterAccessDenied), nil, 1, []string{
			"api error AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/ecsAnywhereRole/mi-",
			"is not authorized to perform: ecs:RegisterContainerInstance",
			"Received terminal error from RegisterContainerInstance call, exiting"}},
		{"keys expired", fault(emulator.FaultCredentialsExpired), nil, 1, []string{"api error ExpiredTokenException"}},
		{"clock", fault(emulator.FaultClockSkew), nil, 1, []string{"api error InvalidSignatureException: Signature expired"}},
		{"no cluster", nil, map[string]string{"ECS_CLUSTER": "nowhere"}, 5, []string{
			"ClientException: Cluster not found.", "Instance registration attempt with client performing invalid action",
			"Agent will terminally exit, unable to register container instance:"}},
		{"cluster missing", fault(emulator.FaultClusterMissing), nil, 5, []string{"ClientException: Cluster not found."}},
		{"attributes", fault(emulator.FaultNoAttributeEcho), nil, 5, []string{
			"Error registering attributes", "Instance registration attempt with invalid attribute(s)"}},
		{"inactive", func(h *host) { registered(h); _ = h.cloud.Fault(emulator.FaultInstanceInactive) }, nil, 5, []string{
			"Instance re-registration attempt with client performing invalid action", "is inactive.",
			"Agent will terminally exit"}},
		{"other cluster", registered, map[string]string{"ECS_CLUSTER": "other"}, 5, []string{
			"Data mismatch; saved cluster 'demo' does not match configured cluster 'other'.",
			"Unable to initialize new task engine"}},
		{"same cluster by its ARN", registered, map[string]string{
			"ECS_CLUSTER": "arn:aws:ecs:us-east-1:123456789012:cluster/demo"}, 5, []string{
			"Data mismatch; saved cluster 'demo'"}},
		{"quoted", nil, map[string]string{"ECS_EXTERNAL": `"true"`}, 1, []string{
			`Invalid format for \"ECS_EXTERNAL\"`, "Unable to detect VPC ID and Subnet"}},
		{"no Region", nil, map[string]string{"AWS_DEFAULT_REGION": ""}, 1, []string{
			"AWS_DEFAULT_REGION has to be set when running on external capacity"}},
		{"no keys", func(h *host) { _ = os.Remove(filepath.Join(h.root, "root/.aws/credentials")) }, nil, 1, []string{
			"no valid providers in chain", "failed to get shared config profile, default", "exiting"}},
		{"unreachable", nil, map[string]string{"ECS_BACKEND_HOST": "http://127.0.0.1:1"}, 1, []string{
			"RegisterContainerInstance, exceeded maximum number of attempts, 3, https response error StatusCode: 0, " +
				"RequestID: , request send failed, Post"}},
		{"half an ECS Exec", func(h *host) {
			for _, f := range []string{"certs/tls-ca-bundle.pem", "config/x", "bin/3.3.1.0/amazon-ssm-agent"} {
				h.write("/managed-agents/execute-command/"+f, "")
			}
		}, nil, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newNode(t)
			if c.before != nil {
				c.before(h)
			}
			a, address := h.agent(c.env)
			if code := a.Run(context.Background()); code != c.code {
				t.Errorf("ended with %d, want %d", code, c.code)
			}
			h.wants(c.want...)
			if address() != "" {
				t.Error("introspection was opened")
			}
		})
	}
}

func TestADeregisteredInstanceStaysUp(t *testing.T) {
	h := newNode(t)
	a, _ := h.agent(nil)
	stop := h.background(a.Run)
	h.until("the connection", func() bool { i := h.cloud.Instances(); return len(i) == 1 && i[0].Connected })
	if err := h.cloud.Fault(emulator.FaultInstanceInactive); err != nil {
		t.Fatal(err)
	}
	h.until("the refusal", func() bool { return h.says("Container instance is deregistered") })
	h.wants("InactiveInstanceException", `reconnectDelay="1h0m0s"`)
	if i := h.cloud.Instances()[0]; i.Connected || i.Status != "INACTIVE" {
		t.Errorf("the instance is %+v", i)
	}
	if code := stop(); code != 0 {
		t.Errorf("SIGTERM ended it with %d", code)
	}
}

func TestTheDefaultClusterIsMadeOnlyWhenNoneIsNamed(t *testing.T) {
	h := newNode(t)
	a, _ := h.agent(map[string]string{"ECS_CLUSTER": "default"})
	if code := a.Run(context.Background()); code != 5 {
		t.Errorf("with ECS_CLUSTER=default it ended with %d", code)
	}
	a, _ = h.agent(map[string]string{"ECS_CLUSTER": ""})
	stop := h.background(a.Run)
	h.until("registration", func() bool { i := h.cloud.Instances(); return len(i) == 1 && i[0].Cluster == "default" })
	stop()
}
