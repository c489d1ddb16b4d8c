package rehearsal

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// bite is what anywhere makes of a fault.
type bite struct {
	fault string
	line  line // empty: register with a token
	on    bool // the host is registered, and has tasks, when the fault comes
	rc    int
	code  failure.Code
	says  string // in the message or the evidence
	left  string // what is on the host afterwards: see the constants
}

const (
	untouched = "untouched" // not a file, package or unit is other
	kept      = "kept"      // what is done is kept, and named
	working   = "working"   // it is an instance, as its agents themselves say
)

// bites are the catalogue's: each fault is here, with the command that it is for. 7 means that the host is as it was, 8 that
// what is done is kept.
func bites() []bite {
	attended := line{args: []string{"register", "--region", region, "--cluster", cluster}, operator: true}
	again := line{args: []string{"register"}}
	return []bite{
		{fault: "activation-expired", rc: 7, code: failure.ActivationExpired, says: "ActivationExpired", left: untouched},
		{fault: "activation-invalid", rc: 7, code: failure.ActivationInvalid, says: "InvalidActivation", left: untouched},
		{fault: "activation-used-up", rc: 7, code: failure.ActivationUsedUp, says: "RegistrationLimitExceeded", left: untouched},
		{fault: "role-token-denied", rc: 8, code: failure.AccessDenied, says: "gives the node no credentials", left: kept},
		{fault: "fingerprint-mismatch", rc: 8, code: failure.FingerprintChanged, says: "MachineFingerprintDoesNotMatch", left: kept},
		{fault: "node-offline", line: line{args: again.args, operator: true}, on: true, rc: 5, code: failure.NotConfirmed,
			says: "ConnectionLost", left: untouched},
		{fault: "node-deregistered", line: line{args: again.args, operator: true}, on: true, rc: 12, code: failure.NodeUnknown,
			says: "knows no such node", left: untouched},
		{fault: "credentials-expired", rc: 8, code: failure.CredentialsExpired, says: "ExpiredTokenException", left: kept},
		{fault: "access-denied=ssm:CreateActivation", line: attended, rc: 4, code: failure.AccessDenied,
			says: "may not do ssm:CreateActivation", left: untouched},
		{fault: "access-denied=ecs:RegisterContainerInstance", rc: 8, code: failure.AccessDenied,
			says: "lacks the right ecs:RegisterContainerInstance", left: kept},
		{fault: "access-denied=ecs:DeregisterContainerInstance", line: line{args: []string{"deregister", "--yes", "--no-drain", "--force",
			"--accept-risk", "running-tasks"}, operator: true}, on: true, rc: 4, code: failure.AccessDenied,
			says: "ecs:DeregisterContainerInstance", left: untouched},
		{fault: "register-access-denied", rc: 8, code: failure.AccessDenied, says: "lacks the right ecs:RegisterContainerInstance", left: kept},
		{fault: "cluster-missing", rc: 8, code: failure.ClusterNotFound, says: "Cluster not found", left: kept},
		{fault: "cluster-inactive", rc: 8, code: failure.ClusterNotFound, says: "is INACTIVE", left: kept},
		{fault: "cluster-inactive", line: attended, rc: 4, code: failure.ClusterNotFound, says: "is INACTIVE", left: untouched},
		{fault: "instance-limit", rc: 8, code: failure.RegistrationDenied, says: "LimitExceededException", left: kept},
		{fault: "instance-inactive", line: again, on: true, left: working},
		{fault: "register-inactive", rc: 8, code: failure.InstanceInactive, says: "InactiveInstanceException", left: kept},
		{fault: "no-attribute-echo", rc: 8, code: failure.RegistrationDenied, says: "missingAttributes", left: kept},
		{fault: "agent-never-connects", line: attended, rc: 5, code: failure.NotConfirmed, says: "is not connected", left: working},
		{fault: "agent-exits-1", rc: 8, code: failure.RegistrationDenied, says: "UnsupportedFeatureException", left: kept},
		{fault: "agent-exits-5", rc: 8, code: failure.RegistrationDenied, says: "InvalidParameterException", left: kept},
		{fault: "task-never-stops", line: line{args: []string{"drain", "--drain-timeout", "2s"}, operator: true}, on: true, rc: 12,
			code: failure.DrainTimeout, says: "STOPPING", left: untouched},
		{fault: "clock-skew", rc: 8, code: failure.ClockSkew, says: "Signature expired", left: kept},
		{fault: "throttled", rc: 7, code: failure.Throttled, says: "Rate exceeded", left: untouched},
		{fault: "throttled*2", left: working},
		{fault: "server-error", rc: 7, code: failure.AWSUnavailable, says: "InternalServerError", left: untouched},
		{fault: "connection-reset", rc: 3, code: failure.EndpointUnreachable, says: "connection reset", left: untouched},
		{fault: "slow*1", left: working},
		{fault: "artifact-truncated", rc: 5, code: failure.ArtifactDownload, says: "broke off", left: untouched},
		{fault: "artifact-corrupt", rc: 6, code: failure.ArtifactCorrupt, says: "is not what the key", left: untouched},
		{fault: "artifact-unsigned", rc: 6, code: failure.ArtifactUnsigned, says: "has no signature", left: untouched},
		{fault: "artifact-wrong-key", rc: 6, code: failure.ArtifactKey, says: "which is not one for", left: untouched},
		{fault: "artifact-expired-key", rc: 6, code: failure.ArtifactKey, says: "which is valid from", left: untouched},
		{fault: "version-missing", rc: 5, code: failure.ArtifactMissing, says: "404", left: untouched},
		{fault: "artifact-missing", rc: 5, code: failure.ArtifactMissing, says: "404", left: untouched},
	}
}

