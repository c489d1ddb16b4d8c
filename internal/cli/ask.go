package cli

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// approve shows the steps that would be done, and asks. Only yes is a yes; Ctrl-C is an answer too.
func (a *app) approve(ctx context.Context, steps []engine.StepReport, question string) error {
	due := slices.DeleteFunc(slices.Clone(steps), func(s engine.StepReport) bool { return s.Status != "planned" })
	if p := a.progress.Load(); p != nil {
		p.Hush(true)
	}
	report.Plan(cleaning{a.err, a.redactor}, a.style(a.env.Streams.ErrTTY), due)
	answer, err := a.ask(ctx, question+" [y/N] ")
	if err != nil {
		return err
	}
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	}
	return failure.New(failure.Declined, "nothing was changed: the answer was no").
		WithRemedy("run the command again and answer y, or add --yes")
}

// ask puts a question on the terminal and reads a line. Whatever is drawn there makes room.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	if p := a.progress.Load(); p != nil {
		p.Hush(true)
		defer p.Hush(false)
	}
	fmt.Fprint(a.err, a.redactor.Clean(question))
	return await(ctx, func() (string, error) {
		line, err := bufio.NewReader(a.env.Streams.In).ReadString('\n')
		if err != nil && line == "" {
			return "", failure.New(failure.Declined, "nothing was changed: the terminal gave no answer")
		}
		return strings.TrimSpace(line), nil
	})
}
