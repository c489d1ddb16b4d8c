package rehearsal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// taskTime is how long a task takes to start and to stop.
const taskTime = 300 * time.Millisecond

// errFaultBit ends a story whose fault had its effect: that is what was asked for.
var errFaultBit = errors.New("the fault had its effect")

// witness, when it is set, gets every document that a command of a story prints. The tests hold them to docs/schema.
var witness func(document []byte)

// Result is the "result" of rehearse's document.
type Result struct {
	Scenario string    `json:"scenario"`
	Host     string    `json:"host"` // the folder, when it was kept
	Commands []Command `json:"commands"`
	Calls    []string  `json:"calls"` // operations that AWS was asked for, in order, without repetitions in a row
}

// Command is one command line that was run.
type Command struct {
	Fault      string          `json:"fault"` // what went wrong while it ran; empty when nothing was to
	Line       string          `json:"line"`
	Argv       []string        `json:"argv"` // what was run, with the flags that lead to the emulated AWS
	RC         int             `json:"rc"`
	Code       string          `json:"code"`  // error code; empty when it did not fail
	Cause      string          `json:"cause"` // the error's message; empty when it did not fail
	DurationMs int64           `json:"durationMs"`
	Changed    []string        `json:"changed"`  // files that are new, other or gone afterwards
	Diffs      []Diff          `json:"diffs"`    // what changed in files of the configuration
	Packages   []Change        `json:"packages"` // packages that changed, with their versions
	Services   []Change        `json:"services"` // services that changed, with their states
	Calls      []Call          `json:"calls"`    // what AWS was asked for meanwhile, by the command and by the agents
	Document   json.RawMessage `json:"document,omitempty"`
}

// Diff is what changed in one file.
type Diff struct {
	Path  string   `json:"path"`  // absolute, on the throw-away host
	Lines []string `json:"lines"` // each with + or - before it
}

// Change is something that is other than before.
type Change struct {
	Name   string `json:"name"`
	Before string `json:"before"` // empty when it was not there
	After  string `json:"after"`  // empty when it is not there any more
}

// Call is an operation of AWS.
type Call struct {
	Operation string `json:"operation"` // as SERVICE:ACTION
	Count     int    `json:"count"`     // how often
}

// Run plays a story. base is the caller's own environment: its streams and clock are used, its host is not.
func Run(ctx context.Context, base cli.Env, req cli.RehearseRequest) (lifecycle.Report, error) {
	scenario, known := cli.FindScenario(req.Scenario)
	result := Result{Scenario: scenario.Name, Commands: []Command{}, Calls: []string{}}
	if !known {
		return lifecycle.Report{}, failure.New(failure.Usage, "there is no scenario %q", req.Scenario)
	}
	report := lifecycle.Report{Result: result}
	if err := knowFaults(req.Faults); err != nil {
		return report, err
	}
	place, err := whereabouts(scenario, req)
	if err != nil {
		return report, err
	}
	root, remove, err := folder(req.Keep)
	if err != nil {
		return report, err
	}
	defer remove()
	result.Host = req.Keep
	if scenario.Name == cli.AllFaults {
		return allFaults(ctx, base, req, place, root, result)
	}
	s, err := newStageAt(root, base, req.JSON || req.Quiet, place)
	if err != nil {
		return report, err
	}
	defer s.close()
	if system, name, is := rpmSystemOf(host.NewDir("/")); is && scenario.Name != "snap" { // a snap's host is Ubuntu
		if err := s.borrows(system, name); err != nil {
			return report, err
		}
	}
	if err := s.furnished(req); err != nil {
		return report, err
	}
	story, given, warnings := suit(scenarios[scenario.Name], req)
	req.Given, report.Warnings = given, warnings
	if given != nil || len(warnings) > 0 {
		req.Args = nil
		for _, g := range given {
			req.Args = append(req.Args, g.Words...)
		}
	}
	s.tell.style, s.tell.tty, s.tell.last = req.Style, base.Streams.OutTTY, len(story)
	report.Message, err = s.story(ctx, story, req, &result)
	result.Calls = s.calls()
	report.Result = result
	return report, err
}

