package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestActivationByItsID(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	ctx := context.Background()
	w.AddActivation(1, w.now.Add(time.Hour)) // another one
	made, err := o.CreateActivation(ctx, Order{Role: "r", Limit: 2, Life: time.Hour, About: "anywhere register: run x"}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	a, found, err := o.Activation(ctx, made.ID)
	if err != nil || !found || a.ID != made.ID || a.Left() != 2 || a.Description != "anywhere register: run x" {
		t.Errorf("%+v, %v, %v", a, found, err)
	}
	if _, found, err := o.Activation(ctx, "01234567-89ab-cdef-0123-456789abcdef"); found || err != nil {
		t.Errorf("one that is not there: %v, %v", found, err)
	}
	if err := (Order{Role: "r", Limit: 1, Life: time.Hour, About: "what?"}).Check(); !failure.Is(err, failure.Internal) {
		t.Errorf("a description that AWS refuses: %v", err)
	}
}

// answering is an operator whose ECS and SSM answer with what say returns for an operation.
func answering(t *testing.T, say func(operation string, in map[string]any) string) *Operator {
	t.Helper()
	w := newWorld(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if operation == "" {
			w.ServeHTTP(rw, r) // STS
			return
		}
		var in map[string]any
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		text := say(operation, in)
		if code, failed := strings.CutPrefix(text, "!"); failed {
			rw.WriteHeader(http.StatusBadRequest)
			text = fmt.Sprintf(`{"__type":%q,"message":"so it is"}`, code)
		}
		fmt.Fprint(rw, text)
	}))
	t.Cleanup(server.Close)
	o, err := Connect(context.Background(), w.config(), Connection{EndpointURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

const anInstance = `{"containerInstanceArn":"arn:1","ec2InstanceId":"mi-1","status":"ACTIVE","agentConnected":true}`

func TestInstance(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		found        bool
		code         failure.Code
	}{
		{"there", `{"containerInstances":[` + anInstance + `],"failures":[]}`, true, ""},
		{"missing", `{"containerInstances":[],"failures":[{"arn":"arn:1","reason":"MISSING"}]}`, false, ""},
		{"another failure", `{"containerInstances":[],"failures":[{"arn":"arn:1","reason":"BUSY"}]}`, false, failure.AWSUnavailable},
		{"no cluster", "!ClusterNotFoundException", false, failure.ClusterNotFound},
		{"denied", "!AccessDeniedException", false, failure.AccessDenied},
	} {
		o := answering(t, func(string, map[string]any) string { return test.answer })
		i, found, err := o.Instance(context.Background(), "prod", "arn:1")
		if found != test.found || test.code == "" && err != nil || test.code != "" && !failure.Is(err, test.code) {
			t.Errorf("%s: %v, %v", test.name, found, err)
		}
		if want := (Instance{ARN: "arn:1", Node: "mi-1", Status: "ACTIVE", Connected: true}); found && !reflect.DeepEqual(i, want) {
			t.Errorf("%s: %+v", test.name, i)
		}
	}
}

func TestInstancesOfANodePageByPage(t *testing.T) {
	var filters []any
	o := answering(t, func(operation string, in map[string]any) string {
		if operation == "DescribeContainerInstances" {
			return `{"containerInstances":[` + anInstance + `],"failures":[]}`
		}
		filters = append(filters, in["filter"])
		if in["nextToken"] == nil {
			return `{"containerInstanceArns":["arn:1"],"nextToken":"more"}`
		}
		return `{"containerInstanceArns":["arn:2"]}`
	})
	all, err := o.InstancesOf(context.Background(), "prod", "mi-1")
	if err != nil || len(all) != 2 || len(filters) != 2 || filters[0] != "ec2InstanceId == mi-1" {
		t.Errorf("%+v, %v; asked %v", all, err, filters)
	}
	w := newWorld(t)
	o, _ = w.operator()
	if all, err := o.InstancesOf(context.Background(), "prod", "mi-0123456789abcdef0"); err != nil || len(all) != 0 {
		t.Errorf("of a node that is not there: %+v, %v", all, err)
	}
}

func TestNode(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		found        bool
		code         failure.Code
	}{
		{"online", `{"InstanceInformationList":[{"InstanceId":"mi-1","PingStatus":"Online","ComputerName":"web","IPAddress":"10.0.0.1"}]}`, true, ""},
		{"an empty list", `{"InstanceInformationList":[]}`, false, ""},
		{"unknown", "!InvalidInstanceId", false, ""},
		{"denied", "!AccessDeniedException", false, failure.AccessDenied},
	} {
		o := answering(t, func(string, map[string]any) string { return test.answer })
		n, found, err := o.Node(context.Background(), "mi-1")
		if found != test.found || test.code == "" && err != nil || test.code != "" && !failure.Is(err, test.code) {
			t.Errorf("%s: %v, %v", test.name, found, err)
		}
		if want := (Node{ID: "mi-1", Ping: Online, Computer: "web", IP: "10.0.0.1"}); found && n != want {
			t.Errorf("%s: %+v, not %+v", test.name, n, want)
		}
	}
	w := newWorld(t)
	o, _ := w.operator()
	if _, found, err := o.Node(context.Background(), "mi-0123456789abcdef0"); found || err != nil {
		t.Errorf("of the emulator: %v, %v", found, err)
	}
	if err := w.Fault(emulator.FaultServerError); err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Node(context.Background(), "mi-0123456789abcdef0"); !failure.Is(err, failure.AWSUnavailable) {
		t.Errorf("of an AWS that is ill: %v", err)
	}
}
