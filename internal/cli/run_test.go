package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// trial is one run of a command "try" that changes things, with a verb of the test's own.
type trial struct {
	t        *testing.T
	root     string // of the host
	out, err bytes.Buffer
	signals  chan os.Signal
	exits    []int
	env      map[string]string
	euid     int
	stdout   io.Writer
	stderr   io.Writer
	disk     host.Disk
}

func newTrial(t *testing.T) *trial {
	return &trial{t: t, root: t.TempDir(), signals: make(chan os.Signal), env: map[string]string{}}
}

// do runs "anywhere try ARGS" and returns its exit status.
func (r *trial) do(run func(context.Context, lifecycle.Deps) (lifecycle.Report, error), args ...string) int {
	dir := host.NewDir(r.root)
	h := host.Host{Reader: host.Reader{Files: dir, Self: host.Self{EUID: r.euid}}, Disk: dir}
	if r.disk != nil {
		h.Disk = r.disk
	}
	var out io.Writer = &r.out
	if r.stdout != nil {
		out = r.stdout
	}
	var errs io.Writer = &r.err
	if r.stderr != nil {
		errs = r.stderr
	}
	env := Env{
		Host:      func() (host.Host, error) { return h, nil },
		HTTP:      func() *http.Client { return &http.Client{Transport: answering{}} },
		Now:       time.Now,
		Ticker:    func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} },
		Streams:   Streams{In: strings.NewReader(""), Out: out, Err: errs},
		LookupEnv: func(name string) (string, bool) { value, ok := r.env[name]; return value, ok },
		Unsetenv:  func(name string) error { delete(r.env, name); return nil },
		ReadFile:  func(string) ([]byte, error) { return nil, fs.ErrNotExist },
		Signals:   r.signals,
		Exit:      func(status int) { r.exits = append(r.exits, status) },
		NewRunID:  func() string { return "run-1" },
		Build:     Build{Version: "1.2.3"},
	}
	status := start(context.Background(), newApp(env), append([]string{"try"}, args...), func(a *app, root *cobra.Command) {
		root.AddCommand(&cobra.Command{Use: "try", RunE: func(cmd *cobra.Command, _ []string) error {
			a.outcome.text = func(w io.Writer, _ report.Style, rep lifecycle.Report, _ error) {
				_, _ = io.WriteString(w, rep.Message+"\n")
			}
			return a.do(cmd, verb{begin: "try: looking", mutating: true, run: run})
		}})
	})
	if bytes.HasPrefix(r.out.Bytes(), []byte("{")) {
		tried := bytes.Replace(r.out.Bytes(), []byte(`"command":"try"`), []byte(`"command":"register"`), 1)
		if err := contract.CheckAgainst(contract.Envelope, tried); err != nil {
			r.t.Error(err)
		}
	}
	return status
}

type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
}

