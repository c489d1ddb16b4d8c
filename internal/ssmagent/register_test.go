package ssmagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// canary is an activation code that must appear nowhere but in the child's argv.
const canary = "CANARY+code/0123456789=="

var activation = Registration{
	ActivationID: "11111111-2222-4333-8444-555555555555", Code: secret.NewText(canary), Region: ourRegion,
	Env: []string{"HTTPS_PROXY=http://proxy:3128"},
}

// agentBinary stands for the agent's -register: it does to the store what the real one does, then says and returns what
// the test wants. It is the host's runner and its service manager.
type agentBinary struct {
	m      machine
	gives  string // the id that AWS gives; empty: it refuses
	output string
	exit   int
	halt   func() // called before the end, once the store is written

	runs    []host.Cmd
	running bool // the unit
	stopped int
}

func (a *agentBinary) Run(ctx context.Context, cmd host.Cmd) (host.Result, error) {
	argv := append([]string{cmd.Path}, cmd.Args...)
	host.ChildHook(ctx)(host.Child{PID: 4711, Started: 1, Argv: argv})
	a.runs = append(a.runs, cmd)
	if a.running {
		a.m.t.Error("registered while the agent was running")
	}
	a.m.json(ManifestPath, manifest())
	a.m.json(KeyPath, keyFile("", "", privateKey()))
	if _, err := a.m.dir.Lstat(FingerprintPath); err != nil {
		a.m.json(FingerprintPath, fingerprintFile(machineID, 40))
	}
	if a.gives != "" {
		a.m.registered(a.gives)
	}
	if a.halt != nil {
		a.halt()
	}
	return host.Result{ExitCode: a.exit, Output: a.output}, nil
}

func (a *agentBinary) Wait(context.Context, host.Child) error { return nil }

func (a *agentBinary) Unit(_ context.Context, name string) (host.Unit, error) {
	u := host.Unit{Name: name, Loaded: true, Active: "inactive", Sub: "dead", Enabled: "enabled"}
	if a.running {
		u.Active, u.Sub = "active", "running"
	}
	return u, nil
}

func (a *agentBinary) Available(context.Context) error { return nil }

func (a *agentBinary) Stop(context.Context, string) error {
	a.running = false
	a.stopped++
	return nil
}

func (a *agentBinary) Start(context.Context, string) error   { a.running = true; return nil }
func (a *agentBinary) Restart(context.Context, string) error { a.running = true; return nil }
func (a *agentBinary) Enable(context.Context, string) error  { return nil }
func (a *agentBinary) Disable(context.Context, string) error { return nil }
func (a *agentBinary) Reload(context.Context) error          { return nil }

// apply runs a plan whose only step registers the host anew.
func (a *agentBinary) apply(ctx context.Context, reg Registration, opts engine.Options) (id string, out engine.Outcome, err error) {
	e := a.engine()
	former, err := ReadIdentity(e.Host.Reader)
	if err != nil {
		a.m.t.Fatal(err)
	}
	plan := engine.Plan{
		Verb: "register", Key: "same", Commit: "ssm.identity",
		Steps: []engine.Step{{
			ID: "ssm.identity", Title: "Register with Systems Manager",
			Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
				i, err := ReadIdentity(r)
				if i.Registered() && i.InstanceID != former.InstanceID {
					return engine.Obs{State: engine.OK, Detail: i.InstanceID}, err
				}
				return engine.Obs{State: engine.Pending}, err
			},
			Change: func(ctx context.Context, tx *engine.Tx) error {
				id, err = Register(ctx, tx, reg)
				return err
			},
		}},
	}
	out, err = e.Apply(ctx, plan, opts)
	return id, out, err
}

const engineDir = "/var/lib/anywhere"

func (a *agentBinary) engine() *engine.Engine {
	r := a.m.reader()
	r.Units = a
	return &engine.Engine{
		Host: host.Host{Reader: r, Disk: a.m.dir, Manager: a, Runner: a}, Dir: engineDir, RunID: "run1", Version: "test",
		Kinds: map[string]engine.Kind{RegisterKind: Kind()}, Listen: func(e engine.Event) {
			if strings.Contains(e.Text, canary) || e.Err != nil && strings.Contains(e.Err.Error(), canary) {
				a.m.t.Errorf("an event holds the activation code: %+v", e)
			}
		},
	}
}

// agentStore is every file and folder of the agent, with mode and content.
func agentStore(t *testing.T, m machine) map[string]string {
	t.Helper()
	tree := map[string]string{}
	err := filepath.WalkDir(filepath.Join(m.root, DataDir), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || entry.IsDir() {
			tree[path] = "folder"
			return err
		}
		text, err := os.ReadFile(path)
		tree[path] = info.Mode().String() + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func sameStore(t *testing.T, before, after map[string]string) {
	t.Helper()
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s is not as it was", path)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok {
			t.Errorf("%s was left behind", path)
		}
	}
}

