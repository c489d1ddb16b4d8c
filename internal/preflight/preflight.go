package preflight

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Status of a check.
type Status string

// Statuses.
const (
	Pass Status = "pass"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Result is what a check found.
type Result struct {
	ID       string
	Title    string
	Status   Status
	Ignored  bool   // a failure that --ignore made a warning
	Detail   string // what was seen
	Remedy   string // what to type
	Docs     string // URL
	Evidence map[string]any
	Duration time.Duration
	Code     failure.Code // of a failure: what a verb that is stopped by it reports
	Refused  bool         // the failure is AWS's own answer, and a verb that it stops ends with its exit status

	gist    string // of the evidence, where that is too much for an error's one line
	follows string // the check whose failure brings this one about: where both fail, that one is told
}

// Subject is what the checks look at, and what is wanted of it. Empty fields mean "as the host has it, else unknown": a
// check that cannot do without is skipped, and says which flag brings it.
type Subject struct {
	Host     host.Reader
	Mutating bool   // a verb that will change the host asks, not "anywhere preflight"
	Resuming bool   // the verb goes on with its own unfinished operation
	Profile  string // the credentials profile that SSM Agent is to write; empty is the one that it is told to write

	ECSAgent string            // the agents' versions that are asked for; empty keeps those that are installed, else
	SSMAgent string            // takes the latest
	Settings map[string]string // of the ECS agent, that will stand above those that it has

	Region       string    // where the host is, or is to be, registered
	Cluster      string    // its name
	ActivationID string    // that a registration would use
	Endpoints    Endpoints // of the agents, where they are not AWS's own
	Artifacts    string    // URL or folder of the packages, where it is not AWS's
	Cached       bool      // the packages that are needed are there already, verified
	Offline      bool      // no check may use the network
	Replacing    bool      // the managed node's identity is to be given up
	GPU          bool      // the host's GPUs are to be used by tasks
	Docker       bool      // a missing Docker will be installed
	DockerFrom   string    // and from where, for people
	Remote       Remote    // AWS as an operator sees it; nil without an operator's credentials
	IPv6         bool      // AWS is reached by the names that have IPv6
	Proxy        Proxy     // that the verb will tell everybody of; none leaves them as they are

	Getenv func(name string) string // this process's environment, for proxies; nil is an empty one

	docker      func() (docker.Info, error) // the daemon is asked once for all checks; set by Run
	network     func() probe                // the endpoints are tried once for all checks; set by Run
	networkTime time.Duration
}

// Endpoints are where the agents find AWS, as URLs; empty means AWS's own names.
type Endpoints struct{ ECS, SSM, SSMMessages, EC2Messages string }

// Remote is what checks ask AWS with an operator's credentials. Where there are none the errors' chains have
// control.ErrNoOperator.
type Remote interface {
	// ProveCluster fails with failure.ClusterNotFound where the cluster is not there and ACTIVE.
	ProveCluster(ctx context.Context, c control.ClusterRef) error
	// Activation finds one by its id.
	Activation(ctx context.Context, id string) (a control.Activation, found bool, err error)
	// InstancesOf are the container instances of a managed node in a cluster.
	InstancesOf(ctx context.Context, cluster, node string) ([]control.Instance, error)
	// Node finds a managed node by its id.
	Node(ctx context.Context, id string) (n control.Node, found bool, err error)
}

// Check is one thing to look at. Checks are values; All lists them.
type Check struct {
	ID, Title string
	Docs      string
	Root      bool // cannot be told without root, and is skipped then
	Network   bool // uses the network, and is skipped with --offline
	Run       func(ctx context.Context, s Subject) Result
}

// Options of Run.
type Options struct {
	Only    []string
	Ignore  []string
	Timeout time.Duration // bound on all checks together
	Network time.Duration // bound on all that goes out to the network; zero is five seconds
}

// never are the checks that --ignore cannot overrule: nothing that follows could work.
var never = []string{"os.arch"}

// Validate refuses unknown ids, and ids that cannot be ignored, naming the flag.
func (o Options) Validate() error {
	known := map[string]bool{}
	for _, c := range All() {
		known[c.ID] = true
	}
	for _, given := range []struct {
		flag string
		ids  []string
	}{{"--only", o.Only}, {"--ignore", o.Ignore}} {
		for _, id := range given.ids {
			if !known[id] {
				return failure.New(failure.Usage, "%s: there is no check %q", given.flag, id).
					WithRemedy("anywhere preflight lists the ids")
			}
		}
	}
	for _, id := range o.Ignore {
		if slices.Contains(never, id) {
			return failure.New(failure.Usage, "--ignore: %s cannot be ignored", id).
				WithRemedy("leave %s out of --ignore", id)
		}
	}
	return nil
}

// Run runs the checks concurrently and returns their results in the order of checks. A check that has no answer when
// the time is over is a warning that names it: what is not known is not called a failure. When ctx itself has ended,
// the results say nothing; the caller looks at it.
func Run(ctx context.Context, checks []Check, s Subject, o Options) []Result {
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	selected := slices.Clone(checks)
	if len(o.Only) > 0 {
		selected = slices.DeleteFunc(selected, func(c Check) bool { return !slices.Contains(o.Only, c.ID) })
	}
	s.docker = inspectOnce(ctx, s.Host)
	s.networkTime = o.Network
	if s.networkTime == 0 {
		s.networkTime = networkTime
	}
	s.network = probeOnce(ctx, s)
	results := make([]Result, len(selected))
	var wait sync.WaitGroup
	for i, check := range selected {
		wait.Go(func() { results[i] = run(ctx, check, s, o) })
	}
	wait.Wait()
	return results
}

func run(ctx context.Context, check Check, s Subject, o Options) Result {
	begun := time.Now()
	var r Result
	if check.Root && s.Host.Self.EUID != 0 {
		r = skip("needs root")
	} else if check.Network && s.Offline {
		r = skip("needs the network, and --offline was given")
	} else {
		done := make(chan Result, 1)
		go func() { done <- check.Run(ctx, s) }()
		select {
		case r = <-done:
		case <-ctx.Done():
		}
	}
	r.ID, r.Title, r.Docs, r.Duration = check.ID, check.Title, check.Docs, time.Since(begun)
	if r.Status == "" {
		r.Status = Warn
		r.Detail = fmt.Sprintf("no answer within %s, which all checks share", o.Timeout)
		r.Remedy = "anywhere preflight --only " + check.ID
	}
	r.Ignored = r.Status == Fail && slices.Contains(o.Ignore, check.ID)
	if r.Evidence == nil {
		r.Evidence = map[string]any{}
	}
	return r
}

// Verdict is the failure that results amount to, or nil. Ignored failures do not count; with strict, warnings do.
func Verdict(results []Result, strict bool) error {
	var bad []Result
	for _, r := range results {
		if r.Status == Fail && !r.Ignored || strict && (r.Status == Warn || r.Ignored) {
			bad = append(bad, r)
		}
	}
	bad = slices.DeleteFunc(slices.Clone(bad), func(r Result) bool {
		return r.follows != "" && slices.ContainsFunc(bad, func(cause Result) bool { return cause.ID == r.follows })
	})
	switch len(bad) {
	case 0:
		return nil
	case 1:
		return bad[0].failure()
	}
	// The one that cannot be mended decides the exit status: a machine of the wrong kind stays one.
	var lines, facts []string
	for _, r := range bad {
		if f := r.failure(); f.Entry().Exit == failure.ExitUnsupported {
			return f
		}
		lines = append(lines, r.ID+": "+r.Detail)
		if seen := r.facts(); seen != "" {
			facts = append(facts, r.ID+": "+seen)
		}
	}
	return failure.New(failure.PreflightFailed, "%d checks failed: %s", len(bad), strings.Join(lines, "; ")).
		WithEvidence("%s", strings.Join(facts, "; ")).
		WithRemedy("%s", bad[0].failure().Advice())
}

// Warnings are the results that stop nothing and should be known: warnings, and failures that are ignored.
func Warnings(results []Result) []string {
	var lines []string
	for _, r := range results {
		if r.Status == Warn || r.Ignored {
			lines = append(lines, r.ID+": "+r.Detail)
		}
	}
	return lines
}

// failure is the result as what a verb that it stops reports. Two exit statuses are a check's to give: 3, and 9 for a
// machine that cannot be helped. What AWS refuses keeps AWS's own, 4: the check only asked before the verb would. A check that stumbled over something else, like a file that it cannot read, has
// failed all the same.
func (r Result) failure() *failure.Error {
	f := failure.New(r.Code, "%s: %s", r.ID, r.Detail)
	f.Remedy, f.Evidence = r.Remedy, r.facts()
	if exit := f.Entry().Exit; !r.Refused && exit != failure.ExitPreflight && exit != failure.ExitUnsupported {
		f.Code = failure.PreflightFailed
	}
	return f
}

// facts are the check's evidence on one line: its gist, else all of it as JSON; "" when it has none.
func (r Result) facts() string {
	if r.gist != "" {
		return r.gist
	}
	if len(r.Evidence) == 0 {
		return ""
	}
	text, err := json.Marshal(r.Evidence)
	if err != nil { // evidence is plain values
		return fmt.Sprint(r.Evidence)
	}
	return string(text)
}

func pass(format string, args ...any) Result {
	return Result{Status: Pass, Detail: fmt.Sprintf(format, args...)}
}

func skip(detail string) Result {
	return Result{Status: Skip, Detail: detail}
}

func warn(detail, remedy string) Result {
	return Result{Status: Warn, Detail: detail, Remedy: remedy}
}

func fail(code failure.Code, detail, remedy string) Result {
	return Result{Status: Fail, Code: code, Detail: detail, Remedy: remedy}
}

// broken is the result of a check that could not look: the error's own code and words. One whose time was over has none
// (see Run).
func broken(err error) Result {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Result{}
	}
	f := failure.Of(err)
	return Result{Status: Fail, Code: f.Code, Detail: f.Message, Remedy: f.Advice()}
}

// with returns r with one more piece of evidence.
func (r Result) with(key string, value any) Result {
	if r.Evidence == nil {
		r.Evidence = map[string]any{}
	}
	r.Evidence[key] = value
	return r
}