// story plays lines one after the other.
func (s *stage) story(ctx context.Context, lines []line, req cli.RehearseRequest, result *Result) (string, error) {
	for i, l := range lines {
		s.tell.at = i + 1
		command, err := s.play(ctx, l, req)
		if command.Line != "" {
			result.Commands = append(result.Commands, command)
		}
		if errors.Is(err, errFaultBit) {
			return fmt.Sprintf("with %s, %s ended with exit status %d", strings.Join(req.Faults, " and "), command.Line, command.RC), nil
		}
		if err != nil {
			return "", err
		}
	}
	if !s.json {
		s.tell.end(result.Commands)
	}
	return s.summary(*result), nil
}

// site is where a story takes place.
type site struct{ account, region, cluster, target string }

// whereabouts is the site that the caller asks for.
func whereabouts(scenario cli.Scenario, req cli.RehearseRequest) (site, error) {
	at := site{account, region, cluster, target}
	name := req.Cluster
	if strings.HasPrefix(name, "arn:") {
		arn, err := partition.ParseARN(name)
		if err != nil || arn.Service != "ecs" || !strings.HasPrefix(arn.Resource, "cluster/") {
			return at, failure.New(failure.Usage, "--cluster: %q is no cluster's ARN", name)
		}
		name, at.account, at.region = strings.TrimPrefix(arn.Resource, "cluster/"), arn.Account, arn.Region
	}
	if req.Region != "" {
		at.region = req.Region
	}
	switch {
	case name == "":
	case scenario.Verb == "move":
		at.target = name
	default:
		at.cluster = name
	}
	if at.cluster == at.target { // the caller's cluster has the name of the story's other one
		at.cluster, at.target = target, cluster
	}
	return at, nil
}

// furnished gives the throw-away host the caller's configuration file.
func (s *stage) furnished(req cli.RehearseRequest) error {
	s.color, s.quiet = req.Color, req.Quiet
	for _, g := range req.Given {
		if pinned := g.Value; pinned != "" && pinned != "latest" {
			switch g.Name {
			case "ecs-agent-version":
				s.pinned.ecs = pinned + "-1"
			case "ssm-agent-version":
				s.pinned.ssm = pinned
			}
		}
	}
	if scenario, _ := cli.FindScenario(req.Scenario); scenario.Verb == "register" {
		if err := s.publishPinned(); err != nil {
			return err
		}
	}
	if req.Config == "" {
		return nil
	}
	text, err := s.base.ReadFile(req.Config)
	if err != nil {
		return failure.Wrap(failure.Usage, err, "--config")
	}
	return s.machine.disk.WriteFile("/etc/anywhere/config.yaml", bytes.NewReader(text), 0o644, host.Owner{})
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
	json    bool // documents are collected, and nothing is told
	quiet   bool
	color   string
	site    site
	tell    teller
	pinned  struct{ ecs, ssm string } // versions that the caller's line names; empty is none
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
	return newStageAt(root, base, asJSON, site{account, region, cluster, target})
}

func newStageAt(root string, base cli.Env, asJSON bool, at site) (*stage, error) {
	m, err := newMachine(filepath.Join(root, "host"))
	if err != nil {
		return nil, err
	}
	s := &stage{base: base, json: asJSON, site: at, machine: m, keyring: filepath.Join(root, "rehearsal-key.asc")}
	s.tell = teller{to: base.Streams.Out}
	key, err := newSigner()
	if err != nil {
		return nil, err
	}
	public, err := key.public()
	if err != nil {
		return nil, err
	}
	s3 := filepath.Join(root, "s3")
	if err := os.MkdirAll(s3, 0o755); err != nil {
		return nil, err
	}
	s.key, s.buckets = key, host.NewDir(s3)
	if err := fillBuckets(s.buckets, at.region, key); err != nil {
		return nil, err
	}
	s.aws = emulator.New(emulator.Options{Account: at.account, Region: at.region, Artifacts: os.DirFS(s3), TaskTime: taskTime})
	expired, err := s.aws.ExpiredKey()
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.keyring, slices.Concat(public, expired), 0o600); err != nil {
		return nil, err
	}
	if err := s.aws.Start("127.0.0.1:0"); err != nil {
		return nil, err
	}
	if s.net, err = newInternet(s.aws, at.region); err != nil {
		return nil, err
	}
	m.network = s.net.network()
	s.aws.AddCluster(at.cluster)
	s.aws.AddCluster(at.target)
	s.operator = emulator.Key{ID: "AKIA" + rand.Text()[:16], Secret: secret.NewText(rand.Text())}
	s.aws.AddOperator(s.operator)
	return s, nil
}

