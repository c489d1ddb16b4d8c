package preflight

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const gpuDocs = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-gpu.html"

const toolkitDocs = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"

func gpuChecks() []Check {
	return []Check{{ID: "gpu", Title: "GPUs", Docs: gpuDocs, Run: gpu}}
}

// gpuParts are what tasks on GPUs need of the host: the driver, loaded, for ecs-init asks it which GPUs there are; its
// devices; nvidia-smi, with which AWS's guide proves it; and the toolkit's hook, which dockerd looks for at its start to
// serve the device requests that the ECS agent makes. Sources: ecs-init/gpu and agent/api/task of aws/amazon-ecs-agent
// 1.105.1; the page gpuDocs, read 2026-11-22; moby's daemon/nvidia_linux.go; the packages nvidia-container-toolkit 1.13
// to 1.18.
var gpuParts = []struct {
	name   string // as evidence
	paths  []string
	lacks  string
	remedy string
}{
	{"driver", []string{"/proc/driver/nvidia/version"}, "NVIDIA's driver is not loaded (no /proc/driver/nvidia/version)",
		"install NVIDIA's driver for this kernel (Debian: apt-get install nvidia-driver; Ubuntu: ubuntu-drivers install) " +
			"and reboot"},
	{"device", []string{"/dev/nvidia0", "/dev/nvidiactl"}, "there is no /dev/nvidia0",
		"run nvidia-smi as root, which makes the devices, and see what it says"},
	{"nvidia-smi", inPath("nvidia-smi"), "there is no nvidia-smi",
		"install the driver's tools (Debian: apt-get install nvidia-smi; Ubuntu: the nvidia-utils of the driver's version)"},
	{"toolkit", append(inPath("nvidia-container-runtime-hook"), inPath("nvidia-container-toolkit")...),
		"there is no nvidia-container-toolkit, so Docker cannot give GPUs to containers",
		"install nvidia-container-toolkit (" + toolkitDocs + "), then systemctl restart docker"},
}

// inPath are the places of a program in the PATH of systemd's services.
func inPath(program string) []string {
	var paths []string
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"} {
		paths = append(paths, path.Join(dir, program))
	}
	return paths
}

// gpu looks at what ecs-init itself passes over: without a driver it registers the host without GPUs, and says so only
// in its log (aws/amazon-ecs-agent issue 3823).
func gpu(_ context.Context, s Subject) Result {
	asked, err := gpuAsked(s)
	switch {
	case err != nil:
		return broken(err)
	case !asked:
		return skip("not asked for: --enable-gpu")
	}
	found := map[string]any{}
	var lacks, remedies []string
	for _, part := range gpuParts {
		at, err := firstThere(s.Host.Files, part.paths)
		if err != nil {
			return broken(err)
		}
		if at == "" && (part.name != "device" || found["driver"] != "") { // the driver makes its devices
			lacks, remedies = append(lacks, part.lacks), append(remedies, part.remedy)
		}
		found[part.name] = at
	}
	r := pass("driver, devices and toolkit are there")
	if len(lacks) > 0 {
		r = fail(failure.GPUUnusable, strings.Join(lacks, "; "), strings.Join(remedies, "; "))
	}
	r.Evidence = found
	return r
}

// gpuAsked reports whether tasks are to use GPUs: a flag says so, or the ECS agent's configuration does. Files that only
// root can read do not count without root.
func gpuAsked(s Subject) (bool, error) {
	if s.GPU || s.Settings[ecsagent.KeyGPU] == "true" {
		return true, nil
	}
	config, err := ecsagent.ReadConfig(s.Host)
	if errors.Is(err, fs.ErrPermission) {
		return false, nil
	}
	return err == nil && config.Agent(ecsagent.KeyGPU) == "true", err
}

// firstThere is the first of paths that exists, or "".
func firstThere(files host.Files, paths []string) (string, error) {
	for _, name := range paths {
		_, err := files.Stat(name)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// NvidiaSMI is where that program is; empty when it is nowhere.
func NvidiaSMI(files host.Files) (string, error) { return firstThere(files, inPath("nvidia-smi")) }
