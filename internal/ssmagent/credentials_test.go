package ssmagent

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const foreignDefault = `# put here by hand
[default]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = not-a-real-secret-0123456789
region = eu-central-1
`

func TestCredentials(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    string // "-": there is none
		runtime fields // nil: there is none
		profile string
		ours    bool
		foreign string // in the reason; empty: not foreign
	}{
		{"absent", "-", nil, "", false, ""},
		{"empty", "", nil, "", false, ""},
		{"ours", asTheAgentWrites, runtimeFile(ourID, now, now.Add(time.Hour)), "", true, ""},
		{"ours, default named", asTheAgentWrites, runtimeFile(ourID, now, now.Add(time.Hour)), "default", true, ""},
		{"looks like ours, nothing says so", asTheAgentWrites, nil, "", false, RuntimePath + " does not say"},
		{"foreign default", foreignDefault, nil, "", false, "long-term key ****MPLE"},
		{"foreign default on a registered host", foreignDefault, runtimeFile(ourID, now, now.Add(time.Hour)), "", false, "long-term key"},
		{"a long-term key over ours, the token still there", strings.Replace(asTheAgentWrites, "ASIA", "AKIA", 1),
			runtimeFile(ourID, now, now.Add(time.Hour)), "", false, "long-term key"},
		{"a temporary key without a token", strings.Replace(asTheAgentWrites, "aws_session_token", "#", 1),
			runtimeFile(ourID, now, now.Add(time.Hour)), "", false, "temporary key"},
		{"foreign other profile", strings.Replace(foreignDefault, "default", "backup", 1), nil, "", false, ""},
		{"own profile beside a foreign default", foreignDefault, nil, "ssm", false, ""},
		{"foreign key in the wanted profile", strings.Replace(foreignDefault, "default", "ssm", 1), nil, "ssm", false, "profile [ssm]"},
		{"only a Region", "[default]\nregion = eu-central-1\n", nil, "", false, ""},
		{"a process", "[default]\ncredential_process = /bin/secret-tool\n", nil, "", false, "credential_process"},
		{"unparsable", "[default\naws_secret_access_key = not-a-real-secret-0123456789\n", nil, "", false, "cannot be parsed"},
		{"a line that is none", "[default]\nnot-a-real-secret-0123456789\n", nil, "", false, "cannot be parsed"},
		{"the agent maintains another profile", asTheAgentWrites, func() fields {
			run := runtimeFile(ourID, now, now.Add(time.Hour))
			run["ShareProfile"] = "ssm"
			return run
		}(), "", false, "the SSM agent maintains [ssm]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.registered(ourID)
			if c.file != "-" {
				m.write(CredentialsPath, c.file)
			}
			if c.runtime != nil {
				m.json(RuntimePath, c.runtime)
			}
			got, err := ReadCredentials(m.reader(), c.profile)
			if err != nil {
				t.Fatal(err)
			}
			i, err := ReadIdentity(m.reader())
			if err != nil {
				t.Fatal(err)
			}
			if got.Exists != (c.file != "-") || got.Ours != c.ours {
				t.Errorf("got %+v, want Ours %v", got, c.ours)
			}
			why, foreign := Foreign(got, i, c.profile)
			if foreign != (c.foreign != "") || !strings.Contains(why, c.foreign) {
				t.Errorf("Foreign = %q, %v; want %q", why, foreign, c.foreign)
			}
			all, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(all)+why, "not-a-real") {
				t.Errorf("a secret left: %s %s", all, why)
			}
		})
	}
}

