package rehearsal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// The operator of an emulator whose seed names none. It is in the documentation: playbooks can hold it.
const (
	EmulatorKeyID  = "AKIAANYWHEREEMULATOR"
	EmulatorSecret = "anywhere-emulator"
)

// Emulate serves the emulated AWS until ctx ends.
func Emulate(ctx context.Context, req cli.EmulatorRequest) (lifecycle.Report, error) {
	if err := knowFaults(req.Faults); err != nil {
		return lifecycle.Report{}, err
	}
	if req.State == "" {
		e, seeded, err := openAccount(req, nil)
		if err != nil {
			return lifecycle.Report{}, err
		}
		return emulate(ctx, req, e, seeded)
	}
	keeper, data, err := emulator.OpenKeeper(req.State)
	switch {
	case errors.Is(err, emulator.ErrStateInUse):
		return lifecycle.Report{}, failure.New(failure.Locked, "--state: another emulator keeps its state in %s", req.State).
			WithRemedy("end it, or name another file")
	case err != nil:
		return lifecycle.Report{}, failure.Wrap(failure.Usage, err, "--state: %s cannot be used", req.State)
	}
	var report lifecycle.Report
	e, seeded, err := openAccount(req, data)
	if err == nil {
		err = keeper.Keep(e, func(err error) {
			req.Warn(fmt.Sprintf("%s: the next change tries again", err))
		})
		if err == nil {
			report, err = emulate(ctx, req, e, seeded)
		}
	}
	if unsaved := keeper.Close(); unsaved != nil && (err == nil || ctx.Err() != nil) {
		return report, failure.Wrap(failure.ReadOnly, unsaved, "--state: the last changes are not in %s", req.State)
	}
	return report, err
}

// openAccount is the emulated account as it is at the start: the state's, or a new one with the seed.
func openAccount(req cli.EmulatorRequest, state []byte) (e *emulator.Emulator, seeded bool, err error) {
	opts := emulator.Options{Account: req.Account, Region: req.Region, Lag: req.Lag, Throttling: req.Throttling, TokenLife: req.TokenLife, Roles: true}
	if req.Buckets != "" {
		info, err := os.Stat(req.Buckets)
		if err != nil || !info.IsDir() {
			return nil, false, failure.New(failure.Usage, "--buckets: %s is no folder that can be read", req.Buckets)
		}
		opts.Artifacts = os.DirFS(req.Buckets)
	}
	var seed []byte
	if req.Seed != "" {
		if seed, err = os.ReadFile(req.Seed); err != nil {
			return nil, false, failure.Wrap(failure.Usage, err, "--seed: %s cannot be read", req.Seed)
		}
	}
	if state != nil {
		e, err = emulator.Load(opts, state)
		if err != nil {
			return nil, false, failure.Wrap(failure.InvalidConfig, err, "--state: %s", req.State).
				WithRemedy("name another file, or move this one away to begin anew; it is left as it is")
		}
		return e, false, nil
	}
	if opts.Authority, err = emulator.NewAuthority(); err != nil {
		return nil, false, err
	}
	e = emulator.New(opts)
	e.AddRole("ecsAnywhereRole")
	if err := e.Seed(seed); err != nil {
		return nil, false, failure.Wrap(failure.InvalidConfig, err, "--seed: %s", req.Seed).
			WithRemedy("docs/emulator.md says what a seed can have")
	}
	if _, named := e.Operator(); !named {
		e.AddOperator(emulator.Key{ID: EmulatorKeyID, Secret: secret.NewText(EmulatorSecret)})
	}
	return e, req.Seed != "", nil
}

// emulate serves an account until ctx ends.
func emulate(ctx context.Context, req cli.EmulatorRequest, e *emulator.Emulator, seeded bool) (lifecycle.Report, error) {
	report := lifecycle.Report{}
	if err := sabotage(e, req); err != nil {
		return report, err
	}
	if err := e.Start(req.Listen); err != nil {
		return report, cannotListen(req.Listen, err)
	}
	defer e.Close()
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(e.URL(), "http://")) // Start has listened there
	if req.URL == "" {
		req.URL = e.URL()
		if ip := net.ParseIP(host); ip.IsUnspecified() {
			req.URL = "http://" + net.JoinHostPort("127.0.0.1", port)
			req.Warn("the printed URL is for this machine alone: name with --url how others reach it")
		}
	}
	result := reachable(e, req)
	result.Seeded = seeded
	if err := announce(result, req, e.Authority()); err != nil {
		return report, err
	}
	if ip := net.ParseIP(host); !ip.IsLoopback() {
		req.Warn("whoever reaches " + result.URL + " can use the emulated account: its keys are no secret")
	}
	req.Ready(result)
	<-ctx.Done()
	result.Requests = e.Answered()
	report.Result = result
	report.Message = fmt.Sprintf("the emulator answered %d calls and has ended", result.Requests)
	return report, context.Cause(ctx)
}

