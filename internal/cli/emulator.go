package cli

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// EmulatorRequest is what "anywhere emulator" was asked for.
type EmulatorRequest struct {
	Listen  string // HOST:PORT
	URL     string // how others reach it; empty: as Listen says
	Account string // twelve digits; empty: the state's, or any
	Region  string // empty: the state's, or any
	State   string // file that keeps the state; empty: it is forgotten
	Seed    string // file with what there is from the start; empty: nothing
	Lag     time.Duration
	// Throttling has ECS's own rates.
	Throttling bool
	TokenLife  time.Duration // of a node's credentials, and of the roles of tasks
	Faults     []string      // in force from the start, as --fault has them
	Scenario   string        // file with faults and when they come; empty: none
	Buckets    string        // folder with what the artifact buckets hold; empty: nothing
	ReadyFile  string        // written when it serves
	CAFile     string        // written with the authority's certificate
	// Ready is called once, when it serves.
	Ready func(EmulatorResult)
	// Warn tells of something that people should know, while it serves.
	Warn func(text string)
}

// EmulatorResult is the "result" of emulator's document, and what its ready file holds.
type EmulatorResult struct {
	URL         string            `json:"url"`         // where every service answers; TLS too, on the same port
	Region      string            `json:"region"`      // AWS Region
	Account     string            `json:"account"`     // AWS account id
	CAFile      string            `json:"caFile"`      // file with the certificate that TLS clients have to trust; empty: none was written
	StateFile   string            `json:"stateFile"`   // file that keeps the state; empty: it is forgotten
	Seeded      bool              `json:"seeded"`      // the seed was sown; a state that was there has it already
	Clusters    []string          `json:"clusters"`    // names of the clusters at the start
	Activations []EmulatedToken   `json:"activations"` // at the start, the oldest first
	Environment map[string]string `json:"environment"` // variables that point AWS's tools and anywhere's own calls at it
	Flags       []string          `json:"flags"`       // for anywhere register: they point the agents at it
	AgentFiles  []EmulatorFile    `json:"agentFiles"`  // files that point agents at it that are set up by hand
	Requests    int               `json:"requests"`    // how many calls were answered
}

// EmulatedToken is an activation that hosts can register with.
type EmulatedToken struct {
	ActivationID   string `json:"activationId"`
	ActivationCode string `json:"activationCode"`
	Name           string `json:"name"` // the hosts' in Systems Manager; empty: none
}

// EmulatedFault is something that can be made to go wrong.
type EmulatedFault struct {
	Name        string `json:"name"`        // for --fault
	Argument    string `json:"argument"`    // what stands behind = there; empty: nothing
	Explanation string `json:"explanation"` // what goes wrong
	Moment      bool   `json:"moment"`      // it happens at once, and what it does to the account stays
}

// EmulatorFaultsResult is the "result" of emulator faults' document.
type EmulatorFaultsResult struct {
	Faults []EmulatedFault `json:"faults"` // all that there are
}

// EmulatorFile is a file on a machine whose agents are to find the emulator.
type EmulatorFile struct {
	Path    string `json:"path"`    // absolute
	Content string `json:"content"` // the whole file
}

func newEmulator(a *app) *cobra.Command {
	req := &EmulatorRequest{Lag: 10 * time.Second, TokenLife: time.Hour}
	cmd := &cobra.Command{
		Use:   "emulator [flags]",
		Short: "Serve an AWS that takes hosts, for testing playbooks and runbooks",
		Long: long(`
Serves ECS, Systems Manager, IAM, STS, the agents' message channels and the artifact buckets on one port, until it is
stopped: an AWS account that costs nothing and forgets. AWS's agents register with it as they do with AWS, and so do
the AWS CLI, SDKs and anywhere itself.

The port takes plain HTTP and TLS. SSM Agent speaks TLS to its message channel, so its machine has to trust the
certificate that --ca-file-out writes.

Without --state it forgets everything at its end. With it the file has the whole account, secrets too, and the next
start goes on: hosts stay registered. --seed says what a new account has; a state that is there has it already.

When it serves it prints the variables and files that lead tools and agents to it. For scripts, --ready-file names a
file that appears, whole, at that moment, with the same as JSON. It is readable by its owner only, for it has the
emulated operator's keys. With -o json the document comes at the end, as with every command.

With --fault things go wrong from the start, with --scenario at the times that a file names, and while it serves by
calls: PUT and DELETE http://HOST:PORT/_anywhere/faults/NAME. "anywhere emulator faults" lists what there is.

Ctrl-C and SIGTERM are its ordinary end: exit status 0.`),
		Example: `  anywhere emulator
  anywhere emulator --listen 127.0.0.1:0 --ready-file /tmp/emulator.json
  anywhere emulator --seed seed.yaml --state emulator.state
  anywhere emulator --fault 'throttled*5,access-denied=ecs:StopTask'
  anywhere emulator --listen 192.0.2.10:4580 --region eu-central-1 --ca-file-out emulator-ca.pem`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runEmulator(cmd, req) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&req.Listen, "listen", "127.0.0.1:4580", "`HOST:PORT` to serve on; port 0 is any free one")
	f.StringVar(&req.URL, "url", "", "`URL` at which other machines reach it; the default follows from --listen")
	f.StringVar(&req.Account, "account", "123456789012", "the emulated AWS account's `ID`")
	f.StringVar(&req.State, "state", "", "`FILE` that keeps the state, so that the next start goes on with it")
	f.StringVar(&req.Seed, "seed", "", "YAML or JSON `FILE` with clusters, activations, tasks and so on to begin with")
	f.Var(durationValue{&req.Lag}, "lag", "how long a new role is unknown and a deregistered node still shown; 0 is none")
	f.Var(wordsValue{to: &req.Faults}, "fault", "faults from the start, by name; NAME*N hits the next N calls")
	f.StringVar(&req.Scenario, "scenario", "", "YAML `FILE` with faults, and when each comes and goes")
	f.Var(durationValue{&req.TokenLife}, "token-life",
		"how long a node's credentials live; the agents renew them after half of it")
	f.BoolVar(&req.Throttling, "throttling", true, "refuse calls that come faster than ECS takes them")
	f.StringVar(&req.Buckets, "buckets", "", "`DIR` with what the artifact buckets hold; its folders are the buckets")
	f.StringVar(&req.ReadyFile, "ready-file", "", "`FILE` to write, as JSON, when it serves")
	f.StringVar(&req.CAFile, "ca-file-out", "", "`FILE` to write with the certificate that TLS clients have to trust")
	cmd.AddCommand(newEmulatorFaults(a))
	return cmd
}

