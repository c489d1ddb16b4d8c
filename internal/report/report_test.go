package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text for people with testdata/NAME.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// clock is a time that only moves when told to.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time       { return c.now }
func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }
func identity(s string) string        { return s }
func (c *clock) plain(to *bytes.Buffer) Screen {
	return Screen{To: to, Style: NewStyle(false, false), Now: c.Now, Clean: identity}
}

// story plays a registration that fails after a download and is undone.
func story(p *Progress, c *clock) {
	event := func(kind engine.EventKind, step, title string) engine.Event {
		return engine.Event{Time: c.now, Kind: kind, Step: step, Title: title}
	}
	p.Begin("register: looking at this host")
	p.Event(engine.Event{Time: c.now, Kind: engine.Unchanged, Step: "ssm.config", Title: "Configure the SSM agent"})
	p.Event(event(engine.Planned, "ecs.package", "Install the ECS agent"))
	p.Event(event(engine.Fetching, "ecs.package", "Install the ECS agent"))
	for done := int64(1); done <= 10; done++ {
		c.pass(time.Second)
		e := event(engine.Progressed, "ecs.package", "Install the ECS agent")
		e.Done, e.Total = done*4_000_000, 40_000_000
		p.Event(e)
		p.Tick()
	}
	p.Event(event(engine.Fetched, "ecs.package", "Install the ECS agent"))
	p.Event(event(engine.Started, "ecs.package", "Install the ECS agent"))
	e := event(engine.Noted, "ecs.package", "Install the ECS agent")
	e.Text = "dpkg --install amazon-ecs-init.deb"
	p.Event(e)
	for range 12 {
		c.pass(time.Second)
		p.Tick()
	}
	e = event(engine.Finished, "ecs.package", "Install the ECS agent")
	e.Took, e.Text = 12*time.Second, "1.105.1-1"
	p.Event(e)
	p.Event(event(engine.Started, "ecs.start", "Start the ECS agent"))
	c.pass(2 * time.Second)
	e = event(engine.Failed, "ecs.start", "Start the ECS agent")
	e.Took, e.Err = 2*time.Second, errors.New("ecs.service did not start\nexit status 5")
	p.Event(e)
	p.Event(event(engine.Undoing, "ecs.package", "Install the ECS agent"))
	c.pass(75 * time.Second)
	e = event(engine.Undone, "ecs.package", "Install the ECS agent")
	e.Took = 75 * time.Second
	p.Event(e)
	e = event(engine.Warned, "", "")
	e.Text = "the clock is 20 s off"
	p.Event(e)
	p.Close()
}

func TestPlainProgress(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	story(NewProgress(c.plain(&out)), c)
	golden(t, "plain.txt", out.String())
}

