package simagent_test

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

func TestVersion(t *testing.T) {
	h := newHost(t)
	if code := h.ssm().Main(context.Background(), []string{"-version"}); code != 0 ||
		h.out.String() != "SSM Agent version: "+simagent.DefaultSSMVersion+"\n" {
		t.Errorf("got %d %q", code, h.out.String())
	}
	if code := h.ssm().Main(context.Background(), []string{"-version", "-y"}); code != 1 {
		t.Errorf("-version -y ended with %d", code)
	}
	if code := h.ssm().Main(context.Background(), []string{"-pluginName"}); code != 2 {
		t.Errorf("an unknown flag ended with %d", code)
	}
}

func TestRegistration(t *testing.T) {
	h := newHost(t)
	id := h.registered()
	nodes := h.cloud.Nodes()
	if len(nodes) != 1 || nodes[0].ID != id {
		t.Fatalf("the vault has %q, the service has %+v", id, nodes)
	}
	h.wants(" INFO Successfully registered the instance with AWS SSM using Managed instance-id: " + id)
	if k := h.identity(); k["region"] != "us-east-1" || k["privateKeyType"] != "Rsa" || k["privateKey"] == "" {
		t.Errorf("the vault has region %q and key type %q", k["region"], k["privateKeyType"])
	}
	want := `{"ManagedInstanceID":"` + id + `","Region":"us-east-1"}`
	if got := h.read("/var/lib/amazon/ssm/registration"); got != want {
		t.Errorf("registration is %s, want %s", got, want)
	}
	for name, want := range map[string]os.FileMode{
		"/var/lib/amazon/ssm": 0o700, "/var/lib/amazon/ssm/registration": 0o600,
		"/var/lib/amazon/ssm/Vault/Manifest": 0o600, "/var/lib/amazon/ssm/Vault/Store/RegistrationKey": 0o600,
		"/var/lib/amazon/ssm/Vault/Store/InstanceFingerprint": 0o600, "/var/log/amazon/ssm": 0o700,
	} {
		if got := h.mode(name); got != want {
			t.Errorf("%s has mode %o, want %o", name, got, want)
		}
	}
	var manifest map[string]string
	if err := json.Unmarshal([]byte(h.read("/var/lib/amazon/ssm/Vault/Manifest")), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest["RegistrationKey"] != "/var/lib/amazon/ssm/Vault/Store/RegistrationKey" {
		t.Errorf("the manifest is %v", manifest)
	}
}

func TestRefusedRegistrationsWipeTheVault(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name  string
		args  func(h *host) (id, code string)
		want  string
		calls int
	}{
		{"wrong code", func(h *host) (string, string) {
			id, _ := h.cloud.AddActivation(1, soon)
			return id, "AAAAAAAAAAAAAAAAAAAA"
		}, "error registering the instance with AWS SSM. InvalidActivation: ", 1},
		{"expired", func(h *host) (string, string) { return h.cloud.AddActivation(1, time.Now().Add(-time.Hour)) },
			"error registering the instance with AWS SSM. ActivationExpired: ", 1},
		{"used up", func(h *host) (string, string) { return h.cloud.AddActivation(0, soon) },
			"RegistrationLimitExceeded: ", 1},
		{"short code", func(h *host) (string, string) {
			id, _ := h.cloud.AddActivation(1, soon)
			return id, "short"
		}, "- minimum field size of 20, RegisterManagedInstanceInput.ActivationCode.", 0},
		{"short id", func(h *host) (string, string) { return "short", "AAAAAAAAAAAAAAAAAAAA" },
			"- minimum field size of 36, RegisterManagedInstanceInput.ActivationId.", 0},
		{"throttled", func(h *host) (string, string) {
			_ = h.cloud.Fault(emulator.FaultThrottled)
			return h.cloud.AddActivation(1, soon)
		}, "ThrottlingException: Rate exceeded\n\tstatus code: 400, request id: ", 4},
		{"server error", func(h *host) (string, string) {
			_ = h.cloud.Fault(emulator.FaultServerError)
			return h.cloud.AddActivation(1, soon)
		}, "InternalServerError: ", 4},
		{"no network", func(h *host) (string, string) {
			h.write("/etc/amazon/ssm/amazon-ssm-agent.json", `{"Ssm":{"Endpoint":"http://127.0.0.1:1"}}`)
			return h.cloud.AddActivation(1, soon)
		}, "RequestError: send request failed\ncaused by: Post \"http://127.0.0.1:1/\": dial tcp", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			old := h.registered()
			before := len(h.cloud.Requests())
			id, code := c.args(h)
			if exit := h.register(id, code, "-y"); exit != 1 {
				t.Errorf("ended with %d", exit)
			}
			h.wants(c.want)
			if got := len(h.cloud.Requests()) - before; got != c.calls {
				t.Errorf("%d requests, want %d", got, c.calls)
			}
			if k := h.identity(); k["instanceID"] != "" || k["region"] != "" || k["privateKey"] == "" {
				t.Errorf("the vault is not wiped: id %q", k["instanceID"])
			}
			if side := h.read("/var/lib/amazon/ssm/registration"); !strings.Contains(side, old) {
				t.Errorf("the side file does not tell of %s any more: %s", old, side)
			}
		})
	}
}

