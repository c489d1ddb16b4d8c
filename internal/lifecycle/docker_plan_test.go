package lifecycle

import (
	"slices"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

// Docker comes before all other packages and after the activation, and nothing of it begins before all is verified.
func TestWhereDockerStandsInThePlan(t *testing.T) {
	for _, test := range []struct {
		name                  string
		creates, resumed, due bool
		gate                  string
		first                 []string
	}{
		{"plain", false, false, true, dockerStepID, []string{dockerStepID, "ssm.config"}},
		{"its own activation", true, false, true, "activation", []string{"activation", dockerStepID, "ssm.config"}},
		{"resumed", false, true, true, dockerStepID, []string{dockerStepID, "packages.repair", "ssm.config"}},
		{"resumed, with Docker there", false, true, false, dockerStepID, []string{"packages.repair", dockerStepID, "ssm.config"}},
		{"resumed, with its own activation", true, true, true, "activation",
			[]string{"activation", dockerStepID, "packages.repair", "ssm.config"}},
	} {
		r := &registration{creates: test.creates, docker: installing{sources: []string{platform.SourceDistro}, due: test.due}}
		if test.resumed {
			r.resumed = &engine.Operation{}
		}
		plan := r.plan()
		var ids []string
		for _, s := range plan.Steps {
			ids = append(ids, s.ID)
		}
		if plan.Gate != test.gate || !slices.Equal(ids[:len(test.first)], test.first) {
			t.Errorf("%s: the gate is %s of %q", test.name, plan.Gate, ids)
		}
	}
}

// Another source is another command; the default is the same command as before there was a choice.
func TestKeyHasTheSourceOfDocker(t *testing.T) {
	key := func(source string) string {
		return (&registration{req: RegisterRequest{DockerSource: source}}).key()
	}
	if key("") != key(DockerAuto) || key(DockerNone) == key("") || key(DockerNone) == key(platform.SourceDocker) {
		t.Errorf("keys are %q, %q, %q", key(""), key(DockerNone), key(platform.SourceDocker))
	}
}
