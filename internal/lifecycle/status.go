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
	State    HealthState    `json:"state"`   // the answer in one word; docs/status.md says what each means
	Reasons  []StatusReason `json:"reasons"` // why it is not healthy, the most telling first
	Verified Verified       `json:"verified"`

	Cluster              string `json:"cluster"`
	Region               string `json:"region"`
	Account              string `json:"account"`
	ManagedInstanceID    string `json:"managedInstanceId"`
	ContainerInstanceARN string `json:"containerInstanceArn"`

	Registration StatusRegistration `json:"registration"`        // the managed node as the host has it
	ECSAgent     StatusECSAgent     `json:"ecsAgent"`            // the ECS agent
	SSMAgent     StatusSSMAgent     `json:"ssmAgent"`            // the SSM agent
	Docker       StatusDocker       `json:"docker"`              // Docker
	Credentials  StatusCredentials  `json:"credentials"`         // the agents' credentials
	Connection   StatusConnection   `json:"connection"`          // the ECS agent's connection to ECS
	Tasks        StatusTasks        `json:"tasks"`               // what the ECS agent runs
	Exec         StatusExec         `json:"exec"`                // whether ECS Exec can work
	Operation    StatusOperation    `json:"operation"`           // anywhere's own work on the host
	Unseen       []StatusUnseen     `json:"unseen"`              // what could not be looked at
	Remote       *StatusRemote      `json:"remote,omitempty"`    // with --remote
	FactsFile    string             `json:"factsFile,omitempty"` // with --facts
}

// StatusReason is one thing that keeps the host from being healthy.
type StatusReason struct {
	Rule      string       `json:"rule"`      // which part of the rule for healthy does not hold
	Code      failure.Code `json:"code"`      // stable code of the cause; docs/errors.md has them all
	Message   string       `json:"message"`   // what is wrong
	Evidence  string       `json:"evidence"`  // what shows it
	Remedy    string       `json:"remedy"`    // what to type
	Retryable bool         `json:"retryable"` // it may pass by itself
}

// StatusRegistration is the managed node as the host has it in three places.
type StatusRegistration struct {
	Verdict       string   `json:"verdict"`       // none, sound, unknown, broken, deregistered, clone; empty when it was not seen
	Why           string   `json:"why"`           // what the verdict rests on
	VaultID       string   `json:"vaultId"`       // the id in the vault, which is the truth
	VaultRegion   string   `json:"vaultRegion"`   // the Region in the vault
	SideFileID    string   `json:"sideFileId"`    // the id in the file beside the vault
	RuntimeID     string   `json:"runtimeId"`     // whose credentials the agent fetched last
	Agree         bool     `json:"agree"`         // all places say the same
	Damaged       []string `json:"damaged"`       // what cannot be understood or contradicts itself, a sentence each
	ByAnywhere    bool     `json:"byAnywhere"`    // anywhere's record says that it registered this node
	MachineIDSame bool     `json:"machineIdSame"` // the registered machine-id is still this one's
}

// StatusUnit is a service.
type StatusUnit struct {
	Name      string `json:"name"`      // its name
	Loaded    bool   `json:"loaded"`    // a unit file exists
	Active    string `json:"active"`    // systemd's ActiveState
	Sub       string `json:"sub"`       // systemd's SubState
	Enabled   bool   `json:"enabled"`   // it starts at boot
	Since     string `json:"since"`     // when it became active
	Restarts  int    `json:"restarts"`  // by the service manager
	CrashLoop bool   `json:"crashLoop"` // it starts and dies again and again
}

