package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// StatusRequest is what "anywhere status" was asked for.
type StatusRequest struct {
	Remote bool
	Facts  bool
	Region string // --region, when it was typed; must agree with the host's
}

// HealthState is the answer in one word. What each means is said once, in health.go.
type HealthState string

// States.
const (
	Unregistered HealthState = "unregistered"
	Healthy      HealthState = "healthy"
	Unhealthy    HealthState = "unhealthy"
	HalfDone     HealthState = "half_done"
	StateUnknown HealthState = "unknown"
)

// HealthStates are all of them.
var HealthStates = []HealthState{Unregistered, Healthy, Unhealthy, HalfDone, StateUnknown}

// StatusResult is the "result" of status's document. Times are RFC 3339 in UTC; what is not known is empty.
type StatusResult struct {
	State    HealthState    `json:"state"`
	Reasons  []StatusReason `json:"reasons"` // why it is not healthy, the most telling first
	Verified Verified       `json:"verified"`

	Cluster              string `json:"cluster"`
	Region               string `json:"region"`
	Account              string `json:"account"`
	ManagedInstanceID    string `json:"managedInstanceId"`
	ContainerInstanceARN string `json:"containerInstanceArn"`

	Registration StatusRegistration `json:"registration"`
	ECSAgent     StatusECSAgent     `json:"ecsAgent"`
	SSMAgent     StatusSSMAgent     `json:"ssmAgent"`
	Docker       StatusDocker       `json:"docker"`
	Credentials  StatusCredentials  `json:"credentials"`
	Connection   StatusConnection   `json:"connection"`
	Tasks        StatusTasks        `json:"tasks"`
	Exec         StatusExec         `json:"exec"`
	Operation    StatusOperation    `json:"operation"`
	Unseen       []StatusUnseen     `json:"unseen"`
	Remote       *StatusRemote      `json:"remote,omitempty"`    // with --remote
	FactsFile    string             `json:"factsFile,omitempty"` // with --facts
}

// StatusReason is one thing that keeps the host from being healthy.
type StatusReason struct {
	Rule      string       `json:"rule"` // which part of the rule for healthy does not hold
	Code      failure.Code `json:"code"`
	Message   string       `json:"message"`
	Evidence  string       `json:"evidence"`
	Remedy    string       `json:"remedy"`
	Retryable bool         `json:"retryable"`
}

// StatusRegistration is the managed node as the host has it in three places.
type StatusRegistration struct {
	Verdict       string   `json:"verdict"` // none, sound, unknown, broken, deregistered, clone; empty when it was not seen
	Why           string   `json:"why"`
	VaultID       string   `json:"vaultId"`
	VaultRegion   string   `json:"vaultRegion"`
	SideFileID    string   `json:"sideFileId"`
	RuntimeID     string   `json:"runtimeId"` // whose credentials the agent fetched last
	Agree         bool     `json:"agree"`
	Damaged       []string `json:"damaged"`
	ByAnywhere    bool     `json:"byAnywhere"` // anywhere's record says that it registered this node
	MachineIDSame bool     `json:"machineIdSame"`
}

// StatusUnit is a service.
type StatusUnit struct {
	Name      string `json:"name"`
	Loaded    bool   `json:"loaded"`
	Active    string `json:"active"`
	Sub       string `json:"sub"`
	Enabled   bool   `json:"enabled"`
	Since     string `json:"since"`
	Restarts  int    `json:"restarts"` // by the service manager
	CrashLoop bool   `json:"crashLoop"`
}

// StatusECSAgent is the ECS agent in its three versions: the package's, the image's that Docker has loaded, and that of
// the agent which runs.
type StatusECSAgent struct {
	Installed      string     `json:"installed"`
	Cached         string     `json:"cached"`       // of the image that the package brought
	LoadedImage    string     `json:"loadedImage"`  // id of the image that the next start takes
	RunningImage   string     `json:"runningImage"` // id of the image that runs
	Running        string     `json:"running"`
	RestartPending bool       `json:"restartPending"`
	StartedAt      string     `json:"startedAt"` // of the container
	RecentDeaths   int        `json:"recentDeaths"`
	Unit           StatusUnit `json:"unit"`
}

// StatusSSMAgent is the SSM agent.
type StatusSSMAgent struct {
	Installed      string     `json:"installed"`
	Running        string     `json:"running"`
	RestartPending bool       `json:"restartPending"` // its program was replaced; the old one still runs
	Snap           bool       `json:"snap"`
	Unit           StatusUnit `json:"unit"`
}

// StatusDocker is Docker.
type StatusDocker struct {
	Present bool       `json:"present"`
	Running bool       `json:"running"`
	Version string     `json:"version"`
	Flavour string     `json:"flavour"`
	Why     string     `json:"why"` // why it does not answer
	Unit    StatusUnit `json:"unit"`
}

