package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/rehearsal"
	"github.com/anywhere-ecs/anywhere/internal/report"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// canary is the activation code of every script. It is in the files code and token and in $CANARY, and must not be in
// what a command prints or leaves on its host.
const canary = "Canary0code1that2must3stay4hidden"

const activationID = "01234567-89ab-cdef-0123-456789abcdef"

// Files that a command of a script leaves in its working folder for the test.
const (
	statusFile = "status"    // its exit status
	leakFile   = "leaked"    // its arguments, when it let a secret out
	promises   = "documents" // what every command so far printed that is an object: held to docs/schema at the end
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"anywhere": func() { os.Exit(anywhere()) }})
}

// elsewhere are the commands whose successes need root or a story: their documents are held to the schemas by the
// rehearsal's tests.
var elsewhere = []string{"register", "upgrade", "adopt", "rehearse", "rollback", "operation abandon", "drain", "activate", "move", "emulator"}

func TestScripts(t *testing.T) {
	seen := &documentsSeen{}
	t.Cleanup(func() { // after all scripts
		for name, results := range documented {
			if !seen.failures[name] && name != "rehearse" {
				t.Errorf("no script sees a document of anywhere %s that failed", name)
			}
			if !seen.successes[name] && results != nil && !slices.Contains(elsewhere, name) {
				t.Errorf("no script sees a document of anywhere %s that did not fail", name)
			}
		}
	})
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Values[awsKey] = newAWS()
			env.Setenv("CANARY", canary)
			env.Setenv("ID", activationID)
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true") // else the SDK would look for credentials on the network
			env.Defer(func() {
				if what, err := os.ReadFile(filepath.Join(env.WorkDir, leakFile)); err == nil {
					t.Errorf("a secret got out of: %s", what)
				}
				seen.keepsPromises(t, filepath.Join(env.WorkDir, promises))
			})
			for name, content := range map[string]string{
				"code":  canary + "\n",
				"token": joinToken() + "\n",

				"host/etc/os-release": "ID=debian\nVERSION_ID=\"12\"\nNAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian 12\"\n",
			} {
				if err := os.MkdirAll(filepath.Join(env.WorkDir, filepath.Dir(name)), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"document": document,
			"literal":  literal,
			"aws":      startAWS,
			"handed":   handed,
		},
	})
}

func joinToken() string {
	return control.Token{
		Account: "111122223333", Region: "eu-central-1", Cluster: "shop",
		ActivationID: activationID, Code: secret.NewText(canary),
		Expires: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC),
	}.Encode()
}

// documentsSeen are the commands whose documents the scripts have seen.
type documentsSeen struct {
	mu                  sync.Mutex
	failures, successes map[string]bool
}

func (s *documentsSeen) note(t *testing.T, document []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures == nil {
		s.failures, s.successes = map[string]bool{}, map[string]bool{}
	}
	var d report.Document
	if err := json.Unmarshal(document, &d); err != nil {
		t.Error(err)
	}
	if d.Failed {
		s.failures[d.Command] = true
	} else {
		s.successes[d.Command] = true
	}
}

// keepsPromises holds all documents that the commands of a script printed to the schemas, whether the script looks at
// them or not.
func (s *documentsSeen) keepsPromises(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		if err := contract.Check([]byte(line)); err != nil {
			t.Error(err)
		}
		s.note(t, []byte(line))
	}
}

// anywhere runs the command line of this process on the host below the folder "host", and watches for the canary.
func anywhere() int {
	var seen, printed bytes.Buffer
	root, err := filepath.Abs("host")
	if err != nil {
		panic(err)
	}
	env := cli.Env{
		Host:   func() (host.Host, error) { return bareHost(root), nil },
		HTTP:   func() *http.Client { return &http.Client{Transport: noNetwork{}} },
		AWS:    control.Load,
		Now:    func() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC) },
		Ticker: func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} },
		Streams: cli.Streams{
			In: os.Stdin, Out: io.MultiWriter(os.Stdout, &seen, &printed), Err: io.MultiWriter(os.Stderr, &seen),
		},
		LookupEnv: os.LookupEnv,
		Unsetenv:  os.Unsetenv,
		ReadFile: func(path string) ([]byte, error) {
			if strings.HasPrefix(path, "/etc/") {
				path = filepath.Join(root, path)
			}
			return os.ReadFile(path)
		},
		NewFile: func(path string) (*os.File, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		},
		Exit:     os.Exit,
		NewRunID: func() string { return "run-1" },
		Emulate:  rehearsal.Emulate,
		Faults:   rehearsal.Faults,
		Build:    cli.Build{Version: "1.2.3", Commit: "abc", Date: "2026-11-22T00:00:00Z", Go: "go1.26"},
	}
	status := cli.Main(context.Background(), env, os.Args[1:])
	_, still := os.LookupEnv("ANYWHERE_ACTIVATION_CODE")
	if still || shown(&seen, root) {
		leave(leakFile, strings.Join(os.Args[1:], " "))
	}
	leave(statusFile, strconv.Itoa(status))
	if bytes.HasPrefix(printed.Bytes(), []byte("{")) {
		before, _ := os.ReadFile(promises)
		leave(promises, string(before)+printed.String())
	}
	return status
}

