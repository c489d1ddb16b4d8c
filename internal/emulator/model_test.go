package emulator_test

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

const (
	ecsTargets = "AmazonEC2ContainerServiceV20141113."
	ssmTargets = "AmazonSSM."
)

// What AWS's model does not have is refused, in the words that the services have for it.
func TestRequestsAreHeldToTheModel(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for _, c := range []struct{ target, body, code, says string }{
		{ecsTargets + "DescribeTasks", `{"cluster":"demo"}`, "InvalidParameterException", "Tasks cannot be empty."},
		{ecsTargets + "DescribeTasks", `{"cluster":"demo","tasks":["a"],"moons":1}`, "InvalidParameterException", `"moons"`},
		{ecsTargets + "DescribeTasks", `{"cluster":"demo","tasks":"a"}`, "SerializationException", "can not be converted to a List"},
		{ecsTargets + "DescribeTasks", `{"cluster":7,"tasks":["a"]}`, "SerializationException", "cluster can not be converted to a String"},
		{ecsTargets + "DescribeTasks", `{"cluster":"demo","tasks":[7]}`, "SerializationException", "tasks.1.member can not be converted"},
		{ecsTargets + "DescribeTasks", `[]`, "SerializationException", "no JSON object"},
		{ecsTargets + "DescribeTasks", `{`, "SerializationException", "is not JSON"},
		{ecsTargets + "DescribeTasks", `{"cluster":"demo","Tasks":["a"]}`, "InvalidParameterException", `"Tasks"`},
		{ecsTargets + "RegisterTaskDefinition", `{"family":"f","containerDefinitions":[{"name":"c","image":"i","memory":64,"secrets":[{"name":"n"}]}]}`,
			"InvalidParameterException", "ContainerDefinitions.1.member.secrets.1.member.valueFrom cannot be empty."},
		{ecsTargets + "PutAttributes", `{"cluster":"demo","attributes":[{"value":"v"}]}`, "InvalidParameterException", "name cannot be empty."},
		{ssmTargets + "CreateActivation", `{}`, "ValidationException",
			"1 validation error detected: Value null at 'iamRole' failed to satisfy constraint: Member must not be null"},
		{ssmTargets + "CreateActivation", `{"IamRole":null}`, "ValidationException", "Value null at 'iamRole'"},
		{ssmTargets + "CreateActivation", `{"IamRole":"r","ExpirationDate":"soon"}`, "SerializationException", "to a Timestamp"},
		{ssmTargets + "CreateActivation", `{"IamRole":"r","Tags":[{}]}`, "ValidationException", "2 validation errors detected: "},
		{ssmTargets + "UpdateManagedInstanceRole", `{}`, "ValidationException", "'iamRole' failed to satisfy constraint: Member must not be null; Value null at 'instanceId'"},
		{ssmTargets + "RegisterManagedInstance", `{"ActivationId":"a","ActivationCode":"b"}`, "ValidationException", "'fingerprint'"},
		{ssmTargets + "RegisterManagedInstance", `{"Fingerprint":"f","PublicKey":"k","Moons":1}`, "ValidationException", `"Moons"`},
	} {
		s := signing{service: "ssm"}
		if strings.HasPrefix(c.target, ecsTargets) {
			s.service = "ecs"
		}
		status, code, out := w.call(c.target, c.body, s)
		message, _ := out["message"].(string)
		if status != 400 || code != c.code || !strings.Contains(message, c.says) {
			t.Errorf("%s %s: %d %s %q, want %s %q", c.target, c.body, status, code, message, c.code, c.says)
		}
	}
}

// A seed can put words into an answer that AWS does not have: the emulator says so instead of giving it.
func TestAnswersAreHeldToTheModel(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for name, more := range map[string]map[string]any{
		"a word":     {"moons": 4},
		"a kind":     {"networkMode": 4},
		"below":      {"containerDefinitions": []any{map[string]any{"title": "x"}}},
		"a list":     {"volumes": map[string]any{}},
		"in a list":  {"compatibilities": []any{4}},
		"a required": {"containerDefinitions": []any{map[string]any{"secrets": []any{map[string]any{"name": "n"}}}}},
	} {
		w.AddTaskDefinition(emulator.TaskDefinition{Family: "odd", Revision: 1, More: more})
		status, code, out := w.call(ecsTargets+"DescribeTaskDefinition", `{"taskDefinition":"odd"}`, signing{service: "ecs"})
		if status != 500 || code != "InternalFailure" || !strings.Contains(out["message"].(string), "is not AWS's: taskDefinition.") {
			t.Errorf("%s: %d %v", name, status, out)
		}
	}
	w.AddTaskDefinition(emulator.TaskDefinition{Family: "odd", Revision: 1, More: map[string]any{"networkMode": "host"}})
	if status, _, out := w.call(ecsTargets+"DescribeTaskDefinition", `{"taskDefinition":"odd"}`, signing{service: "ecs"}); status != 200 {
		t.Errorf("%d %v", status, out)
	}
}