// noCanary looks through all files of the machine and the error.
func noCanary(t *testing.T, m machine, err error) {
	t.Helper()
	if err != nil {
		f := failure.Of(err)
		if text := fmt.Sprintf("%v %+v %#v", err, f, f) + f.Evidence + f.Advice(); strings.Contains(text, canary) {
			t.Errorf("the error holds the activation code: %s", text)
		}
	}
	walk := filepath.WalkDir(m.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), canary) {
			t.Errorf("%s holds the activation code", path)
		}
		return err
	})
	if walk != nil {
		t.Fatal(walk)
	}
}

func TestRegister(t *testing.T) {
	for _, former := range []string{"", otherID} {
		t.Run("former "+former, func(t *testing.T) {
			m := newMachine(t)
			if former != "" {
				m.registered(former)
			}
			a := &agentBinary{m: m, gives: ourID, running: true, output: "said " + canary}
			id, out, err := a.apply(t.Context(), activation, engine.Options{})
			if err != nil || id != ourID || !out.Changed {
				t.Fatalf("id %q, outcome %+v, error %v", id, out, err)
			}
			want := []string{"-register", "-y", "-id", activation.ActivationID, "-code", canary, "-region", ourRegion}
			if len(a.runs) != 1 || a.runs[0].Path != Binary || !slices.Equal(a.runs[0].Args, want) ||
				!slices.Equal(a.runs[0].Secret, []string{canary}) || !slices.Equal(a.runs[0].Env, activation.Env) {
				t.Errorf("ran %+v", a.runs)
			}
			if a.stopped != 1 || a.running {
				t.Errorf("the agent was stopped %d times, and is running: %v", a.stopped, a.running)
			}
			noCanary(t, m, nil)
		})
	}
}

// prefix begins the agent's lines.
const prefix = "2026-11-22 12:00:00.0000 ERROR "

const apiFailure = prefix + "Registration failed due to error registering the instance with AWS SSM. "

func TestRefusals(t *testing.T) {
	noise := "Initializing new seelog logger\n2026-11-22 12:00:00.0000 WARN Could not read InstanceFingerprint file: InstanceFingerprint does not exist\n" +
		"2026-11-22 12:00:00.0000 INFO Failed to unmarshal config override. Fall back to default.\n"
	for _, c := range []struct {
		output   string
		exit     int
		code     failure.Code
		evidence string
	}{
		{apiFailure + "InvalidActivation: ", 1, failure.ActivationInvalid, "InvalidActivation"},
		{apiFailure + "ActivationExpired: ", 1, failure.ActivationExpired, "ActivationExpired"},
		{apiFailure + "RegistrationLimitExceeded: Registration limit exceeded", 1, failure.ActivationUsedUp, "RegistrationLimitExceeded"},
		{apiFailure + "InvalidParameter: 1 validation error(s) found.\n- minimum field size of 20, RegisterManagedInstanceInput.ActivationCode.\n", 1, failure.Usage, "minimum field size of 20"},
		{apiFailure + "InvalidParameter: 1 validation error(s) found.\n- minimum field size of 36, RegisterManagedInstanceInput.ActivationId.\n", 1, failure.Usage, "minimum field size of 36"},
		{apiFailure + "ThrottlingException: Rate exceeded\n\tstatus code: 400, request id: 1\n", 1, failure.Throttled, "Rate exceeded status code: 400"},
		{apiFailure + "TooManyUpdates: ", 1, failure.Throttled, "TooManyUpdates"},
		{apiFailure + "InternalServerError: ", 1, failure.AWSUnavailable, "InternalServerError"},
		{apiFailure + "RequestExpired: ", 1, failure.ClockSkew, "RequestExpired"},
		{apiFailure + "RequestError: send request failed\ncaused by: Post \"https://ssm.eu-central-1.amazonaws.com/\": dial tcp: lookup ssm.eu-central-1.amazonaws.com: no such host", 1, failure.Network, "no such host"},
		{apiFailure + "RequestError: send request failed\ncaused by: Post \"https://x/\": dial tcp 10.1.1.1:443: connect: connection refused", 1, failure.Network, "connection refused"},
		{apiFailure + "RequestError: send request failed\ncaused by: Post \"https://x/\": proxyconnect tcp: dial tcp 10.1.1.1:3128: connect: connection refused", 1, failure.Network, "proxyconnect"},
		{apiFailure + "RequestError: send request failed\ncaused by: Post \"https://x/\": tls: failed to verify certificate: x509: certificate signed by unknown authority", 1, failure.TLSUntrusted, "unknown authority"},
		{prefix + "Unable to determine endpoint because region x\" has invalid characters\n" + apiFailure + "MissingEndpoint: 'Endpoint' configuration is required for this service", 1, failure.Usage, "MissingEndpoint"},
		{prefix + "Registration failed due to Unable to save registration information. open /var/lib/amazon/ssm: operation not permitted\nTry running as sudo/administrator.\n", 1, failure.NotRoot, "operation not permitted"},
		{prefix + "Registration failed due to EOF", 1, failure.Internal, "due to EOF"},
		{apiFailure + "Brand: new", 1, failure.Internal, "Brand: new"},
		{"panic: runtime error: invalid memory address\n\ngoroutine 1 [running]:\nmain.main()\n", 2, failure.Internal, "panic: runtime error"},
		{"flag provided but not defined: -id\nUsage of amazon-ssm-agent:\n", 2, failure.Internal, "Usage of amazon-ssm-agent"},
		{"", -1, failure.Internal, ""},
	} {
		err := refusal(host.Result{ExitCode: c.exit, Output: noise + c.output + "\n"}, activation)
		f := failure.Of(err)
		if f.Code != c.code || !strings.Contains(f.Evidence, c.evidence) || strings.Contains(f.Evidence, "\n") || !strings.Contains(f.Message, ourRegion) {
			t.Errorf("%s\n\tis told as %s: %s; evidence %q; want %s with %q", c.output, f.Code, f.Message, f.Evidence, c.code, c.evidence)
		}
	}
}

