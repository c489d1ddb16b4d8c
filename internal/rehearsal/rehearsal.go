package rehearsal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Where the rehearsal takes place.
const (
	account = "123456789012"
	region  = "eu-west-1"
	cluster = "rehearsal"
	target  = "rehearsal-next" // is there too, for a host that moves
)

// registering is how a host becomes an instance.
var registering = []line{
	{args: []string{"activation", "create", "--cluster", cluster, "--token"}, makes: true},
	{args: []string{"preflight", "--region", region}},
	{args: []string{"register", "--token", "-"}, token: true, extra: true, faults: true},
	{args: []string{"register"}, extra: true, unchanged: true},
	{args: []string{"status"}, unchanged: true},
}

// scenarios are the stories, by name; each is a list of command lines.
var scenarios = map[string][]line{
	DefaultScenario: append(slices.Clip(registering), []line{
		{args: []string{"upgrade", "--watch-time", "2s"}, before: (*stage).newer},
		{args: []string{"move", "--cluster", target, "--yes"}, operator: true},
		{args: []string{"deregister", "--yes"}, operator: true},
	}...),
	"register": registering,
	"operator": {
		{args: []string{"preflight", "--region", region, "--cluster", cluster}, operator: true},
		{args: []string{"register", "--region", region, "--cluster", cluster, "--name", "rehearsal"}, operator: true, extra: true, faults: true},
		{args: []string{"register"}, operator: true, extra: true, unchanged: true},
	},
	"drain": {
		{args: []string{"register", "--region", region, "--cluster", cluster}, operator: true},
		{args: []string{"drain", "--dry-run"}, operator: true, before: (*stage).busy, unchanged: true},
		{args: []string{"drain"}, operator: true, extra: true, faults: true, unchanged: true},
		{args: []string{"status"}, unchanged: true},
		{args: []string{"activate"}, operator: true, unchanged: true},
	},
	"upgrade": {
		{args: []string{"register", "--region", region, "--cluster", cluster}, operator: true},
		{args: []string{"upgrade", "--check"}, before: (*stage).newer, unchanged: true},
		{args: []string{"upgrade", "--watch-time", "2s"}, extra: true, faults: true},
		{args: []string{"upgrade"}, unchanged: true},
		{args: []string{"rollback", "--watch-time", "2s"}},
		{args: []string{"status"}, unchanged: true},
	},
	"deregister": {
		{args: []string{"register", "--region", region, "--cluster", cluster}, operator: true},
		{args: []string{"deregister", "--dry-run"}, operator: true, unchanged: true},
		{args: []string{"deregister", "--yes"}, operator: true, extra: true, faults: true},
		{args: []string{"deregister", "--yes"}, operator: true, unchanged: true},
	},
	"move": {
		{args: []string{"register", "--region", region, "--cluster", cluster}, operator: true},
		{args: []string{"move", "--cluster", target, "--dry-run"}, operator: true, unchanged: true},
		{args: []string{"move", "--cluster", target, "--yes"}, operator: true, extra: true, faults: true},
		{args: []string{"move", "--cluster", target, "--yes"}, operator: true, extra: true, unchanged: true},
		{args: []string{"status"}, unchanged: true},
	},
}