func TestFaultsOfActivations(t *testing.T) {
	h := newHost(t)
	id, code := h.cloud.AddActivation(1, time.Now().Add(time.Hour))
	for fault, want := range map[string]string{
		emulator.FaultActivationExpired: "ActivationExpired: ", emulator.FaultActivationInvalid: "InvalidActivation: ",
		emulator.FaultActivationUsedUp: "RegistrationLimitExceeded: ",
	} {
		if err := h.cloud.FaultFor(fault, 1); err != nil {
			t.Fatal(err)
		}
		if exit := h.register(id, code); exit != 1 {
			t.Errorf("with %s it ended with %d", fault, exit)
		}
		h.wants(want)
	}
	if left, _ := h.cloud.ActivationsLeft(id); left != 1 {
		t.Errorf("refused registrations used the activation: %d left", left)
	}
}

func TestARegisteredHostIsAskedFirst(t *testing.T) {
	h := newHost(t)
	old := h.registered()
	before := h.read("/var/lib/amazon/ssm/Vault/Store/RegistrationKey")
	for _, c := range []struct {
		stdin io.Reader
		want  string
	}{
		{nil, "Registration failed due to EOF"}, {strings.NewReader("no\n"), "Registration canceled by user"},
		{strings.NewReader("what\n"), "Registration failed due to Invalid response received."},
	} {
		agent := h.ssm()
		agent.Stdin = c.stdin
		id, code := h.cloud.AddActivation(1, time.Now().Add(time.Hour))
		args := []string{"-register", "-id", id, "-code", code, "-region", "us-east-1"}
		if exit := agent.Main(context.Background(), args); exit != 1 {
			t.Errorf("ended with %d", exit)
		}
		h.wants("[Yes/No]: ", c.want)
		if h.read("/var/lib/amazon/ssm/Vault/Store/RegistrationKey") != before {
			t.Errorf("the vault changed at %q", c.want)
		}
	}
	id, code := h.cloud.AddActivation(1, time.Now().Add(time.Hour))
	if exit := h.register(id, code, "-y"); exit != 0 || h.identity()["instanceID"] == old {
		t.Errorf("-y ended with %d and id %s", exit, h.identity()["instanceID"])
	}
	if left, _ := h.cloud.ActivationsLeft(id); left != 0 {
		t.Errorf("the activation has %d registrations left", left)
	}
}

