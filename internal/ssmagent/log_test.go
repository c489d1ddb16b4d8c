package ssmagent

import (
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestKnownLines(t *testing.T) {
	const retrieve = "ERROR [CredentialRefresher] Retrieve credentials produced error: "
	for _, c := range []struct {
		line     string
		code     failure.Code
		terminal bool
	}{
		{retrieve + "InvalidInstanceId: Not existing InstanceId " + ourID, failure.NodeUnknown, true},
		{"INFO [ssm-agent-worker] Entering SSM Agent hibernate - InvalidInstanceId: x", failure.NodeUnknown, true},
		{retrieve + "MachineFingerprintDoesNotMatch: Fingerprint doesn't match", failure.FingerprintChanged, true},
		{"ERROR Cannot connect to AWS Systems Manager.  The hardware ID (abc\n) has changed from the registered value (def\n).", failure.FingerprintChanged, true},
		{"ERROR Machine configuration has changed more than the allowed threshold.", failure.FingerprintChanged, true},
		{"WARN The 'ipaddress-info' value (10.0.0.2) has changed from the registered machine configuration value (10.0.0.1).", "", false},
		{retrieve + "AccessDeniedException: Systems Manager's instance management role is not configured", failure.AccessDenied, true},
		{"INFO Entering SSM Agent hibernate - AccessDeniedException: User is not authorized", failure.AccessDenied, true},
		{"ERROR error when calling AWS APIs. error details - AccessDeniedException: ec2messages:GetMessages", failure.AccessDenied, false},
		{retrieve + "InvalidSignatureException: Signature expired: 20261122T120000Z is now earlier than", failure.ClockSkew, true},
		{retrieve + "RequestError: send request failed\ncaused by: Post \"https://ssm.eu-central-1.amazonaws.com/\": dial tcp 10.0.0.1:443: connect: connection refused", failure.Network, false},
		{retrieve + "RequestError: send request failed\ncaused by: dial tcp: lookup ssm.eu-central-1.amazonaws.com: no such host", failure.Network, false},
		{retrieve + "RequestError: send request failed\ncaused by: tls: failed to verify certificate: x509: certificate signed by unknown authority", failure.TLSUntrusted, true},
		{retrieve + "RequestError: send request failed\ncaused by: x509: certificate has expired or is not yet valid", failure.ClockSkew, true},
		{retrieve + "RequestError: send request failed\ncaused by: proxyconnect tcp: tls: first record does not look like a TLS handshake", failure.Network, true},
		{retrieve + "ThrottlingException: Rate exceeded\n\tstatus code: 400, request id: 1", failure.Throttled, false},
		{retrieve + "InternalServerError: \n\tstatus code: 500, request id: 1", failure.AWSUnavailable, false},
		{"INFO [CredentialRefresher] Sleeping for 19s before retrying retrieve credentials", "", false},
		{"ERROR [CredentialRefresher] credentials refresher panic: runtime error", failure.AWSUnavailable, false},
		{"INFO Entering SSM Agent hibernate - something new", failure.CredentialsInvalid, false},
		{"ERROR [MGSInteractor] Failed to get controlchannel token, error: AccessDeniedException", failure.AccessDenied, false},
		{"ERROR [MGSInteractor] Failed to get controlchannel token, error: x509: certificate signed by unknown authority", failure.Network, false},
		{"ERROR [MDSInteractor] MDSInteractor stopped temporarily due to internal failure. We will retry automatically after 15 minutes", failure.Network, false},
		{"ERROR error when calling AWS APIs. error details - Something: new", failure.AWSUnavailable, false},
		{"WARN [OnPremIdentity] error while loading server info Failed to load instance info from vault. RegistrationKey does not exist.", failure.IdentityUnknown, true},
		{"ERROR Failed to load instance info from vault. unexpected end of JSON input", failure.IdentityUnknown, true},
		{"ERROR Agent failed to assume any identity", failure.IdentityUnknown, true},
		{"ERROR failed to find agent identity", failure.IdentityUnknown, true},
		{"ERROR app config could not be loaded", failure.AgentConfig, true},
		{"WARN shared credentials are already expired, they were retrieved at 1 and expired at 2", failure.CredentialsExpired, false},
		{"ERROR Failed to load shared credentials file. Force update is enabled, creating a new empty config", failure.ForeignProfile, false},
		{"ERROR Failed to write credentials to disk, attempting force write", failure.ReadOnly, false},
		{"ERROR Failed to roll-back remove public key change, instance most likely needs to be re-registered", failure.CredentialsInvalid, true},
		{"INFO Agent will take identity from OnPrem", "", false},
		{"INFO [CredentialRefresher] Credentials ready", "", false},
	} {
		m := newMachine(t)
		m.write(LogPath, "2026-11-22 11:59:00.1234 "+c.line+"\n")
		findings, err := ReadLog(m.reader(), now.Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if c.code == "" {
			if len(findings) != 0 {
				t.Errorf("%s\n\tfound %+v; it is harmless", c.line, findings)
			}
			continue
		}
		if len(findings) != 1 || findings[0].Code != c.code || findings[0].Terminal != c.terminal {
			t.Errorf("%s\n\tfound %+v; want %s, terminal %v", c.line, findings, c.code, c.terminal)
			continue
		}
		if f := findings[0]; f.Cause == "" || f.Remedy == "" || strings.Contains(f.Line, "\n") || f.File != LogPath {
			t.Errorf("%s\n\tis told as %+v", c.line, f)
		}
	}
}

func TestEveryFailureIsWhole(t *testing.T) {
	for _, f := range Failures {
		cause, remedy := f.explained()
		if own, ok := explain(f.Sample); !ok || own.Pattern.String() != f.Pattern.String() || !worth.MatchString(f.Sample) {
			t.Errorf("%s: its sample %q is %s", f.Pattern, f.Sample, own.Pattern)
		}
		if _, known := failure.Catalogue[f.Code]; !known || cause == "" || remedy == "" || f.Source == "" || f.Log() == "" {
			t.Errorf("%s: code %q, cause %q, remedy %q, source %q", f.Pattern, f.Code, cause, remedy, f.Source)
		}
	}
}

func TestReadLogIsInLocalTimeAndOnlyNewer(t *testing.T) {
	kolkata := time.FixedZone("IST", 5*3600+1800)
	m := newMachine(t)
	r := m.reader()
	r.Now = func() time.Time { return now.In(kolkata) }
	m.write(LogPath, strings.Join([]string{
		"2026-11-22 17:00:00.0000 ERROR InvalidInstanceId: old",
		"2026-11-22 17:20:00.0000 ERROR MachineFingerprintDoesNotMatch: new",
		"",
	}, "\n"))
	findings, err := ReadLog(r, time.Date(2026, 11, 22, 11, 45, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	want := time.Date(2026, 11, 22, 11, 50, 0, 0, time.UTC)
	if len(findings) != 1 || findings[0].Code != failure.FingerprintChanged || !findings[0].Time.Equal(want) {
		t.Errorf("found %+v; want the one of %s", findings, want)
	}
}

func TestReadLogJoinsBothFiles(t *testing.T) {
	m := newMachine(t)
	m.write(LogPath, "2026-11-22 11:50:00.0000 INFO start\n"+
		"2026-11-22 11:52:00.0001 ERROR InvalidInstanceId: b\n")
	m.write(ErrorLogPath, "2026-11-22 11:51:00.0000 ERROR [f @ x.go:1] ThrottlingException: rotated out of the log\n"+
		"2026-11-22 11:52:00.0001 ERROR [f @ x.go:2] InvalidInstanceId: b\n")
	findings, err := ReadLog(m.reader(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) != 2 || findings[0].Code != failure.Throttled || findings[1].Code != failure.NodeUnknown || findings[1].File != LogPath {
		t.Errorf("found %+v; want throttled of errors.log, then node_unknown once, of the log", findings)
	}
}

func TestReadLogReadsTheEndOfALargeFile(t *testing.T) {
	m := newMachine(t)
	filler := strings.Repeat("2026-11-22 11:00:00.0000 INFO "+strings.Repeat("x", 70)+"\n", 20*1024) // 2 MiB
	m.write(LogPath, "2026-11-22 10:00:00.0000 ERROR InvalidInstanceId: too far back\n"+filler+
		"2026-11-22 11:30:00.0000 ERROR ThrottlingException: at the end\n")
	findings, err := ReadLog(m.reader(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if len(findings) != 1 || findings[0].Code != failure.Throttled {
		t.Errorf("found %+v; want only the last line", findings)
	}
}

func TestReadLogWithoutLogs(t *testing.T) {
	findings, err := ReadLog(newMachine(t).reader(), time.Time{})
	if err != nil || len(findings) != 0 {
		t.Errorf("found %+v, error %v; want nothing", findings, err)
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"3.3.987.0", "3.3.987.0", 0},
		{"3.3.987.0-1", "3.3.987.0", 0},
		{"3.3.987.0", "3.3.1230.0", -1},
		{"3.10.0.0", "3.9.0.0", 1},
		{"4.0.0.0", "3.9999.9999.9999", 1},
		{"", "3.0.0.0", -1},
		{"3.3.1", "3.0.0.0", -1},
		{"x", "y", 0},
	} {
		if got := CompareVersions(c.a, c.b); got != c.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
		if got := CompareVersions(c.b, c.a); got != -c.want {
			t.Errorf("CompareVersions(%q, %q) = %d, want %d", c.b, c.a, got, -c.want)
		}
	}
	for version, want := range map[string]string{
		"3.2.183.0":   "issues/484",
		"3.2.183.0-1": "issues/484",
		"3.2.286.0":   "",
		"3.1.282.0":   "up to 3.1.282.0",
		"2.3.1.0":     "up to 3.1.282.0",
		"3.1.338.0":   "",
		"3.3.4000.0":  "",
		"":            "",
		"nonsense":    "",
	} {
		reason, bad := KnownBad(version)
		if bad != (want != "") || !strings.Contains(reason, want) {
			t.Errorf("KnownBad(%q) = %q, %v; want %q", version, reason, bad, want)
		}
	}
}