// busy gives the host's instance a task of a service that can move to another machine, and one of none that ends soon.
func (s *stage) busy() {
	s.aws.AddInstance(cluster)
	s.aws.AddService(cluster, emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
	for _, i := range s.aws.Instances() {
		if i.Connected && i.AgentVersion != "" {
			s.aws.AddTask(i.ARN, emulator.Task{Service: "web"})
			job := s.aws.AddTask(i.ARN, emulator.Task{Family: "nightly"})
			time.AfterFunc(2*taskTime, func() { s.aws.FinishTask(job) })
		}
	}
}

// newer puts newer versions of both agents into the buckets.
func (s *stage) newer() {
	if err := errors.Join(addSSM(s.buckets, region, s.key, newerSSM), addECS(s.buckets, region, s.key, newerECS, "")); err != nil {
		panic(err) // the folder was written to a moment ago
	}
}

// taskTime is how long a task takes to start and to stop.
const taskTime = 300 * time.Millisecond

// DefaultScenario is played when none is named.
const DefaultScenario = "life"

// errFaultBit ends a story whose fault had its effect: that is what was asked for.
var errFaultBit = errors.New("the fault had its effect")

// witness, when it is set, gets every document that a command of a story prints. The tests hold them to docs/schema.
var witness func(document []byte)

// line is one command line of a story.
type line struct {
	args      []string
	makes     bool   // it prints the join token
	token     bool   // that token comes on stdin
	types     string // what is typed on the terminal
	operator  bool   // there are an operator's credentials where it runs; a host has none by itself
	extra     bool   // the caller's own flags are added
	faults    bool   // the caller's faults are armed before it
	unchanged bool   // it must change nothing

	before func(*stage) // what happens in AWS before it; optional
}

// Result is the "result" of rehearse's document.
type Result struct {
	Scenario string    `json:"scenario"`
	Host     string    `json:"host"` // the folder, when it was kept
	Commands []Command `json:"commands"`
	Calls    []string  `json:"calls"` // operations that AWS was asked for, in order, without repetitions in a row
}

// Command is one command line that was run.
type Command struct {
	Line       string          `json:"line"`
	RC         int             `json:"rc"`
	DurationMs int64           `json:"durationMs"`
	Changed    []string        `json:"changed"` // files that are new, other or gone afterwards
	Document   json.RawMessage `json:"document,omitempty"`
}

// Run plays a story. base is the caller's own environment: its streams and clock are used, its host is not.
func Run(ctx context.Context, base cli.Env, req cli.RehearseRequest) (lifecycle.Report, error) {
	result := Result{Scenario: req.Scenario, Commands: []Command{}, Calls: []string{}}
	if result.Scenario == "" {
		result.Scenario = DefaultScenario
	}
	report := lifecycle.Report{Result: result}
	story, known := scenarios[result.Scenario]
	if !known {
		return report, failure.New(failure.Usage, "there is no scenario %q; there is: %s", req.Scenario, strings.Join(slices.Sorted(maps.Keys(scenarios)), ", "))
	}
	root, remove, err := folder(req.Keep)
	if err != nil {
		return report, err
	}
	defer remove()
	result.Host = req.Keep
	s, err := newStage(root, base, req.JSON)
	if err != nil {
		return report, err
	}
	defer s.close()
	if err := s.knows(req.Faults); err != nil {
		return report, err
	}
	for _, l := range story {
		command, err := s.play(ctx, l, req)
		if command.Line != "" {
			result.Commands = append(result.Commands, command)
		}
		report.Result = result
		if errors.Is(err, errFaultBit) {
			result.Calls = s.calls()
			report.Result = result
			report.Message = fmt.Sprintf("with %s, %s ended with exit status %d", strings.Join(req.Faults, " and "), command.Line, command.RC)
			return report, nil
		}
		if err != nil {
			return report, err
		}
	}
	result.Calls = s.calls()
	report.Result = result
	report.Message = s.summary(result)
	return report, nil
}

// folder is where the throw-away host is: a new one that is removed at the end, or an empty one of the caller's.
func folder(keep string) (root string, remove func(), err error) {
	if keep == "" {
		root, err := os.MkdirTemp("", "anywhere-rehearsal-")
		if err != nil {
			return "", nil, failure.Wrap(failure.ReadOnly, err, "could not make a folder for the throw-away host")
		}
		return root, func() { _ = os.RemoveAll(root) }, nil
	}
	if entries, err := os.ReadDir(keep); err == nil && len(entries) > 0 {
		return "", nil, failure.New(failure.Usage, "--keep: %s is not empty", keep)
	}
	if err := os.MkdirAll(keep, 0o755); err != nil {
		return "", nil, failure.Wrap(failure.Usage, err, "--keep")
	}
	root, err = filepath.Abs(keep)
	return root, func() {}, err
}

// stage is everything that a story needs: the host, AWS, and a key that signs packages.
type stage struct {
	base    cli.Env
	json    bool
	machine *machine
	aws     *emulator.Emulator
	net     *internet
	keyring string
	key     *signer
	buckets *host.Dir

	operator emulator.Key
	token    string                    // the join token that the story made
	around   func(host.Host) host.Host // what the tests put around the host; nil is nothing
	way      aws.HTTPClient            // and around the way to AWS
}

func newStage(root string, base cli.Env, asJSON bool) (*stage, error) {
	m, err := newMachine(filepath.Join(root, "host"))
	if err != nil {
		return nil, err
	}
	s := &stage{base: base, json: asJSON, machine: m, keyring: filepath.Join(root, "rehearsal-key.asc")}
	key, err := newSigner()
	if err != nil {
		return nil, err
	}
	public, err := key.public()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.keyring, public, 0o600); err != nil {
		return nil, err
	}
	s3 := filepath.Join(root, "s3")
	if err := os.MkdirAll(s3, 0o755); err != nil {
		return nil, err
	}
	s.key, s.buckets = key, host.NewDir(s3)
	if err := fillBuckets(s.buckets, region, key); err != nil {
		return nil, err
	}
	s.aws = emulator.New(emulator.Options{Account: account, Region: region, Artifacts: os.DirFS(s3), TaskTime: taskTime})
	if err := s.aws.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	if s.net, err = newInternet(s.aws); err != nil {
		return nil, err
	}
	m.network = s.net.network()
	s.aws.AddCluster(cluster)
	s.aws.AddCluster(target)
	s.operator = emulator.Key{ID: "AKIA" + rand.Text()[:16], Secret: secret.NewText(rand.Text())}
	s.aws.AddOperator(s.operator)
	return s, nil
}