// TestFaults holds what a user sees of each fault to the contract.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, b := range bites() {
		name := strings.ReplaceAll(strings.Join(append([]string{b.fault}, b.line.args...), " "), "/", " ")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := empty(t)
			s.anotherToken()
			if b.on {
				if d := s.run(t, withToken); d.RC != 0 {
					t.Fatalf("%+v", d)
				}
				s.busy()
				s.awaitAgent(t, 2)
			}
			l := b.line
			if l.args == nil {
				l = withToken
			}
			if l.args[0] == "register" {
				l.args = append(slices.Clone(l.args), "--wait-timeout", "8s")
			}
			l.faults = true
			before := s.everything(t)
			c, err := s.play(context.Background(), l, cli.RehearseRequest{Faults: []string{b.fault}})
			var d register
			if broken := json.Unmarshal(c.Document, &d); broken != nil {
				t.Fatalf("%v, %v: %s", err, broken, c.Document)
			}
			if d.RC != b.rc || d.Error.Code != string(b.code) || d.Failed != (b.rc != 0) ||
				!strings.Contains(d.Error.Message+"\n"+d.Error.Evidence, b.says) {
				t.Errorf("it ended with %d and %s: %s (%s); want %d and %s, and in it %q", d.RC, d.Error.Code, d.Error.Message, d.Error.Evidence,
					b.rc, b.code, b.says)
			}
			if (d.Error.Remedy == "") != (b.rc == 0) {
				t.Errorf("the remedy is %q", d.Error.Remedy)
			}
			if d.Error.RolledBack != (b.rc == 7) || (len(d.Error.Kept) > 0) != (b.left == kept) {
				t.Errorf("rolledBack %v, kept %v", d.Error.RolledBack, d.Error.Kept)
			}
			s.looksAfter(t, b, before)
		})
	}
	for _, f := range emulator.Faults() {
		if !slices.ContainsFunc(bites(), func(b bite) bool {
			word, _, _ := strings.Cut(strings.ReplaceAll(b.fault, "*", "="), "=")
			return word == f.Name
		}) {
			t.Errorf("nobody looks at what anywhere makes of %s", f.Name)
		}
	}
}

// looksAfter holds the host to what is said to be left on it.
func (s *stage) looksAfter(t *testing.T, b bite, before map[string]string) {
	t.Helper()
	changed := differs(before, s.everything(t))
	switch b.left {
	case untouched:
		if len(changed) > 0 {
			t.Errorf("the host is other: %v", changed)
		}
	case kept:
		if !slices.Contains(changed, "+/var/lib/amazon/ssm/registration") {
			t.Errorf("the registration is not there: %v", changed)
		}
	case working:
		if h := s.status(t); h.Result.ECSAgent.Running == "" || h.Result.State == lifecycle.Unregistered {
			t.Errorf("it is no instance: %+v", h.Result)
		}
	default:
		t.Errorf("what is left on the host is not said")
	}
}

var update = flag.Bool("update", false, "write docs/emulator-faults.md's table")

// The document says of each fault what the table of the tests does.
func TestFaultsDocument(t *testing.T) {
	const file = "../../docs/emulator-faults.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), " -update -->\n")
	_, tail, ok := strings.Cut(rest, "<!-- end -->")
	if !ok {
		t.Fatalf("%s has no place for the table", file)
	}
	var table strings.Builder
	table.WriteString("\n| fault | what goes wrong | command | exit status | error code | the host |\n|---|---|---|---|---|---|\n")
	for _, f := range emulator.Faults() {
		for _, b := range bites() {
			if word, _, _ := strings.Cut(strings.ReplaceAll(b.fault, "*", "="), "="); word != f.Name {
				continue
			}
			command, code := "anywhere register --token -", "`"+string(b.code)+"`"
			if b.line.args != nil {
				command = "anywhere " + strings.Join(b.line.args, " ")
			}
			if b.code == "" {
				code = "none"
			}
			fmt.Fprintf(&table, "| `%s` | %s | `%s` | %d | %s | %s |\n", b.fault, f.Explanation, command, b.rc, code, b.left)
		}
	}
	want := head + " -update -->\n" + table.String() + "\n<!-- end -->" + tail
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s does not say what the tests do; make generate writes it", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
