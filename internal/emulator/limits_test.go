package emulator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

func TestLimits(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	many := `"` + strings.Repeat(`a","`, 100) + `a"`
	for _, c := range []struct{ target, body, code, says string }{
		{ecsTargets + "ListContainerInstances", `{"cluster":"demo","maxResults":0}`, "InvalidParameterException", "between 1 and 100"},
		{ecsTargets + "ListContainerInstances", `{"cluster":"demo","maxResults":101}`, "InvalidParameterException", "between 1 and 100"},
		{ecsTargets + "ListContainerInstances", `{"cluster":"demo","nextToken":"x"}`, "InvalidParameterException", "Invalid token."},
		{ecsTargets + "ListContainerInstances", `{"cluster":"none"}`, "ClusterNotFoundException", "Cluster not found."},
		{ecsTargets + "DescribeContainerInstances", `{"cluster":"demo","containerInstances":[` + many + `]}`, "InvalidParameterException", "between 1 and 100"},
		{ecsTargets + "DescribeTasks", `{"cluster":"demo","tasks":[` + many + `]}`, "InvalidParameterException", "between 1 and 100"},
		{ssmTargets + "DescribeInstanceInformation", `{"MaxResults":4}`, "ValidationException", "greater than or equal to 5"},
		{ssmTargets + "DescribeInstanceInformation", `{"MaxResults":51}`, "ValidationException", "less than or equal to 50"},
		{ssmTargets + "DescribeInstanceInformation", `{"NextToken":"x"}`, "InvalidNextToken", ""},
		{ssmTargets + "DescribeActivations", `{"MaxResults":51}`, "ValidationException", "less than or equal to 50"},
		{ssmTargets + "CreateActivation", `{"IamRole":"r","RegistrationLimit":0}`, "ValidationException", "greater than or equal to 1"},
		{ssmTargets + "CreateActivation", `{"IamRole":"r","RegistrationLimit":1001}`, "ValidationException", "less than or equal to 1000"},
		{ssmTargets + "CreateActivation", `{"IamRole":"r","ExpirationDate":1}`, "InvalidParameters", "in the future"},
		{ssmTargets + "CreateActivation", `{"IamRole":"r","ExpirationDate":4000000000}`, "InvalidParameters", "within 30 days"},
	} {
		s := signing{service: "ssm"}
		if strings.HasPrefix(c.target, ecsTargets) {
			s.service = "ecs"
		}
		status, code, out := w.call(c.target, c.body, s)
		if status != 400 || code != c.code || !strings.Contains(fmt.Sprint(out["message"]), c.says) {
			t.Errorf("%s %s: %d %s %v, want %s %q", c.target, c.body, status, code, out["message"], c.code, c.says)
		}
	}
}

// A fleet is read page by page, each instance once, and descriptions follow every change.
func TestPagesOfAFleet(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for range 250 {
		w.AddInstance("demo")
	}
	seen, token := map[string]bool{}, ""
	for pages := 1; ; pages++ {
		body := `{"cluster":"demo"}`
		if token != "" {
			body = fmt.Sprintf(`{"cluster":"demo","nextToken":%q}`, token)
		}
		_, _, out := w.call(ecsTargets+"ListContainerInstances", body, signing{service: "ecs"})
		for _, arn := range out["containerInstanceArns"].([]any) {
			seen[arn.(string)] = true
		}
		if token, _ = out["nextToken"].(string); token == "" {
			if pages != 3 || len(seen) != 250 {
				t.Errorf("%d instances on %d pages", len(seen), pages)
			}
			break
		}
	}
	arn := w.Instances()[0].ARN
	look := func() string {
		_, _, out := w.call(ecsTargets+"DescribeContainerInstances",
			fmt.Sprintf(`{"cluster":"demo","containerInstances":[%q,"none"],"include":["TAGS"]}`, arn), signing{service: "ecs"})
		return fmt.Sprint(out["containerInstances"], out["failures"])
	}
	last := look()
	if !strings.Contains(last, "MISSING") || last != look() {
		t.Errorf("the first look: %s", last)
	}
	for want, change := range map[string]func(){
		"status:DRAINING":     func() { w.SetInstanceStatus(arn, "DRAINING") },
		"value:a":             func() { w.Mark(arn, map[string]string{"rack": "a"}, nil) },
		"value:north":         func() { w.Mark(arn, nil, map[string]string{"site": "north"}) },
		"runningTasksCount:2": func() { w.SetTasks(arn, 2) },
	} {
		change()
		if now := look(); now == last || !strings.Contains(now, want) {
			t.Errorf("%s is not seen: %s", want, now)
		} else {
			last = now
		}
	}
}
