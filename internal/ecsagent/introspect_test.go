package ecsagent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// agentAnswering is a host whose introspection port leads to the handler.
func agentAnswering(t *testing.T, handler http.HandlerFunc) host.Reader {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return host.Reader{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if network != "tcp" || address != IntrospectionAddress {
			return nil, errors.New("dialled " + network + " " + address)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}
}

func answer(path, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte(body))
	}
}

func TestIntrospect(t *testing.T) {
	t.Setenv("http_proxy", "http://proxy.invalid:1")
	const arn = "arn:aws:ecs:eu-west-1:123456789012:container-instance/prod/0123"
	tests := []struct {
		name, body string
		want       Metadata
		foreign    bool
	}{
		{"release", `{"Cluster":"prod","ContainerInstanceArn":"` + arn + `","Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`,
			Metadata{"prod", arn, "1.105.1", "a8b3e7d3"}, false},
		{"changed tree", `{"Cluster":"prod","ContainerInstanceArn":"` + arn + `","Version":"Amazon ECS Agent - v1.61.0 (*a8b3e7d3)"}`,
			Metadata{"prod", arn, "1.61.0", "a8b3e7d3"}, false},
		{"no ARN yet", `{"Cluster":"prod","ContainerInstanceArn":null,"Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`,
			Metadata{"prod", "", "1.105.1", "a8b3e7d3"}, false},
		{"another program's JSON", `{"status":"ok"}`, Metadata{}, true},
		{"another program", `<html>`, Metadata{}, true},
		{"nothing", ``, Metadata{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Introspect(t.Context(), agentAnswering(t, answer("/v1/metadata", tt.body)))
			if got != tt.want || failure.Is(err, failure.Network) != tt.foreign {
				t.Errorf("Introspect = %+v, %v", got, err)
			}
		})
	}
}

func TestIntrospectClosed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	r := host.Reader{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}}
	if _, err := Introspect(t.Context(), r); !errors.Is(err, ErrClosed) {
		t.Errorf("Introspect = %v", err)
	}
	if _, err := Tasks(t.Context(), r); !errors.Is(err, ErrClosed) {
		t.Errorf("Tasks = %v", err)
	}
}

func TestIntrospectTroubles(t *testing.T) {
	refused := agentAnswering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if _, err := Introspect(t.Context(), refused); !failure.Is(err, failure.Network) {
		t.Errorf("404: %v", err)
	}
	hangsUp := agentAnswering(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	if _, err := Introspect(t.Context(), hangsUp); !failure.Is(err, failure.Network) {
		t.Errorf("connection closed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	silent := agentAnswering(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	if _, err := Introspect(ctx, silent); !errors.Is(err, context.Canceled) {
		t.Errorf("silent: %v", err)
	}
}

func TestTasks(t *testing.T) {
	got, err := Tasks(t.Context(), agentAnswering(t, answer("/v1/tasks", `{"Tasks":[
		{"Arn":"arn:1","DesiredStatus":"RUNNING","KnownStatus":"RUNNING","Family":"web","Version":"3",
		 "Containers":[{"DockerId":"d1","DockerName":"ecs-web-3-nginx-f0","Name":"nginx","Image":"nginx:1"}]},
		{"Arn":"arn:2","KnownStatus":"STOPPED","Family":"job","Version":"1","Containers":null}]}`)))
	want := []Task{
		{ARN: "arn:1", DesiredStatus: "RUNNING", KnownStatus: "RUNNING", Family: "web", Revision: "3",
			Containers: []TaskContainer{{ID: "d1", Name: "nginx", Image: "nginx:1"}}},
		{ARN: "arn:2", KnownStatus: "STOPPED", Family: "job", Revision: "1"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Tasks: %v (-want +got):\n%s", err, diff)
	}
	if got[0].Stopped() || !got[1].Stopped() {
		t.Error("the wrong task has stopped")
	}
}

func FuzzAgentJSON(f *testing.F) {
	f.Add([]byte(`{"Cluster":"a","ContainerInstanceArn":null,"Version":"Amazon ECS Agent - v1.105.1 (a8b3e7d3)"}`))
	f.Add([]byte(`{"Tasks":[{"Arn":"x","Containers":[{"Name":"y"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if m, err := decodeMetadata(body); err != nil && m != (Metadata{}) {
			t.Errorf("%+v beside %v", m, err)
		}
		if tasks, err := decodeTasks(body); err != nil && tasks != nil {
			t.Errorf("%+v beside %v", tasks, err)
		}
	})
}
