package emulator_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
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
		text := f.Name
		if f.Argument != "" {
			text += "=ecs:StopTask"
		}
		if err := w.Fault(text); err != nil {
			t.Error(err)
		}
		if armed := slices.Contains(w.Armed(), emulator.ArmedFault{Name: text, Left: -1}); armed == f.Moment {
			t.Errorf("%s: armed is %v", text, armed)
		}
	}
}

func TestParseFault(t *testing.T) {
	for text, want := range map[string]struct {
		name string
		n    int
		says string
	}{
		"throttled":                    {"throttled", -1, ""},
		" throttled*5":                 {"throttled", 5, ""},
		"access-denied=ecs:StopTask*2": {"access-denied=ecs:StopTask", 2, ""},
		"locusts":                      {says: `no fault "locusts"`},
		"":                             {says: `no fault ""`},
		"throttled=ecs:StopTask":       {says: "takes nothing behind ="},
		"access-denied":                {says: "access-denied=SERVICE:ACTION"},
		"access-denied=ecs:":           {says: "access-denied=SERVICE:ACTION"},
		"throttled*":                   {says: "how many"},
		"throttled*0":                  {says: "how many"},
		"throttled*-1":                 {says: "how many"},
		"node-deregistered*2":          {says: "happens at once"},
	} {
		name, n, err := emulator.ParseFault(text)
		if want.says != "" {
			if err == nil || !strings.Contains(err.Error(), want.says) {
				t.Errorf("%q: %v, want %q in it", text, err, want.says)
			}
			continue
		}
		if err != nil || name != want.name || n != want.n {
			t.Errorf("%q is %q, %d, %v", text, name, n, err)
		}
	}
}

// While it serves, faults come and go by calls that no fault hits.
func TestFaultsByCalls(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	ask := func(method, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, w.url+"/_anywhere/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, strings.TrimSpace(string(text))
	}
	for _, step := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "faults", 200, `{"faults":[]}`},
		{"PUT", "faults/server-error", 200, `{"faults":[{"name":"server-error","left":-1}]}`},
		{"PUT", "faults/connection-reset", 200, `"connection-reset"`},
		{"PUT", "faults/access-denied=ecs:StopTask?calls=3", 200, `{"name":"access-denied=ecs:StopTask","left":3}`},
		{"PUT", "faults/locusts", 400, "no fault"},
		{"PUT", "faults/throttled?calls=few", 400, "expected a number"},
		{"PUT", "faults/throttled?calls=0", 400, "how many"},
		{"POST", "faults/throttled", 405, "PUT or DELETE"},
		{"GET", "plagues", 404, ""},
		{"DELETE", "faults/connection-reset", 200, `"server-error"`},
		{"GET", "expired-key.asc", 200, "-----BEGIN PGP PUBLIC KEY BLOCK-----"},
		{"DELETE", "faults", 200, `{"faults":[]}`},
	} {
		if status, text := ask(step.method, step.path); status != step.status || !strings.Contains(text, step.says) {
			t.Errorf("%s %s: %d %s", step.method, step.path, status, text)
		}
	}
	if status, _, _ := w.call("AmazonSSM.DescribeActivations", "{}", signing{}); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

// A reset ends the connection without an answer, with plain HTTP and with TLS.
func TestConnectionReset(t *testing.T) {
	a := newAuthority(t)
	e := started(t, a)
	address := strings.TrimPrefix(e.URL(), "http://")
	for scheme, client := range map[string]*http.Client{
		"http": {Transport: &http.Transport{DisableKeepAlives: true}}, "https": trusting(a, ""),
	} {
		if err := e.Fault("connection-reset*1"); err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err == nil {
			_ = answer.Body.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the connection ended with %v", scheme, err)
		}
	}
}

func TestScenarios(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	if err := w.Plan([]byte(`
faults:
  - fault: throttled*1
  - fault: server-error
    once: {operation: "ssm:DescribeActivations", times: 2}
    for: 1h
  - fault: slow
    after: 1h
`)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{400, 200, 200, 500} { // throttled, two that are well, and then the server errs
		if status, code, _ := w.call("AmazonSSM.DescribeActivations", "{}", signing{}); status != want {
			t.Errorf("call %d: %d %s, want %d", i, status, code, want)
		}
	}
	if armed := w.Armed(); len(armed) != 1 || armed[0].Name != "server-error" {
		t.Errorf("armed are %+v", armed)
	}
	for text, says := range map[string]string{
		"faults: [{fault: locusts}]":                                   `faults[0]: there is no fault "locusts"`,
		"plagues: []":                                                  "plagues",
		"faults: [{fault: slow, when: never}]":                         "when",
		"faults: [{fault: slow, after: soon}]":                         "after: expected a duration",
		"faults: [{fault: slow, for: 0s}]":                             "for: expected a duration",
		"faults: [{fault: node-deregistered, for: 1s}]":                "happens at once",
		"faults: [{fault: slow, once: {operation: DescribeClusters}}]": "once: expected operation",
	} {
		if err := w.Plan([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q in it", text, err, says)
		}
	}
	if armed := w.Armed(); len(armed) != 1 {
		t.Errorf("a scenario that is wrong has armed something: %+v", armed)
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
