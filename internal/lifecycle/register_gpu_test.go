package lifecycle

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// smi answers as nvidia-smi -L does.
type smi struct {
	output string
	status int
}

func (s smi) Run(_ context.Context, cmd host.Cmd) (host.Result, error) {
	if cmd.Path != "/usr/bin/nvidia-smi" || strings.Join(cmd.Args, " ") != "-L" {
		panic(cmd.Path)
	}
	return host.Result{Output: s.output, ExitCode: s.status}, nil
}

func (smi) Wait(context.Context, host.Child) error { return nil }

func TestGPUsOfTheInstance(t *testing.T) {
	const (
		one  = "GPU 0: Tesla T4 (UUID: GPU-aaaaaaaa-1)\n"
		two  = "GPU 1: Tesla T4 (UUID: GPU-bbbbbbbb-2)\n"
		both = `{"DriverVersion":"550.54","GPUIDs":["GPU-bbbbbbbb-2","GPU-aaaaaaaa-1"]}`
	)
	for _, test := range []struct {
		name string
		smi  smi
		info string
		ecs  []string
		want string // a part of the only warning; empty is none
	}{
		{"the same", smi{output: one + two}, both, nil, ""},
		{"the same in ECS", smi{output: one + two}, both, []string{"GPU-aaaaaaaa-1", "GPU-bbbbbbbb-2"}, ""},
		{"the driver came later", smi{output: one}, "", nil,
			"nvidia-smi sees 1 GPU (GPU-aaaaaaaa-1), and the ECS agent has found no GPU (/var/lib/ecs/gpu/nvidia-gpu-info.json): systemctl restart ecs"},
		{"one was taken out", smi{output: one}, both, nil, "sees 1 GPU (GPU-aaaaaaaa-1), and the ECS agent has found 2 GPUs"},
		{"ECS has none", smi{output: one + two}, both, []string{}, "ECS shows the container instance with no GPU"},
		{"the driver is broken", smi{output: "Failed to initialize NVML\n", status: 9}, both, nil, "exit status 9: Failed to initialize NVML"},
		{"unreadable", smi{output: one}, "{", nil, "cannot read /var/lib/ecs/gpu/nvidia-gpu-info.json"},
	} {
		m := newMachine(t)
		m.write("/usr/bin/nvidia-smi", "")
		if test.info != "" {
			m.write(gpuInfo, test.info)
		}
		r := m.registration(RegisterRequest{EnableGPU: true})
		r.deps.Host.Runner, r.instanceGPUs = test.smi, test.ecs
		got := strings.Join(r.gpuDoubts(t.Context()), "; ")
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q", test.name, got)
		}
	}
	if doubts := newMachine(t).registration(RegisterRequest{}).gpuDoubts(t.Context()); doubts != nil {
		t.Errorf("nobody asked for GPUs: %q", doubts)
	}
}

// stuck is nvidia-smi with a driver that does not answer: no signal ends it.
type stuck struct {
	smi
	until <-chan struct{}
}

func (s stuck) Run(context.Context, host.Cmd) (host.Result, error) {
	<-s.until
	return host.Result{}, nil
}

func TestNvidiaSMIThatIsMissingOrStuck(t *testing.T) {
	m := newMachine(t)
	r := m.registration(RegisterRequest{EnableGPU: true})
	if got := strings.Join(r.gpuDoubts(t.Context()), "; "); got != "whether the instance has this host's GPUs was not seen: there is no nvidia-smi" {
		t.Errorf("missing: %q", got)
	}
	m.write("/usr/bin/nvidia-smi", "")
	until := make(chan struct{})
	defer close(until)
	r.deps.Host.Runner = stuck{until: until}
	if ids, err := r.gpusSeen(t.Context(), time.Millisecond); err == nil || !strings.Contains(err.Error(), "has not ended within 1ms: the driver is stuck") {
		t.Errorf("stuck: %q, %v", ids, err)
	}
}
