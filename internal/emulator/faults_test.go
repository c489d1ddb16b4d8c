package emulator_test

import (
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

func TestEveryFaultIsExplainedAndCanBeArmed(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	seen := map[string]bool{}
	for _, f := range emulator.Faults() {
		if f.Explanation == "" || seen[f.Name] {
			t.Errorf("fault %q has no explanation or is there twice", f.Name)
		}
		seen[f.Name] = true
		if err := w.Fault(f.Name); err != nil {
			t.Error(err)
		}
	}
	if len(seen) != 19 {
		t.Errorf("there are %d faults", len(seen))
	}
	if w.Fault("no-such-fault") == nil {
		t.Error("an unknown fault was armed")
	}
}

func TestFaultsOfEveryCall(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for _, c := range []struct {
		fault, target, service string
		status                 int
		code                   string
	}{
		{emulator.FaultThrottled, "AmazonSSM.DescribeActivations", "ssm", 400, "ThrottlingException"},
		{emulator.FaultServerError, "AmazonSSM.DescribeActivations", "ssm", 500, "InternalServerError"},
		{emulator.FaultServerError, "AmazonEC2ContainerServiceV20141113.DescribeClusters", "ecs", 500, "ServerException"},
		{emulator.FaultClockSkew, "AmazonSSM.DescribeActivations", "ssm", 400, "InvalidSignatureException"},
	} {
		if err := w.FaultFor(c.fault, 1); err != nil {
			t.Fatal(err)
		}
		if status, code, _ := w.call(c.target, "{}", signing{service: c.service}); status != c.status || code != c.code {
			t.Errorf("with %s: %d %s, want %d %s", c.fault, status, code, c.status, c.code)
		}
		if status, code, _ := w.call(c.target, "{}", signing{service: c.service}); status != 200 {
			t.Errorf("%s hit a second call: %d %s", c.fault, status, code)
		}
	}
}

func TestSlowHoldsAnswersBack(t *testing.T) {
	const held = 30 * time.Millisecond
	w := newWorld(t, emulator.Options{Slow: held})
	if err := w.Fault(emulator.FaultSlow); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	if status, _, _ := w.call("AmazonSSM.DescribeActivations", "{}", signing{}); status != 200 {
		t.Errorf("got %d", status)
	}
	if took := time.Since(before); took < held {
		t.Errorf("the answer took %v", took)
	}
}