// StatusCredentials are the credentials that the agents work with.
type StatusCredentials struct {
	Provider  string `json:"provider"` // the ECS agent's name for where it found its own
	Profile   string `json:"profile"`  // of the shared file
	Retrieved string `json:"retrieved"`
	Expires   string `json:"expires"`
	Ready     bool   `json:"ready"`
	Why       string `json:"why"`
}

// StatusConnection is the ECS agent's connection to ECS, by its log.
type StatusConnection struct {
	Connected bool   `json:"connected"`
	Since     string `json:"since"` // of the last connection
	Lost      string `json:"lost"`  // since when there is none
	Evidence  string `json:"evidence"`
}

// StatusTasks are the tasks that the ECS agent knows; List leaves out those that have stopped.
type StatusTasks struct {
	Running int          `json:"running"`
	Pending int          `json:"pending"`
	Stopped int          `json:"stopped"` // not yet forgotten
	List    []StatusTask `json:"list"`
}

// StatusTask is one task.
type StatusTask struct {
	ARN        string `json:"arn"`
	Definition string `json:"definition"` // family:revision
	Status     string `json:"status"`
	Desired    string `json:"desiredStatus"`
}

// StatusExec says whether ECS Exec's files are complete.
type StatusExec struct {
	Ready   bool   `json:"ready"`
	Version string `json:"version"`
	Why     string `json:"why"`
}

// StatusOperation is what anywhere did here last, and what it has not finished.
type StatusOperation struct {
	AtWork     string           `json:"atWork"` // pid and run of a command that is at work now
	Unfinished *OperationResult `json:"unfinished,omitempty"`
	Last       *StatusLast      `json:"last,omitempty"`
}

// StatusLast is the operation that ended last.
type StatusLast struct {
	Verb      string `json:"verb"`
	RunID     string `json:"runId"`
	StartedAt string `json:"startedAt"`
	EndedAt   string `json:"endedAt"`
	How       string `json:"how"` // done, undone, kept, abandoned
}

// StatusUnseen is something that could not be looked at.
type StatusUnseen struct {
	Part      string `json:"part"`
	Why       string `json:"why"`
	NeedsRoot bool   `json:"needsRoot"`
}

// How long a status waits.
const (
	// glanceTime bounds the whole look: what has not answered by then is told as unseen. Everything local answers within a
	// few milliseconds when it is well.
	glanceTime = 600 * time.Millisecond
	unitTime   = glanceTime / 2
	// connectTime is for an agent that has registered just now: it connects within a second.
	connectTime  = 2 * time.Second
	connectEvery = 50 * time.Millisecond
)

// Status looks at the host and says whether it is a healthy external instance. It changes nothing, takes no lock and,
// without Remote, uses no network. With an error the report still has what was seen.
func Status(ctx context.Context, d Deps, req StatusRequest) (Report, error) {
	s := lookAt(ctx, d)
	for begun := time.Now(); s.connecting() && time.Since(begun) < connectTime && ctx.Err() == nil; {
		select {
		case <-time.After(connectEvery):
		case <-ctx.Done():
		}
		s = lookAt(ctx, d)
	}
	if ctx.Err() != nil {
		return Report{Result: s.result()}, context.Cause(ctx)
	}
	var err error
	if req.Remote {
		err = s.askAWS(ctx, d, req)
	}
	result := s.result()
	report := Report{Result: result, Warnings: s.warnings(), Message: s.sentence(result)}
	if result.State != Healthy {
		report.Exit = failure.ExitUnhealthy
	}
	if err == nil && req.Facts {
		report.Changed, err = writeFacts(d, result)
		result.FactsFile = FactsPath
		report.Result = result
	}
	return report, err
}

// sentence is the status in one line.
func (s *sight) sentence(r StatusResult) string {
	switch {
	case r.State == Healthy:
		return fmt.Sprintf("healthy: %scontainer instance %s in cluster %s, %s; %s",
			prefixed("managed node ", r.ManagedInstanceID, " is "), s.arn.ID, r.Cluster, r.Region, counted(r.Tasks.Running))
	case len(r.Reasons) == 0:
		return string(r.State)
	case r.State == HalfDone:
		return "half done: " + r.Reasons[0].Message
	}
	return fmt.Sprintf("%s: %s", r.State, r.Reasons[0].Message)
}

func prefixed(before, text, after string) string {
	if text == "" {
		return ""
	}
	return before + text + after
}

func counted(tasks int) string {
	if tasks == 1 {
		return "1 task runs"
	}
	return fmt.Sprintf("%d tasks run", tasks)
}

// stamp is a time as results show it; the zero time is empty.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