func (r *trial) log(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.root, defaultLogFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const canary = "Canary0code1that2must3stay4hidden"

// changing is a verb that changes something and then ends with rep and err.
func changing(rep lifecycle.Report, err error) func(context.Context, lifecycle.Deps) (lifecycle.Report, error) {
	return func(ctx context.Context, d lifecycle.Deps) (lifecycle.Report, error) {
		d.Redactor.Add(canary)
		d.Listen(engine.Event{Kind: engine.Started, Step: "a", Title: "Do A"})
		host.ChildHook(ctx)(host.Child{PID: 7, Argv: []string{"agent", "-register", canary}})
		d.Listen(engine.Event{Kind: engine.Noted, Step: "a", Text: "run " + canary})
		d.Listen(engine.Event{Kind: engine.Finished, Step: "a", Title: "Do A", Took: time.Second})
		resp, callErr := d.HTTP.Get("https://ssm.eu-central-1.amazonaws.com/?q=" + canary)
		if callErr == nil {
			resp.Body.Close()
		}
		return rep, err
	}
}

func TestTheLogTellsAllButSecrets(t *testing.T) {
	r := newTrial(t)
	status := r.do(changing(lifecycle.Report{Changed: true, Message: "done " + canary}, nil), "-v")
	if status != 0 {
		t.Fatalf("status %d: %s", status, r.err.String())
	}
	log := r.log(t)
	for _, want := range []string{`"msg":"begin"`, `"event":"started"`, `"msg":"child"`, `"pid":7`, `"msg":"call"`,
		`GET https://ssm.eu-central-1.amazonaws.com/`, `"run":"run-1"`, `"msg":"end"`, `"changed":true`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in the log:\n%s", want, log)
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(log), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("a line of the log is not JSON: %s", line)
		}
	}
	if strings.Contains(log+r.out.String()+r.err.String(), canary) {
		t.Errorf("the canary got out:\n%s%s%s", log, r.out.String(), r.err.String())
	}
	if !strings.Contains(r.err.String(), "call: GET https://ssm") {
		t.Errorf("-v did not tell of the call:\n%s", r.err.String())
	}
	info, err := os.Stat(filepath.Join(r.root, defaultLogFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v (%v)", info.Mode(), err)
	}
}

// unwritable is a disk on which no log can be opened.
type unwritable struct{ host.Disk }

func (unwritable) Mkdir(string, fs.FileMode, host.Owner) error { return nil }
func (unwritable) Append(path string) (host.AppendFile, error) { return nil, fs.ErrPermission }

func TestUnwritableLog(t *testing.T) {
	ran := false
	run := func(context.Context, lifecycle.Deps) (lifecycle.Report, error) {
		ran = true
		return lifecycle.Report{}, nil
	}

	r := newTrial(t)
	r.disk = unwritable{}
	if status := r.do(run); status != 0 || !ran || !strings.Contains(r.err.String(), "warning: this run is not logged") {
		t.Errorf("default log: status %d, ran %v: %s", status, ran, r.err.String())
	}

	ran = false
	r = newTrial(t)
	r.disk = unwritable{}
	if status := r.do(run, "--log-file", "/var/log/mine"); status != failure.ExitPreflight || ran {
		t.Errorf("explicit log: status %d, ran %v: %s", status, ran, r.err.String())
	}
	if !strings.Contains(r.err.String(), "--log-file: open the log file /var/log/mine") {
		t.Errorf("the error does not name the flag: %s", r.err.String())
	}
}

func TestSignals(t *testing.T) {
	// wait is a verb that ends when it is told to, and says why.
	wait := func(begin bool) func(context.Context, lifecycle.Deps) (lifecycle.Report, error) {
		return func(ctx context.Context, d lifecycle.Deps) (lifecycle.Report, error) {
			if begin {
				d.Listen(engine.Event{Kind: engine.Started, Step: "a", Title: "Do A"})
			}
			<-ctx.Done()
			time.Sleep(time.Minute) // of the bubble: undoing takes a while
			return lifecycle.Report{RolledBack: begin}, ctx.Err()
		}
	}
	for name, c := range map[string]struct {
		begun  bool
		send   []os.Signal
		status int
		exits  int
		code   string
	}{
		"interrupted":                 {false, []os.Signal{os.Interrupt}, 130, 0, "interrupted"},
		"interrupted in a change":     {true, []os.Signal{os.Interrupt}, 130, 0, "interrupted"},
		"interrupted twice":           {true, []os.Signal{os.Interrupt, os.Interrupt}, 130, 1, "interrupted"},
		"terminated":                  {true, []os.Signal{syscall.SIGTERM}, 143, 0, "terminated"},
		"hung up before a change":     {false, []os.Signal{syscall.SIGHUP}, 143, 0, "terminated"},
		"reader gone before a change": {false, []os.Signal{syscall.SIGPIPE}, 143, 0, "terminated"},
		"a socket closed before a change, then ended": {
			false, []os.Signal{syscall.SIGPIPE, os.Interrupt}, 130, 0, "interrupted",
		},
		"hung up in a change, then ended": {
			true, []os.Signal{syscall.SIGHUP, syscall.SIGPIPE, os.Interrupt}, 130, 0, "interrupted",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newTrial(t)
				r.signals = make(chan os.Signal)
				if strings.HasPrefix(name, "reader gone") {
					r.stderr = full{syscall.EPIPE}
				}
				done := make(chan int)
				go func() { done <- r.do(wait(c.begun), "-o", "json") }()
				synctest.Wait()
				for _, sig := range c.send {
					r.signals <- sig
				}
				status := <-done
				if status != c.status {
					t.Errorf("status %d, expected %d: %s", status, c.status, r.err.String())
				}
				if !strings.Contains(r.out.String(), `"code":"`+c.code+`"`) {
					t.Errorf("the document does not say %s: %s", c.code, r.out.String())
				}
				if len(r.exits) != c.exits {
					t.Errorf("exits %v, expected %d", r.exits, c.exits)
				}
				if c.exits > 0 && !strings.Contains(r.err.String(), "stays in the journal") {
					t.Errorf("it was not said what becomes of the journal: %s", r.err.String())
				}
			})
		})
	}
}