func TestClearLeavesTheSideFile(t *testing.T) {
	h := newHost(t)
	id := h.registered()
	if exit := h.ssm().Main(context.Background(), []string{"-register", "-clear"}); exit != 0 {
		t.Errorf("ended with %d", exit)
	}
	if h.identity()["instanceID"] != "" || !strings.Contains(h.read("/var/lib/amazon/ssm/registration"), id) {
		t.Error("the vault still has the id, or the side file has lost it")
	}
	if got, want := h.read("/var/lib/amazon/ssm/Vault/Store/InstanceFingerprint"),
		`{"fingerprint":"","hardwareHash":null,"similarityThreshold":0}`; got != want {
		t.Errorf("the fingerprint is %s", got)
	}
}

func TestTheServiceUnregistered(t *testing.T) {
	h := newHost(t)
	if code := h.ssm().Serve(context.Background()); code != 0 {
		t.Errorf("ended with %d", code)
	}
	h.wants("Agent failed to assume any identity", "failed to find agent identity")
	h.write("/etc/amazon/ssm/amazon-ssm-agent.json", "{")
	if code := h.ssm().Serve(context.Background()); code != 1 {
		t.Errorf("with a malformed configuration it ended with %d", code)
	}
	h.wants("app config could not be loaded")
}

func TestTheServiceSharesItsKeys(t *testing.T) {
	const existing = "# mine\n[default]\nregion = eu-west-1\n\n[other]\naws_access_key_id = AKIAOTHER\n"
	for _, c := range []struct {
		name, config, before string
		check                func(t *testing.T, h *host, text string)
	}{
		{"new file", "", "", func(t *testing.T, h *host, text string) {
			lines := strings.Split(text, "\n")
			for i, prefix := range []string{
				"[default]", "aws_access_key_id     = ASIA", "aws_secret_access_key = ", "aws_session_token     = ",
			} {
				if !strings.HasPrefix(lines[i], prefix) {
					t.Errorf("line %d is not %q…", i+1, prefix)
				}
			}
			if h.mode("/root/.aws/credentials") != 0o600 || h.mode("/root/.aws") != 0o700 {
				t.Error("the file or its folder can be read by others")
			}
		}},
		{"kept", "", existing, func(t *testing.T, h *host, text string) {
			for _, want := range []string{"# mine", "eu-west-1", "[other]", "AKIAOTHER", "ASIA"} {
				if !strings.Contains(text, want) {
					t.Errorf("the file lacks %q", want)
				}
			}
			if h.mode("/root/.aws/credentials") != 0o644 {
				t.Error("the mode changed")
			}
		}},
		{"profile", `,"Profile":{"ShareProfile":"ssm"}`, existing, func(t *testing.T, h *host, text string) {
			if head, _, ok := strings.Cut(text, "[ssm]"); !ok || strings.Contains(head, "ASIA") {
				t.Error("the keys are not in [ssm] alone")
			}
		}},
		{"unparsable", "", "this is not\nan ini file", func(t *testing.T, h *host, text string) {
			h.wants("Force update is enabled, creating a new empty config")
			if strings.Contains(text, "this is not") || !strings.Contains(text, "ASIA") {
				t.Error("the file was not replaced")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			id := h.registered()
			if c.config != "" {
				h.write("/etc/amazon/ssm/amazon-ssm-agent.json", `{"Ssm":{"Endpoint":"`+h.url+`"}`+c.config+`}`)
			}
			if c.before != "" {
				h.write("/root/.aws/credentials", c.before)
			}
			stop := h.serve()
			h.until("a ping", func() bool { n := h.cloud.Nodes(); return len(n) == 1 && n[0].Platform != "" })
			if code := stop(); code != 0 {
				t.Errorf("SIGTERM ended the service with %d", code)
			}
			c.check(t, h, h.read("/root/.aws/credentials"))
			h.wants("Agent will take identity from OnPrem", "[CredentialRefresher] Credentials ready",
				"Next credential rotation will be in 30.00 minutes")
			var known struct {
				InstanceId, IdentityType, ShareFile, CredentialSource string
				CredentialsExpiresAt                                  time.Time
			}
			text := h.read("/var/lib/amazon/ssm/runtimeconfig/identity_config.json")
			if err := json.Unmarshal([]byte(text), &known); err != nil {
				t.Fatal(err)
			}
			if known.InstanceId != id || known.IdentityType != "OnPrem" || known.ShareFile != "/root/.aws/credentials" ||
				known.CredentialSource != "SSM" || time.Until(known.CredentialsExpiresAt) < 59*time.Minute {
				t.Errorf("identity_config.json is %+v", known)
			}
			if n := h.cloud.Nodes()[0]; n.Platform != "Debian GNU/Linux" || n.Computer != "vm" ||
				n.AgentVersion != simagent.DefaultSSMVersion {
				t.Errorf("the node is %+v", n)
			}
		})
	}
}

func TestKeysOfAnEarlierStartAreUsedAgain(t *testing.T) {
	h := newHost(t)
	h.registered()
	for range 2 {
		stop := h.serve()
		h.until("the worker", func() bool { return h.says("Next credential rotation") })
		stop()
	}
	tokens := 0
	for _, r := range h.cloud.Requests() {
		if r.Operation == "ssm:RequestManagedInstanceRoleToken" {
			tokens++
		}
	}
	if tokens != 1 {
		t.Errorf("%d role tokens were asked for", tokens)
	}
}

func TestRefusedRoleTokens(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(h *host, id string)
		want   string
		atMost time.Duration // of the first sleep
		least  time.Duration
	}{
		{"clone", func(h *host, _ string) { h.write("/etc/machine-id", "ffffffffffffffffffffffffffffffff\n") },
			"MachineFingerprintDoesNotMatch", 30 * time.Minute, 25 * time.Minute},
		{"role", func(h *host, _ string) { _ = h.cloud.Fault(emulator.FaultRoleTokenDenied) },
			"AccessDeniedException", 30 * time.Minute, 25 * time.Minute},
		{"clock", func(h *host, _ string) { _ = h.cloud.Fault(emulator.FaultClockSkew) }, "Signature expired",
			22 * time.Second, 11 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			c.spoil(h, h.registered())
			stop := h.serve()
			h.until("a refusal", func() bool { return h.says("before retrying retrieve credentials") })
			stop()
			h.wants("Retrieve credentials produced error: ", c.want, "Status code 400 returned from AWS API. RequestId: ")
			found := false
			for _, d := range h.clock.pauses() {
				found = found || d >= c.least && d <= c.atMost
			}
			if !found {
				t.Errorf("it slept %v", h.clock.pauses())
			}
			if _, err := os.Stat(filepath.Join(h.root, "/root/.aws/credentials")); err == nil {
				t.Error("there are keys")
			}
			if !strings.Contains(h.read("/var/log/amazon/ssm/errors.log"), c.want) {
				t.Error("errors.log does not have it")
			}
		})
	}
}

