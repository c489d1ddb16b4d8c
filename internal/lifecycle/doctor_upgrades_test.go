package lifecycle

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Versions that were taken back are told with what the kept logs say, and make no host ill.
func TestDoctorTellsVersionsThatWereTakenBack(t *testing.T) {
	p := newHealthy(t)
	failed := []FailedUpgrade{
		{Package: ecsagent.Package, Version: "1.10.0-1", At: "2026-11-20T10:00:00Z", Code: failure.AgentCrashLoop, Reason: "it has died 3 times", Logs: failedLogs + "/old.log"},
		{Package: ecsagent.Package, Version: "9.106.0-1", At: "2026-11-21T10:00:00Z", Code: failure.AgentCrashLoop, Reason: "it has died 4 times", Logs: failedLogs + "/crash.log"},
		{Package: ssmagent.Package, Version: "9.3.1.0", At: "2026-11-21T11:00:00Z", Code: "of_a_newer_program", Reason: "it ended", Logs: failedLogs + "/ssm.log"},
		{Package: ecsagent.Package, Version: "9.107.0-1", At: "2026-11-21T12:00:00Z", Code: failure.AgentConfig, Reason: "it does not take it", Logs: "/etc/shadow"},
	}
	text, err := json.Marshal(failed)
	if err != nil {
		t.Fatal(err)
	}
	p.write(failedPath, string(text))
	p.write(failedLogs+"/crash.log", "9.106.0-1 was taken back\n\n==> "+ecsagent.LogPath+" <==\n"+
		"level=info time=2026-11-21T09:59:00Z msg=\"fine\"\nlevel=critical time=2026-11-21T09:59:01Z msg=\"unexpected fault address 0x0\"\n"+
		"\n==> "+ssmagent.LogPath+" <==\n2026-11-21 09:59:02.0000 ERROR [x] of the other agent\n")
	p.write(failedLogs+"/ssm.log", "\n==> "+ecsagent.LogPath+" <==\nlevel=error msg=\"of the other agent\"\n"+
		"\n==> "+ssmagent.LogPath+" <==\n2026-11-21 10:59:02.0000 ERROR [x] segmentation violation "+strings.Repeat("x", 400)+"\n")
	p.write("/etc/shadow", "level=error msg=\"none of ours\"\n")

	report, got, err := p.doctor(DoctorRequest{})
	if err != nil || report.Exit != 0 || len(got.Findings) != len(failed) {
		t.Fatalf("%v, exit %d: %+v", err, report.Exit, got.Findings)
	}
	for _, want := range []struct {
		version, remedy, line string
		kind                  FindingKind
		code                  failure.Code
	}{
		{"1.10.0-1", "--ecs-agent-version 1.10.0-1", "", FindingHistory, failure.AgentCrashLoop},
		{"9.106.0-1", "less " + failedLogs + "/crash.log", "unexpected fault address 0x0", FindingWarning, failure.AgentCrashLoop},
		{"9.3.1.0", "anywhere upgrade --ssm-agent-version 9.3.1.0", "segmentation violation", FindingWarning, failure.NotVerified},
		{"9.107.0-1", "--ecs-agent-version 9.107.0-1", "", FindingWarning, failure.AgentConfig},
	} {
		found := false
		for _, f := range got.Findings {
			if !strings.Contains(f.Title, " "+want.version+" was taken back at 2026-11-2") {
				continue
			}
			found = true
			said := ""
			for _, e := range f.Evidence {
				if e.Source == "log" {
					said = e.Line
				}
			}
			if f.Kind != want.kind || f.Code != want.code || !strings.Contains(f.Remedy, want.remedy) || f.Since == "" ||
				!strings.Contains(said, want.line) || (said == "") != (want.line == "") || len(said) > complaintMost+3 {
				t.Errorf("%+v", f)
			}
		}
		if !found {
			t.Errorf("nothing of %s: %+v", want.version, got.Findings)
		}
	}
	p.write(failedPath, "[")
	if _, got, err := p.doctor(DoctorRequest{}); err != nil || len(got.Findings) > 0 {
		t.Errorf("unreadable: %v, %+v", err, got.Findings)
	}
}