func TestTimeoutIsAnInterruption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newTrial(t)
		status := r.do(func(ctx context.Context, _ lifecycle.Deps) (lifecycle.Report, error) {
			<-ctx.Done()
			return lifecycle.Report{}, ctx.Err()
		}, "--timeout", "90s")
		if status != failure.ExitInterrupted || !strings.Contains(r.err.String(), "not finished within --timeout 1m30s") {
			t.Errorf("status %d: %s", status, r.err.String())
		}
	})
}

// full fails every write with err.
type full struct{ err error }

func (f full) Write([]byte) (int, error) { return 0, f.err }

func TestBrokenStdout(t *testing.T) {
	rep := lifecycle.Report{Changed: true, Message: "done"}
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"the reader has gone":  {syscall.EPIPE, failure.ExitOK},
		"the disk is full":     {syscall.ENOSPC, failure.ExitUnclassified},
		"the terminal is gone": {syscall.EIO, failure.ExitUnclassified},
	} {
		r := newTrial(t)
		r.stdout = full{c.err}
		if status := r.do(changing(rep, nil)); status != c.status {
			t.Errorf("%s: status %d, expected %d", name, status, c.status)
		}
		if !strings.Contains(r.log(t), `"msg":"end"`) {
			t.Errorf("%s: the run did not finish into its log", name)
		}
	}
}

func TestExitStatus(t *testing.T) {
	kept := []string{"managed node mi-1"}
	for _, c := range []struct {
		name string
		rep  lifecycle.Report
		err  error
		want int
	}{
		{"done", lifecycle.Report{}, nil, 0},
		{"changes pending", lifecycle.Report{Exit: failure.ExitPending}, nil, 11},
		{"reboot", lifecycle.Report{Exit: failure.ExitReboot, Changed: true}, nil, 14},
		{"cause alone", lifecycle.Report{}, failure.New(failure.ActivationExpired, "x"), 4},
		{"rolled back", lifecycle.Report{RolledBack: true}, failure.New(failure.ServiceFailed, "x"), 7},
		{"kept", lifecycle.Report{Kept: kept}, failure.New(failure.ConnectTimeout, "x"), 8},
		{"kept beats rolled back", lifecycle.Report{RolledBack: true, Kept: kept}, failure.New(failure.Network, "x"), 8},
		{"interrupted and rolled back", lifecycle.Report{RolledBack: true}, failure.New(failure.Interrupted, "x"), 130},
		{"terminated and kept", lifecycle.Report{Kept: kept}, failure.New(failure.Terminated, "x"), 143},
		{"out of time", lifecycle.Report{Kept: kept}, failure.New(failure.Timeout, "x"), 130},
		{"unknown error", lifecycle.Report{}, errors.New("x"), 1},
		{"wrapped", lifecycle.Report{}, failure.Wrap(failure.Internal, failure.New(failure.Locked, "x"), "y"), 13},
	} {
		if got := exitStatus(c.rep, c.err); got != c.want {
			t.Errorf("%s: %d, expected %d", c.name, got, c.want)
		}
	}
}

func TestEveryExitStatusIsInTheTable(t *testing.T) {
	listed := map[int]bool{}
	for _, row := range exitStatuses {
		listed[row.Status] = true
	}
	for code, entry := range failure.Catalogue {
		if !listed[entry.Exit] {
			t.Errorf("%s exits %d, which the help does not list", code, entry.Exit)
		}
	}
}

func TestAcceptedRisksAreEchoed(t *testing.T) {
	r := newTrial(t)
	r.env["ANYWHERE_ACCEPT_RISK"] = "replace-identity,purge-data"
	if status := r.do(changing(lifecycle.Report{Message: "done", Warnings: []string{"of the verb"}}, nil), "-o", "json"); status != 0 {
		t.Fatal(status, r.err.String())
	}
	var doc report.Document
	if err := json.Unmarshal(r.out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Warnings) != 3 || !strings.Contains(doc.Warnings[0], "replace-identity") ||
		!strings.Contains(doc.Warnings[0], "ANYWHERE_ACCEPT_RISK") || doc.Warnings[2] != "of the verb" {
		t.Errorf("warnings are %q", doc.Warnings)
	}
}