func (s *stage) close() {
	s.machine.close()
	s.net.close()
	_ = s.aws.Close()
}

// Faults are the names of all faults, sorted.
func Faults() (names []string) {
	for _, f := range emulator.Faults() {
		names = append(names, f.Name)
	}
	return names
}

// knows refuses faults that there are not, before anything is played.
func (s *stage) knows(faults []string) error {
	known := Faults()
	for _, name := range faults {
		if !slices.Contains(known, name) {
			return failure.New(failure.Usage, "--fault: there is no fault %q; there is: %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// args is what is typed, with where the emulated AWS is.
func (s *stage) args(l line) []string {
	args := slices.Clone(l.args)
	args = append(args, "--endpoint-url", s.aws.URL())
	switch l.args[0] {
	case "register":
		args = append(args, "--agent-endpoint", s.aws.URL(), "--artifacts", s.aws.URL(), "--keyring", s.keyring)
	case "upgrade", "mirror":
		args = append(args, "--artifacts", s.aws.URL(), "--keyring", s.keyring)
	}
	return args
}

// looks are the variables that say how output looks.
var looks = []string{"LANG", "LC_ALL", "LC_CTYPE", "TERM", "NO_COLOR", "CLICOLOR_FORCE"}

// env is the world of one command line: the caller's streams and clock, the throw-away host.
func (s *stage) env(l line) cli.Env {
	env := s.base
	env.Host = func() (host.Host, error) {
		if s.around != nil {
			return s.around(s.machine.host()), nil
		}
		return s.machine.host(), nil
	}
	env.HTTP = func() *http.Client { return &http.Client{} }
	env.AWS = func(context.Context, control.Access) (aws.Config, error) {
		if l.args[0] != "activation" && !l.operator {
			return aws.Config{Region: region, HTTPClient: s.way}, nil
		}
		key := credentials.NewStaticCredentialsProvider(s.operator.ID, s.operator.Secret.Reveal(), s.operator.Token.Reveal())
		return aws.Config{Region: region, HTTPClient: s.way, Credentials: key}, nil
	}
	env.LookupEnv = func(name string) (string, bool) { // the caller's AWS settings are another world's
		if slices.Contains(looks, name) && s.base.LookupEnv != nil {
			return s.base.LookupEnv(name)
		}
		return "", false
	}
	env.Unsetenv = func(string) error { return nil }
	env.ReadFile = s.machine.disk.ReadFile
	env.Rehearse, env.Signals = nil, nil // they reach the rehearsal, whose context ends
	env.Streams.In, env.Streams.InTTY = strings.NewReader(""), s.base.Streams.InTTY
	if l.types != "" {
		env.Streams.In = strings.NewReader(l.types)
	}
	if l.token {
		env.Streams.In, env.Streams.InTTY = strings.NewReader(s.token+"\n"), false
	}
	return env
}

// play runs one command line on the throw-away host and looks at what it changed.
func (s *stage) play(ctx context.Context, l line, req cli.RehearseRequest) (Command, error) {
	if l.before != nil {
		l.before(s)
	}
	if l.faults {
		for _, name := range req.Faults {
			if err := s.aws.Fault(name); err != nil {
				return Command{}, failure.Wrap(failure.Usage, err, "--fault")
			}
		}
	}
	args := s.args(l)
	if l.extra {
		args = append(args, req.Args...)
	}
	shown := "anywhere " + strings.Join(l.args, " ")
	if l.extra && len(req.Args) > 0 {
		shown += " " + strings.Join(req.Args, " ")
	}
	env := s.env(l)
	var printed bytes.Buffer
	if s.json || l.makes {
		env.Streams.Out = &printed
	}
	if s.json {
		args = append(args, "-o", "json")
	} else {
		fmt.Fprintf(s.base.Streams.Out, "\n$ %s%s\n", shown, map[bool]string{true: " < token"}[l.token])
	}
	before, err := s.tree()
	if err != nil {
		return Command{}, err
	}
	begun := time.Now()
	rc := cli.Main(ctx, env, args)
	command := Command{Line: shown, RC: rc, DurationMs: time.Since(begun).Milliseconds()}
	output := printed.Bytes()
	if l.makes {
		output = s.takeToken(output)
	}
	switch {
	case !s.json:
		_, _ = s.base.Streams.Out.Write(output)
	case json.Valid(output):
		command.Document = bytes.TrimSpace(output)
		if witness != nil {
			witness(command.Document)
		}
	}
	after, err := s.tree()
	if err != nil {
		return command, err
	}
	command.Changed = differences(before, after)
	if !s.json {
		s.tellChanges(command)
	}
	switch {
	case ctx.Err() != nil:
		return command, context.Cause(ctx)
	case rc != 0 && l.faults && len(req.Faults) > 0:
		return command, errFaultBit
	case rc != 0:
		return command, failure.New(failure.Internal, "%s ended with exit status %d", shown, rc).
			WithRemedy("its own message says why; --keep DIR leaves the host to be looked at")
	case l.unchanged && len(command.Changed) > 0:
		return command, failure.New(failure.Internal, "%s should have changed nothing and changed %s", shown, strings.Join(command.Changed, ", "))
	}
	return command, nil
}

// takeToken keeps the join token that is in a command's output, and returns the output with a mask in its place.
func (s *stage) takeToken(output []byte) []byte {
	form := regexp.MustCompile(regexp.QuoteMeta(control.TokenPrefix) + `[\w-]+`)
	s.token = string(form.Find(output))
	return form.ReplaceAll(output, []byte(control.TokenPrefix+secret.Mask))
}

// tree is a digest of every file of the throw-away host but logs and locks, which grow by themselves.
func (s *stage) tree() (map[string]string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(s.machine.root, func(at string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an agent's temporary file
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(at, s.machine.root)
		if entry.IsDir() {
			if name == "/var/log" || name == "/run" {
				return filepath.SkipDir
			}
			return nil
		}
		text, err := os.ReadFile(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		files[name] = fmt.Sprintf("%x", sha256.Sum256(text))
		return nil
	})
	return files, err
}

// differences names what is new (+), other (~) or gone (-), leaving out anywhere's own journal and cache.
func differences(before, after map[string]string) []string {
	var changed []string
	for name, digest := range after {
		switch old, was := before[name]; {
		case strings.HasPrefix(name, lifecycle.DataDir+"/journal"), strings.HasPrefix(name, lifecycle.PackageDir):
		case !was:
			changed = append(changed, "+"+name)
		case old != digest:
			changed = append(changed, "~"+name)
		}
	}
	for name := range before {
		if _, is := after[name]; !is {
			changed = append(changed, "-"+name)
		}
	}
	slices.SortFunc(changed, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	return append([]string{}, changed...)
}

func (s *stage) tellChanges(c Command) {
	if len(c.Changed) == 0 {
		fmt.Fprintf(s.base.Streams.Out, "  (no file changed)\n")
		return
	}
	fmt.Fprintf(s.base.Streams.Out, "  files:\n")
	for _, name := range c.Changed {
		fmt.Fprintf(s.base.Streams.Out, "    %s %s\n", name[:1], name[1:])
	}
}

// calls are what AWS was asked for.
func (s *stage) calls() []string {
	calls := []string{}
	for _, r := range s.aws.Requests() {
		if n := len(calls); n == 0 || calls[n-1] != r.Operation {
			calls = append(calls, r.Operation)
		}
	}
	return calls
}

// summary is AWS's side of the story.
func (s *stage) summary(r Result) string {
	where := "a throw-away host playing Debian 12"
	if s.machine.borrows != "" {
		where = "a throw-away host playing this machine (" + s.machine.borrows + ")"
	}
	parts := []string{fmt.Sprintf("%d commands on %s, against an emulated AWS", len(r.Commands), where)}
	for _, i := range s.aws.Instances() {
		if i.Status == "INACTIVE" {
			continue // deregistered
		}
		connected := "not connected"
		if i.Connected {
			connected = "connected"
		}
		parts = append(parts, fmt.Sprintf("ECS has %s %s and %s in cluster %s", i.NodeID, i.Status, connected, i.Cluster))
	}
	if len(parts) == 1 && len(s.aws.Nodes()) == 0 {
		parts = append(parts, "ECS and Systems Manager have nothing of it any more")
	}
	return strings.Join(parts, "; ")
}