func TestRefusedRegistrationPutsTheStoreBack(t *testing.T) {
	failed := apiFailure + "ActivationExpired: " + canary
	for _, c := range []struct {
		name   string
		before func(machine)
		opts   engine.Options
	}{
		{"registered", func(m machine) { m.running(otherID, now) }, engine.Options{}},
		{"registered, kept half-way", func(m machine) { m.running(otherID, now) }, engine.Options{NoRollback: true}},
		{"fresh", func(machine) {}, engine.Options{}},
		{"fresh, kept half-way", func(machine) {}, engine.Options{NoRollback: true}},
		{"cleared", func(m machine) { m.cleared(otherID) }, engine.Options{}},
		{"damaged", func(m machine) {
			m.registered(otherID)
			m.write(ManifestPath, "{")
			m.write(KeyPath, "cut")
		}, engine.Options{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.write(DataDir+"/keep", "") // the folder itself is the package's
			c.before(m)
			before := agentStore(t, m)
			a := &agentBinary{m: m, exit: 1, output: failed}
			_, out, err := a.apply(t.Context(), activation, c.opts)
			if f := failure.Of(err); err == nil || f.Code != failure.ActivationExpired {
				t.Fatalf("error %v, want the code activation_expired", err)
			}
			sameStore(t, before, agentStore(t, m))
			noCanary(t, m, err)
			if !c.opts.NoRollback && len(out.Kept) > 0 {
				t.Errorf("kept %q", out.Kept)
			}
			if c.opts.NoRollback { // the next run may fail too, and then be rolled back
				if _, _, err := a.apply(t.Context(), activation, c.opts); err == nil {
					t.Fatal("the second run succeeded")
				}
				out, err := a.engine().Rollback(t.Context())
				if err != nil || !out.RolledBack || len(out.Kept) > 0 {
					t.Errorf("rollback: %+v, %v", out, err)
				}
				sameStore(t, before, agentStore(t, m))
			}
		})
	}
}

func TestRegisterKilled(t *testing.T) {
	type killed struct{}
	die := func() { panic(killed{}) }
	run := func(t *testing.T, a *agentBinary) {
		t.Helper()
		defer func() {
			if _, ok := recover().(killed); !ok {
				t.Fatal("the run was not killed")
			}
		}()
		_, _, _ = a.apply(t.Context(), activation, engine.Options{})
	}
	t.Run("before AWS answered, then rolled back", func(t *testing.T) {
		m := newMachine(t)
		m.running(otherID, now)
		before := agentStore(t, m)
		run(t, &agentBinary{m: m, halt: die})
		if i, _ := ReadIdentity(m.reader()); i.Registered() {
			t.Fatal("the store should be blanked here")
		}
		out, err := (&agentBinary{m: m}).engine().Rollback(t.Context())
		if err != nil || !out.RolledBack {
			t.Fatalf("rollback: %+v, %v", out, err)
		}
		sameStore(t, before, agentStore(t, m))
	})
	t.Run("before AWS answered, then refused in the next run", func(t *testing.T) {
		m := newMachine(t)
		m.running(otherID, now)
		before := agentStore(t, m)
		run(t, &agentBinary{m: m, halt: die})
		_, out, err := (&agentBinary{m: m, exit: 1, output: apiFailure + "InvalidActivation: "}).apply(t.Context(), activation, engine.Options{})
		if !failure.Is(err, failure.ActivationInvalid) || !out.RolledBack {
			t.Fatalf("outcome %+v, error %v", out, err)
		}
		sameStore(t, before, agentStore(t, m))
	})
	t.Run("after AWS answered: only forward", func(t *testing.T) {
		m := newMachine(t)
		m.running(otherID, now)
		run(t, &agentBinary{m: m, gives: ourID, halt: die})
		out, err := (&agentBinary{m: m}).engine().Rollback(t.Context())
		if !failure.Is(err, failure.NothingToRollBack) || !strings.Contains(strings.Join(out.Kept, " ")+err.Error(), ourID) {
			t.Errorf("rollback: %+v, %v; want the new node kept", out, err)
		}
		if i, _ := ReadIdentity(m.reader()); i.InstanceID != ourID || !i.Registered() {
			t.Errorf("the new identity is gone: %+v", i)
		}
	})
}

