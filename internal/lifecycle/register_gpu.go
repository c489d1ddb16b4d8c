package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

// gpuInfo is what ecs-init has found at its start, and what the agent registers (ecs-init/gpu of 1.105.1).
const gpuInfo = "/var/lib/ecs/gpu/nvidia-gpu-info.json"

// gpuID is how nvidia-smi -L and ecs-init name a GPU.
var gpuID = regexp.MustCompile(`UUID: (GPU-[0-9A-Za-z-]+)`)

// gpuDoubts compares the GPUs that the instance was registered with to those that nvidia-smi sees. A driver that was not
// ready when the agent started leaves an instance without any, and only a line in a log says so (aws/amazon-ecs-agent
// issue 3823).
func (r *registration) gpuDoubts(ctx context.Context) []string {
	if !r.req.EnableGPU || ctx.Err() != nil {
		return nil
	}
	seen, err := r.gpusSeen(ctx, smiTime)
	if err != nil {
		return []string{"whether the instance has this host's GPUs was not seen: " + err.Error()}
	}
	var found struct{ GPUIDs []string }
	text, err := r.deps.Host.Files.ReadFile(gpuInfo)
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil && !missing(err) {
		return []string{fmt.Sprintf("whether the instance has this host's GPUs was not seen: cannot read %s: %v", gpuInfo, err)}
	}
	slices.Sort(found.GPUIDs)
	restart := fmt.Sprintf("systemctl restart %s; where ECS shows the old ones still, anywhere deregister and register again", r.ecsUnit())
	if !slices.Equal(seen, found.GPUIDs) {
		return []string{fmt.Sprintf("nvidia-smi sees %s, and the ECS agent has found %s (%s): %s",
			gpuNames(seen), gpuNames(found.GPUIDs), gpuInfo, restart)}
	}
	if shown := slices.Sorted(slices.Values(r.instanceGPUs)); r.instanceGPUs != nil && !slices.Equal(seen, shown) {
		return []string{fmt.Sprintf("nvidia-smi sees %s, and ECS shows the container instance with %s: %s",
			gpuNames(seen), gpuNames(shown), restart)}
	}
	return nil
}

// smiTime is enough for nvidia-smi, which wakes each GPU first: some seconds where nothing keeps them awake.
const smiTime = 30 * time.Second

// gpusSeen are the ids that nvidia-smi names, sorted. A driver that is stuck keeps it for ever, and no signal ends it then: it is left to itself after
// the limit.
func (r *registration) gpusSeen(ctx context.Context, limit time.Duration) (ids []string, err error) {
	program, err := preflight.NvidiaSMI(r.deps.Host.Files)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot look for nvidia-smi: %w", err)
	case program == "":
		return nil, errors.New("there is no nvidia-smi")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var result host.Result
	ended := make(chan error, 1)
	go func() {
		var err error
		result, err = r.deps.Host.Runner.Run(ctx, host.Cmd{Path: program, Args: []string{"-L"}, Stdin: strings.NewReader(""), Disposable: true})
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s -L has not ended within %s: the driver is stuck; dmesg says more, and only a reboot helps", program, limit)
	}
	switch {
	case err != nil:
		return nil, err
	case result.ExitCode != 0:
		return nil, fmt.Errorf("%s -L ended with exit status %d: %s", program, result.ExitCode, strings.TrimSpace(result.Output))
	}
	for _, match := range gpuID.FindAllStringSubmatch(result.Output, -1) {
		ids = append(ids, match[1])
	}
	slices.Sort(ids)
	return ids, nil
}

func gpuNames(ids []string) string {
	if len(ids) == 0 {
		return "no GPU"
	}
	return count(len(ids), "GPU") + " (" + some(ids) + ")"
}