func (s *stage) close() {
	s.machine.close()
	s.net.close()
	_ = s.aws.Close()
}

// Faults are all that there are.
func Faults() (all []cli.EmulatedFault) {
	for _, f := range emulator.Faults() {
		all = append(all, cli.EmulatedFault{Name: f.Name, Argument: f.Argument, Explanation: f.Explanation, Moment: f.Moment})
	}
	return all
}

// knowFaults refuses faults that there are not, before anything happens.
func knowFaults(faults []string) error {
	for _, text := range faults {
		if _, _, err := emulator.ParseFault(text); err != nil {
			return failure.New(failure.Usage, "--fault: %s", err).WithRemedy("anywhere emulator faults lists them")
		}
	}
	return nil
}

// args is what is run for a line: what is typed, with where the emulated AWS is.
func (s *stage) args(l line) []string { return s.complete(l, s.typed(l, nil)) }

// typed is what is typed for a line. A flag that the caller gives takes the place of the line's own.
func (s *stage) typed(l line, given []cli.GivenFlag) (words []string) {
	here := map[string]string{cluster: s.site.cluster, target: s.site.target, region: s.site.region}
	for i := 0; i < len(l.args); i++ {
		name, isFlag := strings.CutPrefix(l.args[i], "--")
		if isFlag && slices.ContainsFunc(given, func(g cli.GivenFlag) bool { return g.Name == name }) {
			for i+1 < len(l.args) && !strings.HasPrefix(l.args[i+1], "--") {
				i++
			}
			continue
		}
		if word, stands := here[l.args[i]]; stands {
			words = append(words, word)
			continue
		}
		words = append(words, l.args[i])
	}
	return words
}

// complete is what is run for what is typed.
func (s *stage) complete(l line, typed []string) []string {
	args := append(slices.Clone(typed), "--endpoint-url", s.aws.URL())
	switch l.args[0] {
	case "register":
		args = append(args, "--agent-endpoint", s.aws.URL(), "--artifacts", s.aws.URL(), "--keyring", s.keyring)
	case "upgrade", "mirror":
		args = append(args, "--artifacts", s.aws.URL(), "--keyring", s.keyring)
	}
	if s.color != "" {
		args = append(args, "--color", s.color)
	}
	if s.quiet {
		args = append(args, "-q")
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
			return aws.Config{Region: s.site.region, HTTPClient: s.way}, nil
		}
		key := credentials.NewStaticCredentialsProvider(s.operator.ID, s.operator.Secret.Reveal(), s.operator.Token.Reveal())
		return aws.Config{Region: s.site.region, HTTPClient: s.way, Credentials: key}, nil
	}
	variables := map[string]string{}
	env.LookupEnv = func(name string) (string, bool) { // the caller's AWS settings are another world's
		if value, set := variables[name]; set {
			return value, true
		}
		if slices.Contains(looks, name) && s.base.LookupEnv != nil {
			return s.base.LookupEnv(name)
		}
		return "", false
	}
	env.Unsetenv = func(string) error { return nil }
	env.Setenv = func(name, value string) error { // all that is reached is on loopback, where no proxy is used
		variables[name] = value
		return nil
	}
	env.ReadFile = s.machine.disk.ReadFile
	env.Rehearse, env.Emulate, env.Signals = nil, nil, nil // they reach the rehearsal, whose context ends
	env.Streams.In, env.Streams.InTTY = strings.NewReader(""), s.base.Streams.InTTY
	if l.types != "" {
		env.Streams.In = strings.NewReader(l.types)
	}
	if l.token {
		env.Streams.In, env.Streams.InTTY = strings.NewReader(s.token+"\n"), false
	}
	return env
}