func leave(name, content string) {
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		panic(err)
	}
}

// exits STATUS: the last command ended with it.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if got := ts.ReadFile(statusFile); got != args[0] {
		ts.Fatalf("the exit status is %s, not %s", got, args[0])
	}
}

// literal COMMAND…: runs it with the join token itself as its last argument, which must fail.
func literal(ts *testscript.TestScript, _ bool, args []string) {
	if err := ts.Exec(args[0], append(args[1:], joinToken())...); err == nil {
		ts.Fatalf("a literal token was taken")
	}
}

// document [CODE…]: stdout is one document, and its error has one of the codes; without codes it has none.
func document(ts *testscript.TestScript, _ bool, codes []string) {
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.DisallowUnknownFields()
	var doc report.Document
	ts.Check(dec.Decode(&doc))
	if dec.More() {
		ts.Fatalf("there is more than one object on stdout")
	}
	status := ts.ReadFile(statusFile)
	code := ""
	if doc.Error != nil {
		code = doc.Error.Code
	}
	switch {
	case doc.Schema != report.Schema || doc.RunID != "run-1" || doc.Version != "1.2.3",
		doc.StartedAt != "2026-11-22T10:00:00Z":
		ts.Fatalf("the document's head is %+v", doc)
	case strconv.Itoa(doc.RC) != status || doc.Failed != (doc.Error != nil):
		ts.Fatalf("rc %d, failed %v, error %q; the exit status is %s", doc.RC, doc.Failed, code, status)
	case len(codes) == 0 && code != "" || len(codes) > 0 && !slices.Contains(codes, code):
		ts.Fatalf("the error's code is %q, and not one of %q", code, codes)
	case strings.Contains(ts.ReadFile("stdout"), "null"):
		ts.Fatalf("there is a null in the document")
	}
}

// shown reports whether a secret is in the output or in a file of the host.
func shown(output *bytes.Buffer, root string) bool {
	found := false
	look := func(data []byte) {
		for _, s := range []string{canary, joinToken(), joinToken()[len(control.TokenPrefix):]} {
			found = found || bytes.Contains(data, []byte(s))
		}
	}
	look(output.Bytes())
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		data, err := os.ReadFile(path)
		look(data)
		return err
	})
	return found || err != nil
}

// noNetwork refuses every call: nothing that these scripts do may need one.
type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("there is no network in this test")
}

// bareHost is a Debian below root without packages, services or root's rights.
func bareHost(root string) host.Host {
	dir := host.NewDir(root)
	runner := noRunner{}
	dpkg := host.NewDpkg(dir, dir, runner)
	return host.Host{
		Reader: host.Reader{
			Files: dir, Packages: dpkg, Units: noUnits{}, Kernel: host.NewKernel(dir),
			Dial: func(context.Context, string, string) (net.Conn, error) { return nil, fs.ErrNotExist },
			Network: host.Network{ // nobody is there
				Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, fs.ErrNotExist },
				Dial:   func(context.Context, string, string) (net.Conn, error) { return nil, fs.ErrNotExist },
			},
			Now:  time.Now,
			Self: host.Self{EUID: 1000, GOOS: "linux", GOARCH: "amd64"},
		},
		Disk: dir, Packager: dpkg, Runner: runner,
	}
}

type noUnits struct{}

func (noUnits) Unit(_ context.Context, name string) (host.Unit, error) {
	return host.Unit{Name: name}, nil
}
func (noUnits) Available(context.Context) error {
	return nil
}

type noRunner struct{}

func (noRunner) Run(context.Context, host.Cmd) (host.Result, error) {
	return host.Result{}, errors.New("no child may be started in this test")
}
func (noRunner) Wait(context.Context, host.Child) error { return nil }
