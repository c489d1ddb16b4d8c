package ecsagent

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

var start = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// at is a line of the agent's log so many seconds after start, in logfmt.
func at(seconds int, message string) string {
	return fmt.Sprintf("level=error time=%s msg=%s\n", start.Add(time.Duration(seconds)*time.Second).Format(time.RFC3339), strconv.Quote(message))
}

func findingsIn(t *testing.T, agent, init string) []Finding {
	t.Helper()
	got, err := ReadLog(machine(t, map[string]string{LogPath: agent, InitLogPath: init}), start)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const registerFails = refusedRegistration

// Every row's sample, as the program writes it, is recognised as that row and no other.
func TestEveryFailureIsRecognised(t *testing.T) {
	for i, f := range Failures {
		got := findingsIn(t, at(1, f.Sample), "")
		if len(got) != 1 || got[0].Code != f.Code || got[0].Cause != f.Cause || got[0].File != LogPath || recognise(f.Sample) != i {
			t.Errorf("%q is found as %+v, want row %d: %s", f.Sample, got, i, f.Cause)
		}
		if f.Log() != LogPath && f.Log() != InitLogPath {
			t.Errorf("row %d is of the log %s", i, f.Log())
		}
	}
}

func TestFailuresAreWellFormed(t *testing.T) {
	for _, f := range Failures {
		row, ok := failure.Catalogue[f.Code]
		if !ok || len(f.Texts) == 0 || f.Cause == "" || f.Source == "" || f.Remedy == "" && row.Remedy == "" || f.Settle != 0 && !f.Terminal || f.Sample == "" {
			t.Errorf("%+v is not whole", f)
		}
	}
}

func TestNoiseOfAHealthyStart(t *testing.T) {
	var log string
	for i, text := range []string{
		"ECS Agent is running in external mode.", "Unable to fetch user data: blackholed",
		"Not able to get EC2 Instance ID from IMDS, using EC2 Instance ID from saved state: ''",
		"Unable to get Availability Zone ID for the Instance", "Fault injection capability not enabled: EXTERNAL launch type detected",
		"Successfully got ECS instance credentials from provider: RotatingSharedCredentialsProvider",
		saysRegistered, saysCompleted, saysConnected, "Connected to TCS endpoint",
	} {
		log += at(i, text)
	}
	if got := findingsIn(t, log, at(1, "pre-start")+at(2, "start")); len(got) != 0 {
		t.Errorf("findings = %+v", got)
	}
}

func TestTerminalOnlyOnceSettled(t *testing.T) {
	const none, expired = "no valid providers in chain", "ExpiredTokenException: expired"
	tests := []struct {
		name, log string
		now       int // seconds after start
		terminal  bool
	}{
		{"first try", at(1, none), 1, false},
		{"a few tries", at(1, none) + at(4, none) + at(19, none), 20, false},
		{"still after twenty seconds", at(1, none) + at(9, none), 21, true},
		{"expired once", at(1, expired), 60, false},
		{"expired, and no time to renew it", at(1, expired) + at(2, expired), 5, false},
		{"expired for five seconds, the next try far off", at(1, expired) + at(2, expired), 6, true},
		{"access denied for five seconds", at(1, registerFails+"AccessDeniedException: no") + at(6, registerFails+"AccessDeniedException: no"), 6, true},
		{"a missing cluster at once", at(1, "Cluster not found."), 1, true},
		{"the network never", at(1, "request send failed RegisterContainerInstance") + at(300, "request send failed RegisterContainerInstance"), 301, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := machine(t, map[string]string{LogPath: tt.log})
			m.Now = func() time.Time { return start.Add(time.Duration(tt.now) * time.Second) }
			got, err := ReadLog(m, start)
			if err != nil || len(got) != 1 || got[0].Terminal != tt.terminal {
				t.Errorf("findings = %+v, %v", got, err)
			}
		})
	}
}

