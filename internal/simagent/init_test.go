package simagent_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// docker serves a simulated daemon and returns its socket.
func (h *host) docker(run func(context.Context, simagent.Container) int) string {
	h.t.Helper()
	dir, err := os.MkdirTemp("", "sock") // a test's own folder can be longer than a socket's name may be
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	daemon := &simagent.Dockerd{Root: h.root, Scratch: filepath.Join(dir, "containers"), Run: run}
	go func() { done <- daemon.Serve(ctx, l) }()
	h.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	return socket
}

// packaged is what the packages of ecs-init and its dependencies leave on a host.
func (h *host) packaged() {
	h.t.Helper()
	for _, tool := range []string{"/usr/sbin/iptables", "/usr/sbin/sysctl"} {
		h.write(tool, "")
		if err := os.Chmod(filepath.Join(h.root, tool), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	var image bytes.Buffer
	if _, err := (simagent.Image{Binary: []byte("program"), Version: "1.105.1"}).WriteTo(&image); err != nil {
		h.t.Fatal(err)
	}
	h.write("/var/cache/ecs/ecs-agent-v1.105.1-1.tar", image.String())
	h.write("/var/cache/ecs/state", "2")
	link := filepath.Join(h.root, "/var/cache/ecs/ecs-agent.tar")
	if err := os.Symlink("/var/cache/ecs/ecs-agent-v1.105.1-1.tar", link); err != nil {
		h.t.Fatal(err)
	}
	h.write("/var/lib/ecs/ecs.config", "AWS_DEFAULT_REGION=us-east-1\nECS_EXTERNAL=true\nECS_CLUSTER=overridden\n")
	h.write("/etc/ecs/ecs.config", "ECS_CLUSTER=demo\nECS_BACKEND_HOST="+h.url+"\n")
	if err := os.MkdirAll(filepath.Join(h.root, "/var/lib/ecs/data"), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) ecsInit(socket string) *simagent.Init {
	i := &simagent.Init{Place: h.place()}
	i.Docker, i.Env = socket, simagent.UnitEnv(h.root)
	return i
}

func TestInitCommandLine(t *testing.T) {
	h := newHost(t)
	i := &simagent.Init{Place: h.place()}
	if code := i.Main(context.Background(), []string{"version"}); code != 0 || !h.says("ecs-init version 1.105.1 (*") {
		t.Errorf("version ended with %d: %s", code, h.out.String())
	}
	for _, args := range [][]string{nil, {"update-cache"}, {"start", "now"}} {
		if code := i.Main(context.Background(), args); code != 1 {
			t.Errorf("%v ended with %d", args, code)
		}
	}
	code := i.Main(context.Background(), []string{"start"})
	if code != 255 || !h.says("Error searching 'sysctl' executable") {
		t.Errorf("without sysctl it ended with %d: %s", code, h.out.String())
	}
	h.packaged()
	i.Docker = filepath.Join(h.root, "none.sock")
	code = i.Main(context.Background(), []string{"pre-start"})
	if code != 255 || !h.says("could not create docker client") {
		t.Errorf("without Docker it ended with %d: %s", code, h.out.String())
	}
}

func TestPreStart(t *testing.T) {
	h := newHost(t)
	h.packaged()
	i := h.ecsInit(h.docker(func(context.Context, simagent.Container) int { return 0 }))
	preStart := func() int { return i.Main(context.Background(), []string{"pre-start"}) }
	const loading = "Loading Amazon Elastic Container Service Agent into Docker"
	for _, c := range []struct {
		state string
		code  int
		loads bool
	}{{"1", 0, true}, {"1", 0, false}, {"2", 0, true}, {"7", 255, false}, {"", 255, false}} {
		h.write("/var/cache/ecs/state", c.state)
		before := strings.Count(h.out.String(), loading)
		if code := preStart(); code != c.code {
			t.Errorf("state %q ended with %d, want %d", c.state, code, c.code)
		}
		if loaded := strings.Count(h.out.String(), loading) > before; loaded != c.loads {
			t.Errorf("state %q: loaded is %v", c.state, loaded)
		}
		if got := h.read("/var/cache/ecs/state"); c.code == 0 && got != "1" {
			t.Errorf("state is %q afterwards", got)
		}
	}
	h.wants("could not handle cache state", "could not download Amazon Elastic Container Service Agent")
}

func TestInitRunsTheAgentAgain(t *testing.T) {
	h := newHost(t)
	h.packaged()
	codes := []int{1, 137, 2, 1, 1, 1, 1, 5}
	var mu sync.Mutex
	var seen []simagent.Container
	socket := h.docker(func(_ context.Context, c simagent.Container) int {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, c)
		return codes[len(seen)-1]
	})
	i := h.ecsInit(socket)
	if code := i.Main(context.Background(), []string{"pre-start"}); code != 0 {
		t.Fatalf("pre-start ended with %d: %s", code, h.out.String())
	}
	if code := i.Main(context.Background(), []string{"start"}); code != 5 {
		t.Errorf("start ended with %d", code)
	}
	h.wants("Agent exited with code 137", "ECS Agent failed to start, retrying in 5",
		"agent exited with terminal exit code: 5")
	var waited []time.Duration
	for _, d := range h.clock.pauses() {
		waited = append(waited, d.Truncate(500*time.Millisecond))
	}
	want := []time.Duration{
		500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second,
	}
	for n, d := range want {
		if n >= len(waited) || waited[n] < d || waited[n] > d+d/10 {
			t.Errorf("the pauses are %v, want about %v", waited, want)
			break
		}
	}
	if len(seen) != len(codes) || seen[0].Env["ECS_CLUSTER"] != "demo" || seen[0].Env["ECS_EXTERNAL"] != "true" ||
		seen[0].Labels[simagent.VersionLabel] != "1.105.1" {
		t.Errorf("%d containers, the first is %+v", len(seen), seen[0])
	}
}

// The whole chain: ecs-init loads the image, runs the agent in a container, which registers with the keys that the SSM
// agent left; "stop" ends it in order.
func TestInitAndAgentTogether(t *testing.T) {
	h := newHost(t)
	h.registered()
	stopSSM := h.serve()
	h.until("keys", func() bool { return h.says("Credentials ready") })
	defer stopSSM()
	h.packaged()
	listen, _ := loopback()
	var socket string
	socket = h.docker(func(ctx context.Context, c simagent.Container) int {
		a := &simagent.ECSAgent{Place: h.place(), Version: c.Labels[simagent.VersionLabel], Listen: listen}
		a.Root, a.Env, a.Docker = c.Root, c.Env, socket
		return a.Run(ctx)
	})
	i := h.ecsInit(socket)
	if code := i.Main(context.Background(), []string{"pre-start"}); code != 0 {
		t.Fatalf("pre-start ended with %d: %s", code, h.out.String())
	}
	stop := h.background(func(ctx context.Context) int { return i.Main(ctx, []string{"start"}) })
	h.until("the connection", func() bool { n := h.cloud.Instances(); return len(n) == 1 && n[0].Connected })
	if code := i.Main(context.Background(), []string{"stop"}); code != 0 {
		t.Errorf("stop ended with %d", code)
	}
	h.until("the end of start", func() bool { return h.says("Agent exited with code 0") })
	if code := stop(); code != 0 {
		t.Errorf("start ended with %d", code)
	}
	if !strings.Contains(h.read("/var/lib/ecs/data/agent.db"), h.cloud.Instances()[0].ARN) {
		t.Error("the state does not have the instance")
	}
	if !strings.Contains(h.read("/var/log/ecs/ecs-agent.log"), "Connected to ACS endpoint") {
		t.Error("the agent's log is not on the host")
	}
}

// A value in quotes: systemd takes them off, so ecs-init is external; the container gets them, so the agent is not.
func TestQuotedConfiguration(t *testing.T) {
	h := newHost(t)
	h.packaged()
	h.write("/etc/ecs/ecs.config", "# a comment\nECS_EXTERNAL=\"true\"\n")
	env := simagent.UnitEnv(h.root)
	if env["ECS_EXTERNAL"] != "true" || env["# a comment"] != "" {
		t.Errorf("systemd reads %v", env)
	}
	var got map[string]string
	i := h.ecsInit(h.docker(func(_ context.Context, c simagent.Container) int { got = c.Env; return 5 }))
	i.Main(context.Background(), []string{"pre-start"})
	i.Main(context.Background(), []string{"start"})
	if got["ECS_EXTERNAL"] != `"true"` {
		t.Errorf("the container has ECS_EXTERNAL=%s", got["ECS_EXTERNAL"])
	}
}

func TestImage(t *testing.T) {
	image := simagent.Image{Binary: []byte("a static program"), Version: "1.2.3"}
	var first, second bytes.Buffer
	n, err := image.WriteTo(&first)
	if err != nil || n != int64(first.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, first.Len(), err)
	}
	if _, err := image.WriteTo(&second); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("the same image gives other bytes: %v", err)
	}
	files := untar(t, first.Bytes())
	var manifest []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{"amazon/amazon-ecs-agent:latest"}) ||
		len(manifest[0].Layers) != 1 {
		t.Fatalf("the manifest is %+v", manifest)
	}
	var config struct {
		Architecture, OS string
		Config           struct{ Entrypoint []string }
		RootFS           struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[manifest[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	layer := files[manifest[0].Layers[0]]
	sum := sha256.Sum256(layer)
	if config.RootFS.DiffIDs[0] != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Errorf("the layer's sum is %x, the configuration says %v", sum, config.RootFS.DiffIDs)
	}
	if config.Architecture != "amd64" || config.OS != "linux" ||
		!slices.Equal(config.Config.Entrypoint, []string{"/agent"}) {
		t.Errorf("the configuration is %+v", config)
	}
	if got := untar(t, layer)["agent"]; string(got) != "a static program" {
		t.Errorf("/agent is %q", got)
	}
}

func untar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
