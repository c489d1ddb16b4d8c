package emulator_test

import (
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

func TestThrottling(t *testing.T) {
	for _, c := range []struct {
		name, target, body, service string
		throttling                  bool
		burst, sustained            int // 0: never throttled
	}{
		{"reading a cluster's resources", ecsTargets + "ListContainerInstances", `{"cluster":"demo"}`, "ecs", true, 100, 20},
		{"reading clusters", ecsTargets + "DescribeClusters", `{}`, "ecs", true, 50, 20},
		{"changing task definitions", ecsTargets + "DeregisterTaskDefinition", `{"taskDefinition":"none:1"}`, "ecs", true, 20, 1},
		{"Systems Manager", ssmTargets + "DescribeActivations", `{}`, "ssm", true, 0, 0},
		{"switched off", ecsTargets + "DescribeClusters", `{}`, "ecs", false, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, emulator.Options{Throttling: c.throttling})
			admitted := func() int {
				for n := range 210 {
					if _, code, _ := w.call(c.target, c.body, signing{service: c.service}); code == "ThrottlingException" {
						return n
					}
				}
				return 0
			}
			if n := admitted(); n != c.burst {
				t.Errorf("%d calls at once, want %d", n, c.burst)
			}
			w.now = w.now.Add(2 * time.Second)
			if n := admitted(); n != min(2*c.sustained, c.burst) {
				t.Errorf("%d calls after two seconds, want %d", n, 2*c.sustained)
			}
		})
	}
	// Operations of one bucket share its tokens.
	w := newWorld(t, emulator.Options{Throttling: true})
	for range 100 {
		w.call(ecsTargets+"ListContainerInstances", `{"cluster":"demo"}`, signing{service: "ecs"})
	}
	if _, code, out := w.call(ecsTargets+"ListTasks", `{"cluster":"demo"}`, signing{service: "ecs"}); code != "ThrottlingException" || out["message"] != "Rate exceeded" {
		t.Errorf("%s %v", code, out)
	}
}