func TestWhatIsOverIsNoFinding(t *testing.T) {
	tests := []struct {
		name, agent, init string
		want              []failure.Code
	}{
		{"credentials came", at(1, "no valid providers in chain") + at(2, "Successfully got ECS instance credentials from provider: X"), "", nil},
		{"credentials came, another trouble", at(1, "no valid providers in chain") + at(2, "Successfully got ECS instance credentials from provider: X") +
			at(3, "Cluster not found."), "", []failure.Code{failure.ClusterNotFound}},
		{"registered after all", at(1, "ExpiredTokenException") + at(9, "ExpiredTokenException") + at(12, saysRegistered), "", nil},
		{"registration ends ecs-init's complaints", at(9, saysRegistered), at(1, "Agent exited with code 1") + at(2, "ECS Agent failed to start, retrying in 1s"), nil},
		{"a new failure after success", at(1, saysRegistered) + at(2, "Cluster not found."), "", []failure.Code{failure.ClusterNotFound}},
		{"reconnected", at(1, "ACS WebSocket connection closed") + at(2, saysConnected), "", nil},
		{"a registration does not connect", at(1, "Failed to connect to ACS") + at(2, saysRegistered), "", []failure.Code{failure.Network}},
		{"telemetry is another connection", at(1, "lost websocket connection with ECS Telemetry service") + at(2, saysConnected), "", []failure.Code{failure.Network}},
		{"cgroups stay broken", at(1, "Disabling TaskCPUMemLimit because x") + at(2, saysConnected), "", []failure.Code{failure.CgroupUnusable}},
		{"before since", at(-1, "Cluster not found."), "", nil},
		{"in the same second as since", at(0, "Cluster not found."), "", []failure.Code{failure.ClusterNotFound}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []failure.Code
			for _, f := range findingsIn(t, tt.agent, tt.init) {
				got = append(got, f.Code)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestReasonsComeBeforeSymptoms(t *testing.T) {
	got := findingsIn(t,
		at(1, "Unable to get Availability Zone ID")+at(2, "ACS: Unable to discover poll endpoint")+
			at(3, registerFails+"ClientException: Cluster not found.")+at(4, "Agent will terminally exit, unable to register container instance:"),
		at(5, "Agent exited with code 5")+at(6, "agent exited with terminal exit code: 5"))
	var codes []failure.Code
	for _, f := range got {
		codes = append(codes, f.Code)
	}
	want := []failure.Code{failure.ClusterNotFound, failure.RegistrationDenied, failure.RegistrationDenied, failure.Network, failure.AgentCrashLoop}
	if fmt.Sprint(codes) != fmt.Sprint(want) {
		t.Errorf("order %v, want %v", codes, want)
	}
	if got[1].File != InitLogPath || !got[1].Terminal {
		t.Errorf("the newest symptom is %+v", got[1])
	}
}

func TestLogFormats(t *testing.T) {
	const when = "2026-11-22T09:00:05Z"
	tests := []struct{ name, log string }{
		{"message first", `level=error time=` + when + ` msg="registration failed" error="ClientException: Cluster not found."` + "\n"},
		{"message last", `level=error time=` + when + ` error="ClientException: Cluster not found." cluster="x" msg="registration failed"` + "\n"},
		{"time last", `msg="time=yesterday" error="Cluster not found." level=error time=` + when + "\n"},
		{"old style", `level=error time=` + when + ` msg="ClientException: Cluster not found." module=ecs_client.go` + "\n"},
		{"JSON", `{"level":"error","time":"` + when + `","error":"ClientException: Cluster not found.","msg":"registration failed"}` + "\n"},
		{"a line that goes on", "level=error time=" + when + " msg=\"failed\nClientException: Cluster not found.\"\n"},
		{"no newline at the end", `level=error time=` + when + ` msg="Cluster not found."`},
		{"carriage return", `level=error time=` + when + ` msg="Cluster not found."` + "\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := findingsIn(t, tt.log, "")
			if len(got) != 1 || got[0].Code != failure.ClusterNotFound || got[0].Time.Format(time.RFC3339) != when || strings.Contains(got[0].Line, "\n") {
				t.Errorf("findings = %+v", got)
			}
		})
	}
	quoted := `level=warn time=` + when + ` msg="Invalid format for \"ECS_EXTERNAL\", expected a boolean but got [\"true\"]: x"` + "\n"
	if got := findingsIn(t, quoted, ""); len(got) != 1 || got[0].Code != failure.AgentConfig {
		t.Errorf("escaped quotes: %+v", got)
	}
}

func TestEvidenceIsShortAndHasNoSecrets(t *testing.T) {
	got := findingsIn(t, at(1, "Cluster not found. AWS_SECRET_ACCESS_KEY=canary-canary http://user:canary@proxy:1 "+strings.Repeat("x", 6000)), "")
	if len(got) != 1 || strings.Contains(got[0].Line, "canary") || len([]rune(got[0].Line)) > evidenceBound+1 || !strings.Contains(got[0].Line, "Cluster not found.") {
		t.Errorf("findings = %+v", got)
	}
	err := got[0].Error("could not register with ECS")
	if err.Code != failure.ClusterNotFound || !strings.HasPrefix(err.Evidence, LogPath+": level=error") || err.Advice() == "" {
		t.Errorf("Error = %+v", err)
	}
}

func TestOnlyTheEndOfALogIsRead(t *testing.T) {
	filler := strings.Repeat(at(2, strings.Repeat("x", 200)), 2*logTail/200)
	got := findingsIn(t, at(1, "Data mismatch; saved cluster 'a'")+filler+at(3, "Cluster not found."), "")
	if len(got) != 1 || got[0].Code != failure.ClusterNotFound {
		t.Errorf("findings = %+v", got)
	}
}

func TestLogThatWasJustRolledOver(t *testing.T) {
	r := machine(t, map[string]string{
		LogPath:         at(60, "nothing of note"),
		LogPath + ".1":  at(-7200, "Data mismatch; saved cluster 'a'"),
		LogPath + ".2":  at(30, "Cluster not found."),
		LogPath + "x.3": at(30, "ExpiredTokenException"),
	})
	root := filepath.Dir(local(r))
	for name, when := range map[string]time.Time{".1": start.Add(-time.Hour), ".2": start.Add(time.Minute)} {
		if err := os.Chtimes(filepath.Join(root, filepath.Base(LogPath)+name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadLog(r, start)
	if err != nil || len(got) != 1 || got[0].Code != failure.ClusterNotFound {
		t.Errorf("findings = %+v, %v", got, err)
	}
}

func local(r host.Reader) string { return r.Files.(*host.Dir).Local(LogPath) }

func TestNoLog(t *testing.T) {
	if got, err := ReadLog(machine(t, nil), start); err != nil || len(got) != 0 {
		t.Errorf("ReadLog = %+v, %v", got, err)
	}
}

func TestLogfmt(t *testing.T) {
	got := logfmt(`level=info  time=2026-11-22T09:00:00Z msg="a \"b\" c=d" x= word key="open`)
	want := map[string]string{"level": "info", "time": "2026-11-22T09:00:00Z", "msg": `a "b" c=d`, "x": "", "key": `"open`}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("logfmt = %q, want %q", got, want)
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add(at(1, "Cluster not found."))
	f.Add(`{"time":"2026-11-22T09:00:00Z"}` + "\n\n= =\"")
	f.Fuzz(func(t *testing.T, log string) {
		logfmt(log)
		for _, e := range parseEntries([]byte(log)) {
			if len(e.line) > entryBound || e.time.IsZero() && !strings.Contains(log, "0001-") {
				t.Errorf("entry %+v of %q", e, log)
			}
			evidence(e.line)
			recognise(e.text)
		}
	})
}