func TestPlainProgressVerboseTellsPlansAndChildren(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	screen := c.plain(&out)
	screen.Verbose = true
	story(NewProgress(screen), c)
	for _, want := range []string{"planned   Install the ECS agent", "dpkg --install amazon-ecs-init.deb"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

func TestQuietProgressIsSilent(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	screen := c.plain(&out)
	screen.Quiet = true
	story(NewProgress(screen), c)
	if out.Len() > 0 {
		t.Errorf("quiet, and yet: %q", out.String())
	}
}

// line records what a terminal would have shown.
type line struct {
	shown  []string
	closed bool
	out    *bytes.Buffer
}

func (l *line) Show(text string) {
	if len(l.shown) == 0 || l.shown[len(l.shown)-1] != text {
		l.shown = append(l.shown, text)
		l.out.WriteString("~ " + text + "\n")
	}
}
func (l *line) Above(text string) { l.out.WriteString(text + "\n") }
func (l *line) Close()            { l.closed = true }

func TestLiveProgress(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	live := &line{out: &out}
	story(NewProgress(Screen{To: &out, Live: live, Style: NewStyle(true, true), Now: c.Now, Clean: identity}), c)
	if !live.closed {
		t.Error("the changing line was left on the terminal")
	}
	golden(t, "live.txt", out.String())
}

func TestProgressShowsNoSecret(t *testing.T) {
	const canary = "canary-7f3b2a"
	var redactor secret.Redactor
	redactor.Add(canary)
	for _, live := range []bool{false, true} {
		var out bytes.Buffer
		c := newClock()
		screen := c.plain(&out)
		screen.Clean, screen.Verbose = redactor.Clean, true
		if live {
			screen.Live = &line{out: &out}
		}
		p := NewProgress(screen)
		p.Begin("begin " + canary)
		p.Event(engine.Event{Kind: engine.Started, Step: "a", Title: "A " + canary})
		p.Event(engine.Event{Kind: engine.Noted, Step: "a", Text: "run -code " + canary})
		p.Tick()
		p.Event(engine.Event{Kind: engine.Failed, Step: "a", Title: "A", Err: errors.New(canary)})
		p.Say(canary)
		p.Close()
		if strings.Contains(out.String(), canary) {
			t.Errorf("live %v: the canary got out:\n%s", live, out.String())
		}
	}
}

func TestFailureText(t *testing.T) {
	var out bytes.Buffer
	Failure{
		Err: failure.New(failure.ServiceFailed, "start ecs.service: it died").
			WithEvidence("journal: level=error\nexit status 5"),
		RolledBack: true, LogFile: "/var/log/anywhere/anywhere.log", RunID: "run-1",
	}.Write(&out, NewStyle(false, false))
	Failure{
		Err:  failure.New(failure.ConnectTimeout, "the agent did not connect").WithRemedy("run the same command again"),
		Kept: []string{"managed node mi-0123"},
	}.Write(&out, NewStyle(false, false))
	golden(t, "failure.txt", out.String())
}

func TestRegistrationText(t *testing.T) {
	result := lifecycle.RegisterResult{
		Cluster: "shop", Region: "eu-central-1", Account: "111122223333", ManagedInstanceID: "mi-0123456789abcdef0",
		ContainerInstanceARN: "arn:aws:ecs:eu-central-1:111122223333:container-instance/shop/0123",
		ECSAgentVersion:      "1.105.1-1", SSMAgentVersion: "3.3.1611.0-1", DockerVersion: "29.0.1",
		Verified: lifecycle.VerifiedLocal,
	}
	steps := []engine.StepReport{
		{ID: "ssm.package", Title: "Install the SSM agent", Status: "unchanged", Detail: "3.3.1611.0-1"},
		{ID: "ecs.start", Title: "Start the ECS agent", Status: "planned"},
	}
	for name, write := range map[string]func(*bytes.Buffer){
		"registered.txt": func(out *bytes.Buffer) {
			Registration(out, NewStyle(false, false), lifecycle.Report{Message: "registered"}, result, false)
		},
		"registered-color.txt": func(out *bytes.Buffer) {
			Registration(out, NewStyle(true, true), lifecycle.Report{Message: "registered"}, result, false)
		},
		"dryrun.txt": func(out *bytes.Buffer) {
			rep := lifecycle.Report{Message: "1 of 2 steps would be done; nothing was changed", Steps: steps}
			Registration(out, NewStyle(false, false), rep, result, true)
		},
		"reboot.txt": func(out *bytes.Buffer) {
			half := lifecycle.RegisterResult{Cluster: "shop", RebootNeeded: true, Owed: []string{"aws ssm delete-activation"}}
			Registration(out, NewStyle(false, false), lifecycle.Report{Message: "done so far"}, half, false)
		},
	} {
		var out bytes.Buffer
		write(&out)
		golden(t, name, out.String())
	}
}

func TestChecksText(t *testing.T) {
	checks := []preflight.Result{
		{ID: "os.release", Status: preflight.Pass, Detail: "Debian 12"},
		{ID: "memory", Status: preflight.Fail, Ignored: true, Detail: "128 MB", Remedy: "add memory"},
		{ID: "docker.version", Status: preflight.Fail, Detail: "API 1.40\nagent wants 1.44",
			Remedy: "upgrade Docker", Docs: "https://example.com"},
		{ID: "existing.ssm", Status: preflight.Skip, Detail: "needs root"},
		{ID: "clock.skew", Status: preflight.Warn, Detail: "20 s", Remedy: "timedatectl set-ntp true"},
	}
	var ascii, color bytes.Buffer
	Checks(&ascii, NewStyle(false, false), checks)
	Checks(&color, NewStyle(true, true), checks)
	golden(t, "checks.txt", ascii.String())
	golden(t, "checks-color.txt", color.String())
}

func TestDocumentHasNoNullArraysAndNoSecrets(t *testing.T) {
	const canary = "canary-7f3b2a"
	var redactor secret.Redactor
	redactor.Add(canary)
	failed := failure.New(failure.ActivationInvalid, "register with %s", canary).
		WithEvidence("amazon-ssm-agent -register -code %s-and-more", canary)
	doc := Document{
		Schema: Schema, Command: "register", RC: 8, Failed: true, Warnings: []string{canary},
		Steps: Steps([]engine.StepReport{
			{ID: "a", Title: "A", Status: "done", Detail: "saw " + canary, Duration: 1200 * time.Millisecond},
		}),
		Result: lifecycle.RegisterResult{Cluster: "shop & more"},
		Error:  NewError(failed, false, nil),
	}
	var out bytes.Buffer
	if err := doc.Write(&out, redactor.Clean, false); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Contains(text, canary) || strings.Contains(text, "null") || strings.Count(text, "\n") != 1 {
		t.Errorf("a secret, a null or a second line in: %s", text)
	}
	var got Document
	got.Result = &lifecycle.RegisterResult{}
	dec := json.NewDecoder(&out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Steps[0].DurationMs != 1200 || got.Error.Code != "activation_invalid" || got.Error.Kept == nil {
		t.Errorf("the document came back as %+v, error %+v", got, got.Error)
	}
	if cluster := got.Result.(*lifecycle.RegisterResult).Cluster; cluster != "shop & more" {
		t.Errorf("cluster came back as %q", cluster)
	}
}

func TestDocumentResultIsAnObject(t *testing.T) {
	var out bytes.Buffer
	if err := (Document{}).Write(&out, identity, true); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got["result"].(map[string]any); !ok {
		t.Errorf("result is %v", got["result"])
	}
	if _, there := got["error"]; there {
		t.Error("there is an error in a document that did not fail")
	}
}

func TestTidyKeepsWhatEncodesItself(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	type result struct {
		At   time.Time
		Code secret.Text
		Any  map[string]any
		Opt  *string
	}
	before := result{At: at, Code: secret.NewText("x"), Any: map[string]any{"list": []string(nil), "nil": nil}}
	got := tidy(before, identity).(result)
	if !got.At.Equal(at) || got.Code.Reveal() != "x" || got.Opt != nil || got.Any["nil"] != nil {
		t.Errorf("tidy changed %+v", got)
	}
	if list := got.Any["list"].([]string); list == nil {
		t.Error("a nil slice stayed nil")
	}
}

func TestFailedStatuses(t *testing.T) {
	for _, status := range []int{0, 10, 11, 14} {
		if Failed(status) {
			t.Errorf("%d is taken for a failure", status)
		}
	}
	for _, status := range []int{1, 2, 3, 7, 8, 9, 12, 13, 130, 143} {
		if !Failed(status) {
			t.Errorf("%d is not taken for a failure", status)
		}
	}
}
