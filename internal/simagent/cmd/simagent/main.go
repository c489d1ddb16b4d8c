// Command simagent is the agents' programs in one, for the packages that tests build: it acts by the name that it is
// called by. It is never shipped.
//
// A file /etc/simagent.json, or /etc/ecs/simagent.json where only that folder is seen, may hold {"pace": 0.1}: the
// agents' own waiting becomes a tenth. The versions are set with
// -ldflags "-X main.ssmVersion=… -X main.ecsVersion=…".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// Set by the linker.
var (
	ssmVersion = simagent.DefaultSSMVersion
	ecsVersion = simagent.DefaultECSVersion
)

func main() { os.Exit(run(filepath.Base(os.Args[0]), os.Args[1:])) }

func run(name string, args []string) int {
	place := simagent.Place{
		Env: environment(), Pace: pace(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	switch name {
	case "amazon-ssm-agent":
		ctx, stop := terminated()
		defer stop()
		agent := &simagent.SSM{Place: place, Version: ssmVersion, Worker: startWorker}
		return agent.Main(ctx, args)
	case "ssm-agent-worker":
		ctx, stop := terminated()
		defer stop()
		agent := &simagent.SSM{Place: place, Version: ssmVersion}
		_ = agent.Ping(ctx) // the end of ctx, or an identity that cannot be read: either way there is nothing to do
		return 0
	case "ssm-session-worker", "ssm-document-worker":
		return 0 // sessions and commands are not simulated
	case "ssm-cli":
		fmt.Fprintln(os.Stderr, "error: not simulated")
		return 255
	case "amazon-ecs-init":
		place.Docker = strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
		// SIGTERM ends it as it ends the real one: at once. The unit stops the agent with "amazon-ecs-init stop".
		agent := &simagent.Init{Place: place, Version: ecsVersion}
		return agent.Main(context.Background(), args)
	case "agent":
		ctx, stop := terminated()
		defer stop()
		place.Docker = strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://")
		version := ecsVersion
		if said := os.Getenv(simagent.VersionVariable); said != "" { // of the image, which one program can be in several versions of
			version = said
		}
		agent := &simagent.ECSAgent{Place: place, Version: version, Fault: os.Getenv(simagent.FaultVariable)}
		return agent.Main(ctx, args)
	}
	fmt.Fprintf(os.Stderr, "simagent does not know how to be %q\n", name)
	return 2
}

func terminated() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

// startWorker runs ssm-agent-worker from the folder of this program until ctx ends.
func startWorker(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	worker := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "ssm-agent-worker"))
	worker.Stdout, worker.Stderr = os.Stdout, os.Stderr
	worker.Cancel = func() error { return worker.Process.Signal(syscall.SIGTERM) }
	return worker.Run()
}

func environment() map[string]string {
	env := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

func pace() float64 {
	for _, file := range []string{"/etc/simagent.json", "/etc/ecs/simagent.json"} {
		if data, err := os.ReadFile(file); err == nil {
			var settings struct{ Pace float64 }
			if err := json.Unmarshal(data, &settings); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			}
			return settings.Pace
		}
	}
	return 1
}