// StatusECSAgent is the ECS agent in its three versions: the package's, the image's that Docker has loaded, and that of
// the agent which runs.
type StatusECSAgent struct {
	Installed      string     `json:"installed"`      // the package's version
	Cached         string     `json:"cached"`         // of the image that the package brought
	LoadedImage    string     `json:"loadedImage"`    // id of the image that the next start takes
	RunningImage   string     `json:"runningImage"`   // id of the image that runs
	Running        string     `json:"running"`        // version of the agent that runs, by its own word
	RestartPending bool       `json:"restartPending"` // another version runs than would be started now
	StartedAt      string     `json:"startedAt"`      // of the container
	RecentDeaths   int        `json:"recentDeaths"`   // how often it has died in the last minutes
	Unit           StatusUnit `json:"unit"`           // its service
}

// StatusSSMAgent is the SSM agent.
type StatusSSMAgent struct {
	Installed      string     `json:"installed"`      // the package's version
	Running        string     `json:"running"`        // version of the agent that runs
	RestartPending bool       `json:"restartPending"` // its program was replaced; the old one still runs
	Snap           bool       `json:"snap"`           // it is installed as a snap
	Unit           StatusUnit `json:"unit"`           // its service
}

// StatusDocker is Docker.
type StatusDocker struct {
	Present bool       `json:"present"` // it is installed
	Running bool       `json:"running"` // its daemon answers
	Version string     `json:"version"` // the daemon's version
	Flavour string     `json:"flavour"` // docker, podman, snap, rootless or docker-desktop
	Why     string     `json:"why"`     // why it does not answer
	Unit    StatusUnit `json:"unit"`    // its service
}

// StatusCredentials are the credentials that the agents work with.
type StatusCredentials struct {
	Provider  string `json:"provider"`  // the ECS agent's name for where it found its own
	Profile   string `json:"profile"`   // of the shared file
	Retrieved string `json:"retrieved"` // when the SSM agent got them
	Expires   string `json:"expires"`   // when they expire
	Ready     bool   `json:"ready"`     // the ECS agent can work with them
	Why       string `json:"why"`       // why they are not ready
}

// StatusConnection is the ECS agent's connection to ECS, by its log.
type StatusConnection struct {
	Connected bool   `json:"connected"` // it is connected, and has not lost it since
	Since     string `json:"since"`     // of the last connection
	Lost      string `json:"lost"`      // since when there is none
	Evidence  string `json:"evidence"`  // the log line that says why it is not
}

// StatusTasks are the tasks that the ECS agent knows; List leaves out those that have stopped.
type StatusTasks struct {
	Running int          `json:"running"` // how many run
	Pending int          `json:"pending"` // how many are starting or stopping
	Stopped int          `json:"stopped"` // not yet forgotten
	List    []StatusTask `json:"list"`    // those that have not stopped
}

// StatusTask is one task.
type StatusTask struct {
	ARN        string `json:"arn"`           // the task's ARN
	Definition string `json:"definition"`    // family:revision
	Status     string `json:"status"`        // what it is
	Desired    string `json:"desiredStatus"` // what it should be
}

// StatusExec says whether ECS Exec's files are complete.
type StatusExec struct {
	Ready   bool   `json:"ready"`   // its files are complete
	Version string `json:"version"` // version of the programs that would be used
	Why     string `json:"why"`     // what is missing
}

// StatusOperation is what anywhere did here last, and what it has not finished.
type StatusOperation struct {
	AtWork     string           `json:"atWork"`               // pid and run of a command that is at work now
	Unfinished *OperationResult `json:"unfinished,omitempty"` // one that was begun and has not ended
	Last       *StatusLast      `json:"last,omitempty"`       // the one that ended last
}

// StatusLast is the operation that ended last.
type StatusLast struct {
	Verb      string `json:"verb"`      // the command
	RunID     string `json:"runId"`     // the run that began it
	StartedAt string `json:"startedAt"` // when it began
	EndedAt   string `json:"endedAt"`   // when it ended
	How       string `json:"how"`       // done, undone, kept, abandoned
}

// StatusUnseen is something that could not be looked at.
type StatusUnseen struct {
	Part      string `json:"part"`      // what
	Why       string `json:"why"`       // why not
	NeedsRoot bool   `json:"needsRoot"` // root could see it
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