// readFile reads what is on the throw-away host, and of the caller's own machine the file of --ca-file: what it would do to
// a host can be seen, and nothing is reached by it.
func (s *stage) readFile(given []cli.GivenFlag) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if s.base.ReadFile != nil && slices.ContainsFunc(given, func(g cli.GivenFlag) bool { return g.Name == "ca-file" && g.Value == name }) {
			return s.base.ReadFile(name)
		}
		return s.machine.disk.ReadFile(name)
	}
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
	typed, given := s.typed(l, nil), []string(nil)
	if l.extra {
		typed, given = s.typed(l, req.Given), req.Args
	}
	args := append(s.complete(l, typed), given...) // what the caller gives counts
	typed = append(typed, given...)
	command := Command{Line: "anywhere " + shellLine(shown(typed)), Changed: []string{}}
	env := s.env(l)
	if l.extra {
		env.ReadFile = s.readFile(req.Given)
	}
	var ended error
	env.Ended = func(_ int, _ lifecycle.Report, err error) { ended = err }
	var printed bytes.Buffer
	if s.json || l.makes {
		env.Streams.Out = &printed
	}
	switch {
	case !s.json:
		s.tell.heading(l.title, command.Line+map[bool]string{true: " < token"}[l.token])
	case !s.quiet:
		args = append(args, "-o", "json")
	}
	command.Argv = append([]string{"anywhere"}, shown(args)...)
	before, err := s.behold(ctx)
	if err != nil {
		return Command{}, err
	}
	begun := time.Now()
	command.RC = cli.Main(ctx, env, args)
	command.DurationMs = time.Since(begun).Milliseconds()
	if failed := failure.Of(ended); failed != nil {
		command.Code, command.Cause = string(failed.Code), failed.Message
	}
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
	after, err := s.behold(ctx)
	if err != nil {
		return command, err
	}
	s.compare(&command, before, after)
	if !s.json {
		s.tell.after(command)
	}
	if ctx.Err() != nil {
		return command, context.Cause(ctx)
	}
	return command, judge(l, command, req, failure.Of(ended))
}

// judge says whether the story can go on after a command.
func judge(l line, c Command, req cli.RehearseRequest, failed *failure.Error) error {
	switch pending := l.extra && (c.RC == failure.ExitPending || c.RC == failure.ExitReboot); {
	case c.RC != 0 && !pending && l.faults && len(req.Faults) > 0:
		return errFaultBit
	case c.RC != 0 && !pending && failed == nil:
		return failure.New(failure.Internal, "%s ended with exit status %d", c.Line, c.RC).
			WithRemedy("its own message says why; --keep DIR leaves the host to be looked at")
	case c.RC != 0 && !pending:
		remedy := failed.Advice()
		if remedy == "" {
			remedy = "--keep DIR leaves the host to be looked at"
		}
		return failure.New(failed.Code, "%s ended with exit status %d: %s", c.Line, c.RC, failed.Message).WithRemedy("%s", remedy)
	case l.unchanged && len(c.Changed) > 0:
		return failure.New(failure.Internal, "%s should have changed nothing and changed %s", c.Line, strings.Join(c.Changed, ", "))
	}
	return nil
}

// shown are the words of a command line without secrets in settings and URLs.
func shown(words []string) []string {
	clean := slices.Clone(words)
	for i, word := range clean {
		flag, setting := "", word
		if name, value, assigned := strings.Cut(word, "="); assigned && strings.HasPrefix(name, "--") {
			flag, setting = name+"=", value
		}
		clean[i] = new(secret.Redactor).Clean(flag + withoutValue(setting))
	}
	return clean
}

// shellLine is a command line as it is typed into a shell.
func shellLine(words []string) string {
	plain := regexp.MustCompile(`^[\w@%+=:,./-]+$`)
	quoted := slices.Clone(words)
	for i, word := range quoted {
		if !plain.MatchString(word) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// takeToken keeps the join token that is in a command's output, and returns the output with a mask in its place.
func (s *stage) takeToken(output []byte) []byte {
	form := regexp.MustCompile(regexp.QuoteMeta(control.TokenPrefix) + `[\w-]+`)
	s.token = string(form.Find(output))
	return form.ReplaceAll(output, []byte(control.TokenPrefix+secret.Mask))
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
		known := "ECS and Systems Manager have nothing of it"
		if len(s.aws.Instances()) > 0 {
			known += " any more"
		}
		parts = append(parts, known)
	}
	return strings.Join(parts, "; ")
}