func TestACloneLosesItsOldFingerprint(t *testing.T) {
	h := newHost(t)
	h.registered()
	const file = "/var/lib/amazon/ssm/Vault/Store/InstanceFingerprint"
	before := h.read(file)
	h.write("/etc/machine-id", "ffffffffffffffffffffffffffffffff\n")
	stop := h.serve()
	h.until("a refusal", func() bool { return h.says("before retrying") })
	stop()
	h.wants("Cannot connect to AWS Systems Manager.  The hardware ID (",
		"Calculated hardware difference, regenerating fingerprint...")
	if h.read(file) == before {
		t.Error("the fingerprint is the old one")
	}
}

func TestADeregisteredNodeHibernates(t *testing.T) {
	h := newHost(t)
	h.registered()
	stop := h.serve()
	h.until("a ping", func() bool { return !h.cloud.Nodes()[0].LastPing.IsZero() })
	stop()
	other := newHost(t) // a service that does not know the node
	h.write("/etc/amazon/ssm/amazon-ssm-agent.json", `{"Ssm":{"Endpoint":"`+other.url+`"}}`)
	stop = h.serve()
	h.until("hibernation", func() bool { return h.says("Entering SSM Agent hibernate - ") })
	if code := stop(); code != 0 {
		t.Errorf("ended with %d", code)
	}
}
