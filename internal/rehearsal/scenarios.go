package rehearsal

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

// Where a story takes place when nothing else is said. In a line of a scenario these words stand for where it does.
const (
	account = "123456789012"
	region  = "eu-west-1"
	cluster = "rehearsal"
	target  = "rehearsal-next" // is there too, for a host that moves
)

// line is one command line of a story.
type line struct {
	title     string // what happens, for people
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

// registering is how a host becomes an instance.
var registering = []line{
	{title: "An operator makes a join token", args: []string{"activation", "create", "--cluster", cluster, "--token"}, makes: true},
	{title: "Is the host fit?", args: []string{"preflight", "--region", region}},
	{title: "The host becomes an instance", args: []string{"register", "--token", "-"}, token: true, extra: true, faults: true},
	{title: "The same again changes nothing", args: []string{"register"}, extra: true, unchanged: true},
	{title: "How is it?", args: []string{"status"}, unchanged: true},
}

var (
	becoming = line{title: "The host becomes an instance", args: []string{"register", "--region", region, "--cluster", cluster}, operator: true}
	looking  = line{title: "How is it?", args: []string{"status"}, unchanged: true}
)

// scenarios are the stories, by name; each is a list of command lines.
var scenarios = map[string][]line{
	"lifecycle": append(slices.Clip(registering), []line{
		{title: "Newer agents are out", args: []string{"upgrade", "--watch-time", "500ms"}, before: (*stage).newer},
		{title: "To another cluster", args: []string{"move", "--cluster", target, "--yes"}, operator: true},
		{title: "The host is given up", args: []string{"deregister", "--yes"}, operator: true},
	}...),
	"register": registering,
	"operator": {
		{title: "Is the host fit, and the cluster there?", args: []string{"preflight", "--region", region, "--cluster", cluster}, operator: true},
		{title: "The host becomes an instance, without a token", args: []string{"register", "--region", region, "--cluster", cluster, "--name", "rehearsal"},
			operator: true, extra: true, faults: true},
		{title: "The same again changes nothing", args: []string{"register"}, operator: true, extra: true, unchanged: true},
	},
	"drain": {
		becoming,
		{title: "What would leave?", args: []string{"drain", "--dry-run"}, operator: true, before: (*stage).busy, unchanged: true},
		{title: "The tasks leave", args: []string{"drain"}, operator: true, extra: true, faults: true, unchanged: true},
		looking,
		{title: "It takes tasks again", args: []string{"activate"}, operator: true, unchanged: true},
	},
	"upgrade": {
		becoming,
		{title: "Newer agents are out", args: []string{"upgrade", "--check"}, before: (*stage).newer, unchanged: true},
		{title: "They are installed and watched", args: []string{"upgrade", "--watch-time", "1s"}, extra: true, faults: true},
		{title: "Again, which changes nothing", args: []string{"upgrade"}, extra: true, unchanged: true},
		{title: "Back to the old ones", args: []string{"rollback", "--watch-time", "1s"}},
		looking,
	},
	"snap": {
		{title: "The host becomes an instance, with its snap", args: becoming.args, operator: true, before: (*stage).snapped},
		looking,
		{title: "Newer agents are out", args: []string{"upgrade", "--check"}, before: (*stage).newer, unchanged: true},
		{title: "They are installed and watched", args: []string{"upgrade", "--watch-time", "1s"}, extra: true, faults: true},
		{title: "Back to the old ones", args: []string{"rollback", "--watch-time", "1s"}},
		{title: "The host is given up", args: []string{"deregister", "--yes"}, operator: true},
	},
	"deregister": {
		becoming,
		{title: "What would go?", args: []string{"deregister", "--dry-run"}, operator: true, unchanged: true},
		{title: "The host is given up", args: []string{"deregister", "--yes"}, operator: true, extra: true, faults: true},
		{title: "The same again changes nothing", args: []string{"deregister", "--yes"}, operator: true, extra: true, unchanged: true},
	},
	"move": {
		becoming,
		{title: "What would happen?", args: []string{"move", "--cluster", target, "--dry-run"}, operator: true, unchanged: true},
		{title: "To another cluster", args: []string{"move", "--cluster", target, "--yes"}, operator: true, extra: true, faults: true},
		{title: "The same again changes nothing", args: []string{"move", "--cluster", target, "--yes"}, operator: true, extra: true, unchanged: true},
		looking,
	},
}

// busy gives the host's instance a task of a service that can move to another machine, and one of none that ends soon.
func (s *stage) busy() {
	s.aws.AddInstance(s.site.cluster)
	s.aws.AddService(s.site.cluster, emulator.Service{Name: "web", Desired: 1, Minimum: 100, Maximum: 200})
	for _, i := range s.aws.Instances() {
		if i.Connected && i.AgentVersion != "" {
			s.aws.AddTask(i.ARN, emulator.Task{Service: "web"})
			job := s.aws.AddTask(i.ARN, emulator.Task{Family: "nightly"})
			time.AfterFunc(2*taskTime, func() { s.aws.FinishTask(job) })
		}
	}
}

// newer puts newer versions of both agents into the buckets, and those that the caller's line names.
func (s *stage) newer() {
	err := errors.Join(
		addSSM(s.buckets, s.site.region, s.key, newerSSM), addECS(s.buckets, s.site.region, s.key, newerECS, ""), s.publishPinned(),
	)
	if err != nil {
		panic(err) // the folder was written to a moment ago
	}
	if s.machine.snapd != nil {
		s.machine.snapd.publish("latest/stable", newerSSM)
	}
}

// publishPinned puts the versions that the caller's line names into the buckets. What is wrong with them, the commands
// say.
func (s *stage) publishPinned() error {
	var errs []error
	if version := s.pinned.ssm; version != "" && isVersion(version) {
		errs = append(errs, addSSM(s.buckets, s.site.region, s.key, version))
	}
	if version := s.pinned.ecs; version != "" && isVersion(version) {
		errs = append(errs, addECS(s.buckets, s.site.region, s.key, version, ""))
	}
	return errors.Join(errs...)
}

// isVersion: it can be a part of a path.
func isVersion(text string) bool {
	return strings.Trim(text, "0123456789.-") == "" && !strings.Contains(text, "..")
}

// snapped makes the host one of Ubuntu's images, whose SSM agent is a snap.
func (s *stage) snapped() {
	if err := s.machine.ubuntu(); err != nil {
		panic(err) // the folder was written to a moment ago
	}
}

// ours are flags whose values only the real AWS, or the real machine, has. The story has its own.
var ours = []string{
	"token", "activation-id", "activation-code", "activation-code-file", "artifacts", "keyring", "endpoint-url", "agent-endpoint",
}

// suit makes a story the one that the caller's flags ask for. It returns the flags that the story's commands get.
func suit(story []line, req cli.RehearseRequest) (suited []line, given []cli.GivenFlag, warnings []string) {
	has := func(names ...string) bool {
		return slices.ContainsFunc(req.Given, func(g cli.GivenFlag) bool { return slices.Contains(names, g.Name) && g.Value != "false" })
	}
	activated := has("token", "activation-id", "activation-code", "activation-code-file")
	var replaced []string
	for _, g := range req.Given {
		if slices.Contains(ours, g.Name) {
			replaced = append(replaced, "--"+g.Name)
			continue
		}
		given = append(given, g)
	}
	if len(replaced) > 0 {
		warnings = append(warnings, strings.Join(replaced, ", ")+": replaced by the rehearsal's own, which is all that its AWS knows")
	}
	// A name, a role or a profile is for a host that makes its own activation.
	operator := has("name", "iam-role") || has("profile") && !activated
	dry, asleep := has("dry-run", "check"), has("no-start")
	for i, l := range story {
		if operator && l.makes {
			continue
		}
		if operator && l.args[0] == "register" {
			l.operator = true
			if l.token {
				at := slices.Index(l.args, "--token")
				l.token, l.args = false, slices.Concat(becoming.args, l.args[1:at], l.args[at+2:])
			}
		}
		l.unchanged = l.unchanged || dry && l.extra
		suited = append(suited, l)
		further := slices.ContainsFunc(story[i+1:], func(l line) bool { return l.extra })
		if l.extra && (dry || asleep && !further) { // what would come next needs what was not done
			break
		}
	}
	return suited, given, warnings
}
