package rehearsal

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// act is how a fault is shown: on a new host some lines, then the fault, then one line more.
type act struct {
	fault string // as --fault has it; empty is the fault's name
	first []line
	last  line
}

var (
	makesToken = registering[0]
	// The agents' own patience is shortened, so the command's can be.
	withIts   = line{args: []string{"register", "--token", "-", "--wait-timeout", "10s"}, token: true}
	attempted = act{first: []line{makesToken}, last: withIts}
	asked     = line{args: []string{"status", "--remote"}, operator: true}
)

// acts are the faults that a register with a token does not show best.
var acts = map[string]act{
	emulator.FaultAccessDenied: {
		"access-denied=ecs:DeregisterContainerInstance", []line{becoming}, line{args: []string{"deregister", "--yes"}, operator: true},
	},
	emulator.FaultAgentNeverConnects: {
		last: line{args: append(slices.Clip(becoming.args), "--wait-timeout", "5s"), operator: true},
	},
	emulator.FaultInstanceInactive: {first: []line{becoming}, last: asked},
	emulator.FaultNodeDeregistered: {first: []line{becoming}, last: asked},
	emulator.FaultNodeOffline:      {first: []line{becoming}, last: asked},
	emulator.FaultTaskNeverStops: {
		first: []line{becoming}, last: line{args: []string{"drain", "--drain-timeout", "2s"}, operator: true, before: (*stage).busy},
	},
	emulator.FaultSlow: {"slow*2", []line{makesToken}, withIts},
}

// sideBySide is how many hosts are played at once: they wait most of the time.
const sideBySide = 4

// allFaults plays every fault of the catalogue, each on a host of its own.
func allFaults(ctx context.Context, base cli.Env, req cli.RehearseRequest, at site, root string, result Result) (lifecycle.Report, error) {
	return playFaults(ctx, base, req, at, root, result, emulator.Faults())
}

// playFaults plays some of the catalogue.
func playFaults(
	ctx context.Context, base cli.Env, req cli.RehearseRequest, at site, root string, result Result, faults []emulator.FaultInfo,
) (lifecycle.Report, error) {
	if len(req.Faults) > 0 {
		return lifecycle.Report{Result: result}, failure.New(failure.Usage, "--fault: %s plays all of them", cli.AllFaults)
	}
	_, _, warnings := suit(nil, req)
	commands, failed := make([]Command, len(faults)), make([]error, len(faults))
	var all sync.WaitGroup
	var mu sync.Mutex
	places, done := make(chan struct{}, sideBySide), 0
	for i, f := range faults {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if ctx.Err() != nil {
				return
			}
			commands[i], failed[i] = oneFault(ctx, base, req, at, filepath.Join(root, f.Name), f)
			mu.Lock()
			defer mu.Unlock()
			if done++; !req.Quiet && !req.JSON {
				fmt.Fprintf(base.Streams.Err, "%2d/%d %s\n", done, len(faults), f.Name)
			}
		})
	}
	all.Wait()
	rep := lifecycle.Report{Result: result, Warnings: warnings}
	if ctx.Err() != nil {
		return rep, context.Cause(ctx)
	}
	for i, err := range failed {
		if err != nil {
			return rep, failure.Wrap(failure.Internal, err, "the fault %s could not be played", faults[i].Name)
		}
	}
	result.Commands = commands
	rep.Result = result
	if !req.JSON && !req.Quiet {
		tellFaults(base.Streams.Out, req.Style, commands)
	}
	rep.Message = fmt.Sprintf("%d faults, each on a throw-away host of its own, against an emulated AWS", len(faults))
	return rep, nil
}

// oneFault plays one fault in a folder of its own.
func oneFault(ctx context.Context, base cli.Env, req cli.RehearseRequest, at site, root string, f emulator.FaultInfo) (Command, error) {
	played, special := acts[f.Name]
	if !special {
		played = attempted
	}
	if played.fault == "" {
		played.fault = f.Name
	}
	base.Streams.Out, base.Streams.Err, base.Streams.OutTTY, base.Streams.ErrTTY = io.Discard, io.Discard, false, false
	base.Streams.InTTY, base.Streams.SpinnerFile = false, nil
	if err := os.MkdirAll(root, 0o755); err != nil {
		return Command{}, err
	}
	s, err := newStageAt(root, base, true, at)
	if err != nil {
		return Command{}, err
	}
	defer s.close()
	if err := s.furnished(cli.RehearseRequest{Config: req.Config}); err != nil {
		return Command{}, err
	}
	for _, l := range played.first {
		if _, err := s.play(ctx, l, cli.RehearseRequest{}); err != nil {
			return Command{}, err
		}
	}
	last := played.last
	last.faults, last.extra = true, last.args[0] == "register"
	suited, given, _ := suit([]line{last}, req)
	last = suited[0]
	var args []string
	for _, g := range given {
		args = append(args, g.Words...)
	}
	c, err := s.play(ctx, last, cli.RehearseRequest{Faults: []string{played.fault}, Given: given, Args: args})
	c.Fault = played.fault
	if c.Line == "" { // it was not run
		return c, err
	}
	return c, nil // how it ended is what was to be seen
}

// tellFaults is the table for people.
func tellFaults(w io.Writer, style report.Style, commands []Command) {
	rows := [][]string{{"fault", "command", "exit", "error", "the host afterwards"}}
	for _, c := range commands {
		verb, _, _ := strings.Cut(strings.TrimPrefix(c.Line, "anywhere "), " ")
		code := c.Code
		if code == "" {
			code = "-"
		}
		rows = append(rows, []string{c.Fault, verb, fmt.Sprint(c.RC), code, c.left()})
	}
	fmt.Fprintln(w)
	report.Table(w, style, rows)
	fmt.Fprintln(w)
}

// left is what a command has changed on the host, in a few words.
func (c Command) left() string {
	if c.still() {
		return "as it was"
	}
	var parts []string
	if n := len(c.Packages); n > 0 {
		parts = append(parts, fmt.Sprintf("%d package%s", n, map[bool]string{true: "s"}[n > 1]))
	}
	for _, s := range c.Services {
		word, _, _ := strings.Cut(s.After, ",")
		if word == "" {
			word = "gone"
		}
		parts = append(parts, strings.TrimSuffix(s.Name, ".service")+" "+word)
	}
	if n := len(c.Changed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d file%s", n, map[bool]string{true: "s"}[n > 1]))
	}
	return strings.Join(parts, ", ")
}