func newEmulatorFaults(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "faults [flags]",
		Short: "List what can be made to go wrong in the emulator and in rehearsals",
		Long: long(`
Lists the faults that --fault of "anywhere emulator" and "anywhere rehearse" takes, and the emulator's scenarios and its
control calls. docs/emulator-faults.md says what anywhere makes of each.`),
		Example: `  anywhere emulator faults
  anywhere emulator faults -o json
  curl -X PUT 'http://127.0.0.1:4580/_anywhere/faults/throttled?calls=5'`,
		Args: none,
		RunE: func(*cobra.Command, []string) error {
			result := EmulatorFaultsResult{Faults: a.env.Faults()}
			a.outcome.report.Result = result
			a.outcome.report.Message = fmt.Sprintf("%d faults", len(result.Faults))
			a.outcome.text = func(w io.Writer, s report.Style, _ lifecycle.Report, _ error) {
				rows := [][]string{{"FAULT", "WHAT GOES WRONG"}}
				for _, f := range result.Faults {
					name := f.Name
					if f.Argument != "" {
						name += "=" + f.Argument
					}
					rows = append(rows, []string{name, f.Explanation})
				}
				report.Table(w, s, rows)
			}
			return nil
		},
	}
}

// leastTokenLife leaves the agents time to renew what expires.
const leastTokenLife = 10 * time.Second

// isHTTP tells a URL that leads to a server and nowhere in it.
func isHTTP(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.Path == "" && u.RawQuery == ""
}

func (a *app) runEmulator(cmd *cobra.Command, req *EmulatorRequest) error {
	if len(req.Account) != 12 || strings.Trim(req.Account, "0123456789") != "" {
		return usage(cmd, "--account: expected twelve digits")
	}
	if req.TokenLife < leastTokenLife {
		return usage(cmd, "--token-life: expected 10s or more")
	}
	if req.URL = strings.TrimSuffix(req.URL, "/"); req.URL != "" && !isHTTP(req.URL) {
		return usage(cmd, "--url: expected http://HOST:PORT")
	}
	req.Region = a.global.region
	if a.origins["account"].kind == byDefault {
		req.Account = ""
	}
	a.calm.Store(true)
	words := "What happened in the emulator since it last wrote its state is lost."
	a.parting.Store(&words)
	var serving atomic.Bool
	var mu sync.Mutex // a state that cannot be written is told from beside
	req.Warn = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		a.warn("%s", text)
	}
	req.Ready = func(r EmulatorResult) {
		serving.Store(true)
		switch {
		case a.global.quiet:
		case a.global.output == outputJSON:
			a.say("the emulator serves on " + r.URL)
		default:
			writeEmulator(a.out, r)
		}
	}
	rep, err := a.env.Emulate(cmd.Context(), *req)
	if serving.Load() && (failure.Is(err, failure.Interrupted) || failure.Is(err, failure.Terminated)) {
		err = nil
	}
	rep.Warnings = a.outcome.report.Warnings
	a.outcome.report = rep
	a.outcome.text = func(w io.Writer, _ report.Style, rep lifecycle.Report, err error) {
		if err == nil && !a.global.quiet {
			fmt.Fprintln(w, rep.Message)
		}
	}
	return err
}

// writeEmulator tells people how to reach it. It is written past the redactor: these keys open nothing but this emulator,
// and are there to be copied.
func writeEmulator(w io.Writer, r EmulatorResult) {
	fmt.Fprintf(w, "The emulator serves on %s (Region %s, account %s). Ctrl-C ends it.\n\n", r.URL, r.Region, r.Account)
	fmt.Fprintln(w, "# for the AWS CLI, SDKs and anywhere's own calls")
	for _, name := range slices.Sorted(maps.Keys(r.Environment)) {
		fmt.Fprintf(w, "export %s=%s\n", name, r.Environment[name])
	}
	for _, t := range r.Activations {
		fmt.Fprintf(w, "\n# activation %s\nexport ACTIVATION_ID=%s ACTIVATION_CODE='%s'\n", t.Name, t.ActivationID, t.ActivationCode)
	}
	fmt.Fprintf(w, "\n# for anywhere register, which points the agents at it\nanywhere register --token - %s\n", strings.Join(r.Flags, " "))
	for _, file := range r.AgentFiles {
		fmt.Fprintf(w, "\n# or, for agents that are set up by hand: %s\n%s", file.Path, file.Content)
	}
	fmt.Fprintln(w)
}
