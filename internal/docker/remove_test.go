package docker

import (
	"net/http"
	"slices"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// changing is a daemon that may be told to do things: it notes them, and answers with these statuses.
type changing struct {
	asked   []string
	answers map[string]int
}

func (d *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.asked = append(d.asked, r.Method+" "+r.URL.String())
	w.WriteHeader(d.answers[r.Method])
	if d.answers[r.Method] >= 400 {
		_, _ = w.Write([]byte(`{"message":"that did not work"}`))
	}
}

func TestRemoveContainer(t *testing.T) {
	both := []string{"POST /containers/abc/stop?t=30", "DELETE /containers/abc?force=1"}
	for _, test := range []struct {
		name         string
		stop, remove int
		asked        []string
		code         failure.Code
	}{
		{"running", http.StatusNoContent, http.StatusNoContent, both, ""},
		{"stopped", http.StatusNotModified, http.StatusNoContent, both, ""},
		{"gone", http.StatusNotFound, http.StatusNoContent, both[:1], ""},
		{"gone meanwhile", http.StatusNoContent, http.StatusNotFound, both, ""},
		{"refused", http.StatusNoContent, http.StatusConflict, both, failure.ServiceFailed},
		{"not stopped", http.StatusInternalServerError, http.StatusNoContent, both[:1], failure.ServiceFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &changing{answers: map[string]int{http.MethodPost: test.stop, http.MethodDelete: test.remove}}
			err := RemoveContainer(t.Context(), machineOf(t, d), "abc")
			if test.code == "" && err != nil || test.code != "" && !failure.Is(err, test.code) {
				t.Errorf("%v", err)
			}
			if !slices.Equal(d.asked, test.asked) {
				t.Errorf("asked %q", d.asked)
			}
		})
	}
	if err := RemoveContainer(t.Context(), machine(t, nil, nil, nil), "abc"); !failure.Is(err, failure.DockerDown) {
		t.Errorf("a daemon that is down: %v", err)
	}
}
