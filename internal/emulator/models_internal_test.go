package emulator

import "testing"

// Every operation has a model, and every model an operation: the SDK's, or the agents' own.
func TestEveryOperationHasAModel(t *testing.T) {
	known := map[string]bool{}
	for service, operations := range map[string]map[string]operation{
		"ssm": ssmOperations, "ecs": ecsOperations, "ec2messages": deliveryOperations,
	} {
		for name := range operations {
			known[service+":"+name] = true
		}
	}
	for name := range nodeSSM {
		known["ssm:"+name] = true
	}
	for name := range known {
		m := modelOf(name)
		if m == nil || m.input.kind != structure || m.output.kind != structure {
			t.Errorf("%s has no model", name)
		}
	}
	for _, names := range [][]string{sortedNames(sdkModels()), sortedNames(agentModels()), sortedNames(agentsOwn)} {
		for _, name := range names {
			if !known[name] {
				t.Errorf("the model of %s is for no operation", name)
			}
		}
	}
}

// What the SDK says that is required, it says in code: here is what was learned of it.
func TestRequiredMembersAreLearned(t *testing.T) {
	for operation, want := range map[string]string{
		"ecs:DescribeContainerInstances":    "containerInstances",
		"ecs:UpdateContainerInstancesState": "containerInstances status",
		"ecs:RegisterTaskDefinition":        "containerDefinitions family",
		"ecs:ListTasks":                     "",
		"ssm:CreateActivation":              "IamRole",
		"ssm:UpdateManagedInstanceRole":     "IamRole InstanceId",
	} {
		got := ""
		for i, name := range modelOf(operation).input.required {
			if i > 0 {
				got += " "
			}
			got += name
		}
		if got != want {
			t.Errorf("%s needs %q, want %q", operation, got, want)
		}
	}
}