func TestQuietTellsErrorsOnly(t *testing.T) {
	r := newTrial(t)
	status := r.do(changing(lifecycle.Report{Warnings: []string{"w"}}, failure.New(failure.Locked, "held by pid 7")), "-q")
	if want := "error: held by pid 7\n  try: "; status != 13 || !strings.HasPrefix(r.err.String(), want) {
		t.Errorf("status %d, stderr %q", status, r.err.String())
	}
	if !strings.Contains(r.err.String(), "log: "+defaultLogFile+" (run run-1)") {
		t.Errorf("the log is not named: %s", r.err.String())
	}
}

func TestColor(t *testing.T) {
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		tty  bool
		want bool
	}{
		{"terminal", nil, nil, true, true},
		{"no terminal", nil, nil, false, false},
		{"NO_COLOR", map[string]string{"NO_COLOR": "1"}, nil, true, false},
		{"empty NO_COLOR", map[string]string{"NO_COLOR": ""}, nil, true, true},
		{"dumb", map[string]string{"TERM": "dumb"}, nil, true, false},
		{"other terminal", map[string]string{"TERM": "xterm"}, nil, true, true},
		{"forced", map[string]string{"CLICOLOR_FORCE": "1"}, nil, false, true},
		{"forced by nothing", map[string]string{"CLICOLOR_FORCE": "0"}, nil, false, false},
		{"NO_COLOR beats force", map[string]string{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, nil, true, false},
		{"flag beats NO_COLOR", map[string]string{"NO_COLOR": "1"}, []string{"--color", "always"}, false, true},
		{"flag never", map[string]string{"CLICOLOR_FORCE": "1"}, []string{"--color", "never"}, true, false},
	} {
		a := newApp(Env{
			Now: time.Now, NewRunID: func() string { return "" },
			LookupEnv: func(name string) (string, bool) { v, ok := c.env[name]; return v, ok },
			ReadFile:  func(string) ([]byte, error) { return nil, fs.ErrNotExist },
		})
		if status := start(context.Background(), a, append([]string{"platforms"}, c.args...), nil); status != 0 {
			t.Fatalf("%s: status %d", c.name, status)
		}
		if got := a.colored(c.tty); got != c.want {
			t.Errorf("%s: colour %v", c.name, got)
		}
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour,
		"1d12h": 36 * time.Hour, "1.5d": 36 * time.Hour, "0": 0,
	} {
		if got, err := parseDuration(in); err != nil || got != want {
			t.Errorf("%q is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "5", "soon", "-5m", "-1d", "d", "1d-1h", "1x", "99999999d"} {
		if got, err := parseDuration(in); err == nil {
			t.Errorf("%q was taken as %v", in, got)
		}
	}
}

// Where a room does not know which command was typed, the remedy does; what a room says itself stays.
func TestAdvised(t *testing.T) {
	cmd, _, err := New(Env{}).Find([]string{"operation", "show"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		err  *failure.Error
		want string
	}{
		{failure.New(failure.NotRoot, "cannot read the journal"), "run it as root: sudo anywhere operation show"},
		{failure.New(failure.Usage, "--region is wrong"), "see anywhere operation show --help"},
		{failure.New(failure.NotRoot, "--facts").WithRemedy("sudo anywhere status --facts"), "sudo anywhere status --facts"},
		{failure.New(failure.Internal, "odd"), ""},
	} {
		if got := failure.Of(advised(cmd, test.err)).Remedy; got != test.want {
			t.Errorf("%v: %q, want %q", test.err, got, test.want)
		}
	}
}

// A log file that cannot be one is the fault of who named it, not of the program.
func TestALogFileThatIsAFolder(t *testing.T) {
	r := newTrial(t)
	if err := os.Mkdir(filepath.Join(r.root, "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	status := r.do(changing(lifecycle.Report{}, nil), "--log-file", "/logs")
	if said := r.err.String(); status != failure.ExitPreflight || !strings.Contains(said, "--log-file: open the log file") || strings.Contains(said, "report it") {
		t.Errorf("status %d: %s", status, said)
	}
}
