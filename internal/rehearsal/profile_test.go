package rehearsal

import (
	"strings"
	"testing"
)

const person = "# put here by hand\n[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = not-a-real-secret\nregion = eu-west-1\n"

// unregistered is a stage with a token, on whose host nothing was done.
func unregistered(t *testing.T) *stage {
	t.Helper()
	env, _, _ := world()
	s, err := newStage(t.TempDir(), env, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	s.anotherToken()
	return s
}

// A person's default profile stops a registration; a profile of SSM Agent's own lets both live, and is kept by later runs
// that do not name it.
func TestAProfileOfTheAgentsOwn(t *testing.T) {
	t.Parallel()
	s := unregistered(t)
	s.write(t, "root/.aws/credentials", person+"[mine]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n")
	register := line{args: []string{"register", "--token", "-"}, token: true}
	refused := s.run(t, register)
	if refused.RC != 3 || refused.Error.Code != "foreign_credentials" || !strings.Contains(refused.Error.Remedy, "--ssm-profile ecs-anywhere") {
		t.Fatalf("a person's default profile: %+v", refused)
	}
	if refused = s.run(t, register, "--ssm-profile", "mine"); refused.RC != 3 || refused.Error.Code != "foreign_credentials" {
		t.Fatalf("a person's other profile: %+v", refused)
	}
	if refused = s.run(t, register, "--ssm-profile", "a b"); refused.RC != 2 {
		t.Fatalf("no name: %+v", refused)
	}

	first := s.run(t, register, "--ssm-profile", "ecs-anywhere")
	if first.RC != 0 || first.Result.Verified != "local" {
		t.Fatalf("%+v", first)
	}
	credentials := s.read(t, "root/.aws/credentials")
	for _, want := range []string{"AKIAIOSFODNN7EXAMPLE", "not-a-real-secret", "[ecs-anywhere]", "ASIA"} {
		if !strings.Contains(credentials, want) {
			t.Errorf("the credentials file lacks %s:\n%s", want, credentials)
		}
	}
	if at := strings.Index(credentials, "[ecs-anywhere]"); strings.Contains(credentials[:at], "ASIA") {
		t.Errorf("the agent wrote another profile than its own:\n%s", credentials)
	}
	if config := s.read(t, "etc/ecs/ecs.config"); !strings.Contains(config, "ECS_ALTERNATE_CREDENTIAL_PROFILE=ecs-anywhere\n") {
		t.Errorf("the ECS agent is not told: %s", config)
	}
	if names := s.backups(t); len(names) != 1 || !strings.HasPrefix(names[0], "root-aws-credentials-") {
		t.Errorf("the file's copy is missing: %v", names)
	}
	for _, flags := range [][]string{nil, {"--ssm-profile", "ecs-anywhere"}} {
		if again := s.run(t, line{args: []string{"register"}}, flags...); again.RC != 0 || again.Changed {
			t.Errorf("again with %v: %+v", flags, again)
		}
	}
	if checked := s.run(t, line{args: []string{"preflight", "--only", "credentials.chain"}}); checked.RC != 0 {
		t.Errorf("preflight of the registered host: %+v", checked)
	}
}

// A registered host gets a profile of its own without being registered anew.
func TestAProfileAfterwards(t *testing.T) {
	t.Parallel()
	s, before := registered(t)
	s.write(t, "root/.aws/credentials", s.read(t, "root/.aws/credentials")+"[mine]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n")
	after := s.run(t, line{args: []string{"register"}}, "--ssm-profile", "ecs")
	if after.RC != 0 || !after.Changed || after.Result.ManagedInstanceID != before.Result.ManagedInstanceID {
		t.Fatalf("%+v\n%+v", before, after)
	}
	if credentials := s.read(t, "root/.aws/credentials"); !strings.Contains(credentials, "[ecs]") || !strings.Contains(credentials, "[mine]") {
		t.Errorf("%s", credentials)
	}
	if names := s.backups(t); len(names) != 1 {
		t.Errorf("the file's copy is missing: %v", names)
	}
	if again := s.run(t, line{args: []string{"register"}}); again.RC != 0 || again.Changed {
		t.Errorf("and again: %+v", again)
	}
}

// A GPU host without a driver is refused before anything is changed; where it is there, ecs-init is told in the file that
// waits for it.
func TestGPUs(t *testing.T) {
	t.Parallel()
	s := unregistered(t)
	register := line{args: []string{"register", "--token", "-"}, token: true}
	refused := s.run(t, register, "--enable-gpu")
	if refused.RC != 3 || refused.Error.Code != "gpu_unusable" || refused.Changed {
		t.Fatalf("no driver: %+v", refused)
	}
	// The driver itself is a fact of the real machine (/proc): what it lacks is passed over.
	s.write(t, "etc/ecs/ecs.config", "ECS_ENABLE_GPU_SUPPORT=false\n")
	done := s.run(t, register, "--enable-gpu", "--ignore", "gpu")
	if done.RC != 0 || !done.Changed {
		t.Fatalf("%+v", done)
	}
	if text := s.read(t, "var/lib/ecs/ecs.config"); text != "ECS_ENABLE_GPU_SUPPORT=true\n" {
		t.Errorf("the file that waits has %q", text)
	}
	if text := s.read(t, "etc/ecs/ecs.config"); strings.Contains(text, "GPU") {
		t.Errorf("the operator's file still wins over it: %q", text)
	}
	for _, flags := range [][]string{nil, {"--enable-gpu"}} {
		if again := s.run(t, line{args: []string{"register"}}, flags...); again.RC != 0 || again.Changed {
			t.Errorf("again with %v: %+v", flags, again)
		}
	}
}