func TestCredentialsFields(t *testing.T) {
	m := newMachine(t)
	m.running(ourID, now)
	m.writeMode(CredentialsPath, asTheAgentWrites+"[backup]\naws_access_key_id=x\n", 0o644)
	got, err := ReadCredentials(m.reader(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !got.Parsable || !got.HasProfile || !got.Temporary || !got.HasSession || got.KeyID != "****MPLE" || got.Mode != 0o644 ||
		!slices.Equal(got.Profiles, []string{"default", "backup"}) {
		t.Errorf("got %+v", got)
	}
}

func TestCredentialsNeedRoot(t *testing.T) {
	m := newMachine(t)
	m.write(CredentialsPath, asTheAgentWrites)
	r := m.reader()
	r.Files = deniedFiles{m.dir, CredentialsPath}
	if _, err := ReadCredentials(r, ""); !failure.Is(err, failure.NotRoot) {
		t.Errorf("error %v, want the code not_root", err)
	}
}

func TestCredentialsReady(t *testing.T) {
	started := now.Add(-time.Minute)
	for _, c := range []struct {
		name  string
		make  func(m machine)
		ready bool
		says  string
	}{
		{"nothing yet", func(m machine) { m.remove(RuntimePath) }, false, "has not fetched"},
		{"ready", func(machine) {}, true, "until 2026-11-22T12:59:30Z"},
		{"of before the start", func(m machine) {
			m.json(RuntimePath, runtimeFile(ourID, now.Add(-2*time.Minute), now.Add(time.Hour)))
		}, false, "still those of 2026-11-22T11:58:00Z"},
		{"expired", func(m machine) { m.json(RuntimePath, runtimeFile(ourID, now, now)) }, false, "expired at"},
		{"of another node", func(m machine) { m.json(RuntimePath, runtimeFile(otherID, now, now.Add(time.Hour))) }, false, otherID},
		{"not shared", func(m machine) {
			run := runtimeFile(ourID, now, now.Add(time.Hour))
			run["ShareFile"] = ""
			m.json(RuntimePath, run)
		}, false, "ShareCreds is off"},
		{"elsewhere", func(m machine) {
			run := runtimeFile(ourID, now, now.Add(time.Hour))
			run["ShareFile"] = "/home/me/.aws/credentials"
			m.json(RuntimePath, run)
		}, false, "/home/me/.aws/credentials"},
		{"file missing", func(m machine) { m.remove(CredentialsPath) }, false, "no credentials of the agent in profile [default]"},
		{"own profile", func(m machine) {
			run := runtimeFile(ourID, now, now.Add(time.Hour))
			run["ShareProfile"] = "ssm"
			m.json(RuntimePath, run)
			m.write(ConfigPath, `{"Profile":{"ShareProfile":"ssm"}}`)
			m.write(CredentialsPath, foreignDefault+strings.Replace(asTheAgentWrites, "default", "ssm", 1))
		}, true, ourID},
		{"told to maintain another profile since", func(m machine) {
			m.write(ConfigPath, `{"Profile":{"ShareProfile":"ssm"}}`)
		}, false, "still maintains profile [default], and is told to maintain [ssm]"},
		{"runtime cut", func(m machine) { m.write(RuntimePath, `{"InstanceId":`) }, false, "cannot be understood"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.running(ourID, now.Add(-30*time.Second))
			m.write(CredentialsPath, asTheAgentWrites)
			c.make(m)
			ready, says := CredentialsReady(m.reader(), Identity{InstanceID: ourID}, started)
			if ready != c.ready || !strings.Contains(says, c.says) {
				t.Errorf("CredentialsReady = %v, %q; want %v, %q", ready, says, c.ready, c.says)
			}
		})
	}
}

func TestCheckProfile(t *testing.T) {
	for name, good := range map[string]bool{
		"ecs-anywhere": true, "default": true, "A_1": true, "DEFAULT": false, "": false, "a.b": false, "a b": false,
		"a]": false, "a\nb": false, "é": false, strings.Repeat("a", 65): false,
	} {
		err := CheckProfile(name)
		if (err == nil) != good || err != nil && !failure.Is(err, failure.Usage) {
			t.Errorf("CheckProfile(%q) = %v", name, err)
		}
	}
}

func TestSharedFile(t *testing.T) {
	const at = "/etc/systemd/system/amazon-ssm-agent.service.d/x.conf"
	home, file := host.UnitVariable{Name: "HOME", At: at}, host.UnitVariable{Name: "AWS_SHARED_CREDENTIALS_FILE", At: at}
	of := func(v host.UnitVariable, value string) host.UnitVariable { v.Value = value; return v }
	for _, c := range []struct {
		variables []host.UnitVariable
		file      string
		elsewhere bool
	}{
		{nil, CredentialsPath, false},
		{[]host.UnitVariable{of(home, "/root")}, CredentialsPath, false},
		{[]host.UnitVariable{of(home, "/var/empty")}, "/var/empty/.aws/credentials", true},
		{[]host.UnitVariable{of(file, "/etc/aws"), of(home, "/var/empty")}, "/etc/aws", true},
		{[]host.UnitVariable{of(home, "/var/empty"), of(file, "/root/.aws/../.aws/credentials")}, CredentialsPath, false},
	} {
		got, because := SharedFile(c.variables)
		if got != c.file || (because == at) != c.elsewhere {
			t.Errorf("SharedFile(%v) = %s, %s", c.variables, got, because)
		}
	}
}

func FuzzParseCredentials(f *testing.F) {
	for _, text := range []string{asTheAgentWrites, foreignDefault, "[default", "a.b=%(a.b)s", "[x]\nk=`multi\nline`", "[a]\n[a.b]\nk = \"\"\"x\"\"\"", "\ufeff[default]\n"} {
		f.Add([]byte(text), "default")
	}
	f.Fuzz(func(t *testing.T, text []byte, profile string) {
		c := parseCredentials(text, profile)
		if !c.Exists || !c.Parsable && (c.HasProfile || len(c.Profiles) > 0) {
			t.Errorf("contradiction: %+v", c)
		}
		if len(c.KeyID) > 8 {
			t.Errorf("KeyID shows more than four characters: %q", c.KeyID)
		}
	})
}
