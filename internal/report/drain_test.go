package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// A count that goes down is a line for readers without a terminal, and changes the line of those who have one.
func TestProgressOfACount(t *testing.T) {
	for _, live := range []bool{false, true} {
		var out bytes.Buffer
		c := newClock()
		screen := c.plain(&out)
		if live {
			screen.Live = &line{out: &out}
		}
		p := NewProgress(screen)
		p.Event(engine.Event{Kind: engine.Started, Step: "ecs.tasks", Title: "Move its tasks away"})
		for _, left := range []string{"2 tasks left", "1 task is left (1 stopping)"} {
			p.Event(engine.Event{Kind: engine.Advanced, Step: "ecs.tasks", Title: "Move its tasks away", Text: left})
			for range 12 {
				c.pass(time.Second)
				p.Tick()
			}
		}
		for _, want := range []string{"Move its tasks away: 2 tasks left", "Move its tasks away: 1 task is left (1 stopping)"} {
			if n := strings.Count(out.String(), want); n == 0 || !live && n != 2 { // and once more, that it still waits
				t.Errorf("live %v: %d times %q:\n%s", live, n, want, out.String())
			}
		}
		if !live && strings.Count(out.String(), "\n") != 4 {
			t.Errorf("lines that say nothing new:\n%s", out.String())
		}
	}
}

func TestDrainText(t *testing.T) {
	result := lifecycle.DrainResult{
		Cluster: "shop", Region: "eu-west-1", Status: "DRAINING", Source: "agent",
		Tasks: []lifecycle.DrainTask{{ARN: "arn:x/prod/0123", Group: "service:web", LastStatus: "RUNNING", NeverMoves: "fixed"}},
	}
	rep := lifecycle.Report{
		Message: "would drain it", Steps: []engine.StepReport{{ID: "ecs.draining", Title: "Make it DRAINING", Status: "planned", Detail: "ACTIVE"}},
	}
	for dry, lines := range map[bool][]string{
		true:  {"planned   Make it DRAINING", "would drain it", "tasks counted by    the ECS agent on this host", "0123 (service:web, RUNNING): fixed"},
		false: {"would drain it", "  0123 (service:web, RUNNING)\n"},
	} {
		var out bytes.Buffer
		Drain(&out, NewStyle(false, false), rep, result, dry)
		for _, want := range lines {
			if !strings.Contains(out.String(), want) {
				t.Errorf("dry %v: no %q in\n%s", dry, want, out.String())
			}
		}
		if strings.Contains(out.String(), "planned") != dry {
			t.Errorf("dry %v:\n%s", dry, out.String())
		}
	}
}
