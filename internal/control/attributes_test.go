package control

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// instanceAPI is an ECS with one container instance; it remembers how many attributes each PutAttributes had.
func instanceAPI(t *testing.T, answer string) (*Operator, *[]int) {
	t.Helper()
	var sizes []int
	w := newWorld(t)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		switch target := r.Header.Get("X-Amz-Target"); {
		case strings.HasSuffix(target, ".DescribeContainerInstances"):
			_, _ = out.Write([]byte(answer))
		case strings.HasSuffix(target, ".PutAttributes"):
			body, _ := io.ReadAll(r.Body)
			sizes = append(sizes, strings.Count(string(body), `"targetId"`))
			_, _ = out.Write([]byte(`{"attributes":[]}`))
		default:
			w.ServeHTTP(out, r)
		}
	}))
	t.Cleanup(server.Close)
	o, err := Connect(context.Background(), w.config(), Connection{EndpointURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return o, &sizes
}

func TestInstanceAttributes(t *testing.T) {
	const arn = "arn:aws:ecs:eu-west-1:123456789012:container-instance/prod/0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		name, answer string
		want         string // the attribute rack
		code         failure.Code
		says         string
	}{
		{name: "there", answer: `{"containerInstances":[{"attributes":[{"name":"ecs.capability.x"},{"name":"rack","value":"7"}]}]}`, want: "7"},
		{name: "missing", answer: `{"containerInstances":[],"failures":[{"arn":"` + arn + `","reason":"MISSING"}]}`,
			code: failure.InstanceInactive, says: "ECS says MISSING"},
		{name: "no answer", answer: `{"containerInstances":[]}`, code: failure.AWSUnavailable, says: "not in ECS's answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, _ := instanceAPI(t, test.answer)
			got, err := o.InstanceAttributes(t.Context(), "prod", arn)
			if test.code != "" {
				if !failure.Is(err, test.code) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("%v; want %s: %s", err, test.code, test.says)
				}
				return
			}
			if err != nil || got["rack"] != test.want {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestPutInstanceAttributes(t *testing.T) {
	o, sizes := instanceAPI(t, "")
	many := map[string]string{}
	for n := range 23 {
		many[fmt.Sprint("a", n)] = "v"
	}
	if err := o.PutInstanceAttributes(t.Context(), "prod", "arn", many); err != nil || fmt.Sprint(*sizes) != "[10 10 3]" {
		t.Errorf("%v; sizes of the requests: %v", err, *sizes)
	}
	w := newWorld(t)
	denied, _ := w.operator("ecs:PutAttributes")
	err := denied.PutInstanceAttributes(t.Context(), "prod", "arn", map[string]string{"rack": "8"})
	if !failure.Is(err, failure.AccessDenied) || !strings.Contains(failure.Of(err).Advice(), "allow ecs:PutAttributes") {
		t.Errorf("%v, %s", err, failure.Of(err).Advice())
	}
	allowed, _ := w.operator()
	if err := allowed.PutInstanceAttributes(t.Context(), "prod", "arn", map[string]string{"rack": "8"}); err == nil {
		t.Error("an instance that is not there has got attributes")
	}
}