func TestRegisterInterrupted(t *testing.T) {
	m := newMachine(t)
	m.running(otherID, now)
	before := agentStore(t, m)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := failure.New(failure.Interrupted, "interrupted")
	a := &agentBinary{m: m, exit: 1, output: apiFailure + "RequestError: send request failed", halt: func() { cancel(cause) }}
	_, out, err := a.apply(ctx, activation, engine.Options{})
	if err == nil || !out.RolledBack {
		t.Errorf("outcome %+v, error %v", out, err)
	}
	sameStore(t, before, agentStore(t, m))
}

func TestRegisteredWithoutAnIdentity(t *testing.T) {
	m := newMachine(t)
	m.running(otherID, now)
	before := agentStore(t, m)
	_, _, err := (&agentBinary{m: m, output: "all fine " + canary}).apply(t.Context(), activation, engine.Options{})
	if !failure.Is(err, failure.Internal) || !strings.Contains(err.Error(), "no new identity") {
		t.Errorf("error %v", err)
	}
	sameStore(t, before, agentStore(t, m))
	noCanary(t, m, err)
}

// A registration that stores its identity and then ends badly is a registration: its slot is spent.
func TestNewIdentityIsKeptWhateverTheExitStatus(t *testing.T) {
	m := newMachine(t)
	_, out, err := (&agentBinary{m: m, gives: ourID, exit: 1, output: "disk full"}).apply(t.Context(), activation, engine.Options{})
	if err == nil || out.RolledBack || !slices.ContainsFunc(out.Kept, func(s string) bool { return strings.Contains(s, ourID) }) {
		t.Errorf("outcome %+v, error %v; want %s kept", out, err, ourID)
	}
	if i, _ := ReadIdentity(m.reader()); i.InstanceID != ourID {
		t.Errorf("the identity is gone: %+v", i)
	}
}

func TestUndoLeavesARotatedKeyAlone(t *testing.T) {
	m := newMachine(t)
	m.registered(otherID)
	m.write("/backup/key", "the key before its rotation")
	a := &agentBinary{m: m}
	kept, err := undo(a.engine().Host, stored{FormerID: otherID, Files: []storedFile{{KeyPath, "/backup/key"}}})
	if i, _ := ReadIdentity(m.reader()); err != nil || len(kept) > 0 || !i.Registered() {
		t.Errorf("kept %q, error %v, identity %+v", kept, err, i)
	}
}

func TestRegistrationIsCheckedBeforeAnythingIsTouched(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Registration)
		says string
	}{
		{"short id", func(r *Registration) { r.ActivationID = "11111111" }, "the activation id is not one"},
		{"short code", func(r *Registration) { r.Code = secret.NewText("CANARY+code") }, "the activation code is not one"},
		{"line end", func(r *Registration) { r.Code = secret.NewText(canary + "\n") }, fmt.Sprintf("character %d is U+000A", len(canary)+1)},
		{"quotation marks", func(r *Registration) { r.Region = "“eu-central-1”" }, "the Region is not one: character 1 is U+201C"},
		{"no Region", func(r *Registration) { r.Region = "" }, "the Region is not one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.running(otherID, now)
			a := &agentBinary{m: m, gives: ourID, running: true}
			reg := activation
			c.edit(&reg)
			_, _, err := a.apply(t.Context(), reg, engine.Options{})
			if !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("error %v, want usage: %s", err, c.says)
			}
			if len(a.runs) > 0 || a.stopped > 0 {
				t.Errorf("ran %v, stopped %d times", a.runs, a.stopped)
			}
		})
	}
}