// sabotage arms what is to go wrong.
func sabotage(e *emulator.Emulator, req cli.EmulatorRequest) error {
	for _, text := range req.Faults {
		if err := e.Fault(text); err != nil {
			return failure.Wrap(failure.Internal, err, "--fault")
		}
	}
	if req.Scenario == "" {
		return nil
	}
	data, err := os.ReadFile(req.Scenario)
	if err != nil {
		return failure.Wrap(failure.Usage, err, "--scenario: %s cannot be read", req.Scenario)
	}
	if err := e.Plan(data); err != nil {
		return failure.Wrap(failure.InvalidConfig, err, "--scenario: %s", req.Scenario).
			WithRemedy("docs/emulator-faults.md says what a scenario can have")
	}
	return nil
}

// cannotListen says why a port cannot be served on.
func cannotListen(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return failure.Wrap(failure.PortTaken, err, "--listen: something else serves on %s", addr).
			WithRemedy("stop it, or name another port; --listen 127.0.0.1:0 takes any that is free")
	case errors.Is(err, syscall.EACCES):
		return failure.Wrap(failure.NotRoot, err, "--listen: %s is for root", addr).
			WithRemedy("name a port above 1023")
	}
	return failure.Wrap(failure.Usage, err, "--listen: %s cannot be served on", addr).
		WithRemedy("name an address of this machine and a port, like 127.0.0.1:4580")
}

// reachable is how tools and agents find a started emulator, and what is in it.
func reachable(e *emulator.Emulator, req cli.EmulatorRequest) cli.EmulatorResult {
	operator, _ := e.Operator() // openAccount has seen to it
	result := cli.EmulatorResult{
		URL: req.URL, Region: e.Region(), Account: e.Account(), CAFile: req.CAFile, StateFile: req.State,
		Clusters: append([]string{}, e.Clusters()...), Activations: []cli.EmulatedToken{},
		Environment: map[string]string{
			"AWS_ENDPOINT_URL": req.URL, "AWS_ACCESS_KEY_ID": operator.ID, "AWS_SECRET_ACCESS_KEY": operator.Secret.Reveal(),
			"AWS_REGION": e.Region(), "AWS_DEFAULT_REGION": e.Region(), // the AWS CLI's first version reads only the latter
			"AWS_EC2_METADATA_DISABLED": "true",
		},
		Flags: strings.Fields(emulator.AgentFlags(req.URL)), AgentFiles: []cli.EmulatorFile{},
	}
	for _, a := range e.Activations() {
		result.Activations = append(result.Activations, cli.EmulatedToken{ActivationID: a.ID, ActivationCode: a.Code, Name: a.Name})
	}
	cluster := "default"
	if len(result.Clusters) > 0 {
		cluster = result.Clusters[0]
	}
	for _, f := range e.AgentFiles(req.URL, cluster) {
		result.AgentFiles = append(result.AgentFiles, cli.EmulatorFile{Path: f.Path, Content: f.Content})
	}
	return result
}

// announce writes the files that others wait for.
func announce(result cli.EmulatorResult, req cli.EmulatorRequest, authority *emulator.Authority) error {
	if req.CAFile != "" {
		if err := replaceFile(req.CAFile, authority.PEM(), 0o644); err != nil {
			return failure.Wrap(failure.Usage, err, "--ca-file-out: %s cannot be written", req.CAFile)
		}
	}
	if req.ReadyFile == "" {
		return nil
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(result); err != nil {
		return fmt.Errorf("writing the ready file: %w", err)
	}
	if err := replaceFile(req.ReadyFile, text.Bytes(), 0o600); err != nil {
		return failure.Wrap(failure.Usage, err, "--ready-file: %s cannot be written", req.ReadyFile)
	}
	return nil
}

// replaceFile puts a whole file in its place: who waits for it never reads half of it.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it is not there any more when all went well
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
