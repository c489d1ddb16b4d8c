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
	report := lifecycle.Report{}
	authority, err := emulator.NewAuthority()
	if err != nil {
		return report, err
	}
	opts := emulator.Options{Account: req.Account, Region: req.Region, Authority: authority}
	if req.Buckets != "" {
		info, err := os.Stat(req.Buckets)
		if err != nil || !info.IsDir() {
			return report, failure.New(failure.Usage, "--buckets: %s is no folder that can be read", req.Buckets)
		}
		opts.Artifacts = os.DirFS(req.Buckets)
	}
	e := emulator.New(opts)
	e.AddOperator(emulator.Key{ID: EmulatorKeyID, Secret: secret.NewText(EmulatorSecret)})
	if err := e.Start(req.Listen); err != nil {
		return report, cannotListen(req.Listen, err)
	}
	defer e.Close()
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(e.URL(), "http://")) // Start has listened there
	if req.URL == "" {
		req.URL = e.URL()
		if ip := net.ParseIP(host); ip.IsUnspecified() {
			req.URL = "http://" + net.JoinHostPort("127.0.0.1", port)
			report.Warnings = append(report.Warnings, "the printed URL is for this machine alone: name with --url how others reach it")
		}
	}
	result := reachable(e, req)
	if err := announce(&result, req, authority); err != nil {
		return report, err
	}
	if ip := net.ParseIP(host); !ip.IsLoopback() {
		report.Warnings = append(report.Warnings, "whoever reaches "+result.URL+" can use the emulated account: its keys are no secret")
	}
	report.Result = result
	req.Ready(result, report.Warnings)
	<-ctx.Done()
	result.Requests = len(e.Requests())
	report.Result = result
	report.Message = fmt.Sprintf("the emulator answered %d calls and has ended", result.Requests)
	return report, context.Cause(ctx)
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

// reachable is how tools and agents find a started emulator.
func reachable(e *emulator.Emulator, req cli.EmulatorRequest) cli.EmulatorResult {
	result := cli.EmulatorResult{
		URL: req.URL, Region: req.Region, Account: req.Account, CAFile: req.CAFile,
		Environment: map[string]string{
			"AWS_ENDPOINT_URL": req.URL, "AWS_REGION": req.Region, "AWS_ACCESS_KEY_ID": EmulatorKeyID,
			"AWS_SECRET_ACCESS_KEY": EmulatorSecret, "AWS_EC2_METADATA_DISABLED": "true",
		},
		Flags: strings.Fields(emulator.AgentFlags(req.URL)), AgentFiles: []cli.EmulatorFile{},
	}
	for _, f := range e.AgentFiles(req.URL, "default") {
		result.AgentFiles = append(result.AgentFiles, cli.EmulatorFile{Path: f.Path, Content: f.Content})
	}
	return result
}

// announce writes the files that others wait for.
func announce(result *cli.EmulatorResult, req cli.EmulatorRequest, authority *emulator.Authority) error {
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
	defer os.Remove(f.Name()) // it is not there any more when all went well
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
