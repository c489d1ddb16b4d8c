package docker

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// said is a daemon that answers every call alike.
type said struct {
	status int
	body   string
	asked  []string
	sent   string
}

func (d *said) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, _ := io.ReadAll(r.Body)
	d.sent += string(text)
	d.asked = append(d.asked, r.Method+" "+r.URL.String())
	w.WriteHeader(d.status)
	_, _ = io.WriteString(w, d.body)
}

func TestLoad(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		body   string
		code   failure.Code
		says   string
	}{
		{"loaded", http.StatusOK, `{"stream":"Loaded image: a:latest\n"}`, "", ""},
		{"loaded without a word", http.StatusOK, "", "", ""},
		{"it fails on the way", http.StatusOK, `{"stream":"x"}{"error":"no space left on device"}`, failure.ServiceFailed, "no space left on device"},
		{"refused", http.StatusInternalServerError, `{"message":"invalid archive"}`, failure.ServiceFailed, "invalid archive"},
		{"refused without a word", http.StatusBadGateway, "", failure.ServiceFailed, "502"},
		{"no daemon's answer", http.StatusOK, "<html>", failure.DockerDown, "could not load an image"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &said{status: test.status, body: test.body}
			err := Load(t.Context(), machineOf(t, d), strings.NewReader("archive"))
			if test.code == "" && err != nil || test.code != "" && (!failure.Is(err, test.code) || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v", err)
			}
			if d.sent != "archive" || !slices.Equal(d.asked, []string{"POST /images/load?quiet=1"}) {
				t.Errorf("asked %q, sent %q", d.asked, d.sent)
			}
		})
	}
	if err := Load(t.Context(), machine(t, nil, nil, nil), strings.NewReader("")); !failure.Is(err, failure.DockerDown) {
		t.Errorf("a daemon that is down: %v", err)
	}
}

func TestTagAndRemoveImage(t *testing.T) {
	d := &said{status: http.StatusCreated}
	if err := Tag(t.Context(), machineOf(t, d), "sha256:1", "amazon/agent:latest"); err != nil {
		t.Error(err)
	}
	d.status = http.StatusNotFound // gone already
	for _, force := range []bool{false, true} {
		if err := RemoveImage(t.Context(), machineOf(t, d), "sha256:1", force); err != nil {
			t.Error(err)
		}
	}
	d.status, d.body = http.StatusConflict, `{"message":"image is being used by running container 5"}`
	if err := RemoveImage(t.Context(), machineOf(t, d), "sha256:1", true); !failure.Is(err, failure.ServiceFailed) || !strings.Contains(err.Error(), "being used") {
		t.Errorf("%v", err)
	}
	want := []string{"POST /images/sha256:1/tag?repo=amazon%2Fagent&tag=latest", "DELETE /images/sha256:1", "DELETE /images/sha256:1?force=1", "DELETE /images/sha256:1?force=1"}
	if !slices.Equal(d.asked, want) {
		t.Errorf("asked %q", d.asked)
	}
}

func TestUnnamedAndMounted(t *testing.T) {
	for body, want := range map[string]bool{`{"RepoTags":[]}`: true, `{"RepoTags":null}`: true, `{"RepoTags":["a:1"]}`: false} {
		if got, err := Unnamed(t.Context(), machineOf(t, &said{status: http.StatusOK, body: body}), "sha256:1"); got != want || err != nil {
			t.Errorf("%s: %v, %v", body, got, err)
		}
	}
	if got, err := Unnamed(t.Context(), machineOf(t, &said{status: http.StatusNotFound}), "sha256:1"); got || err != nil {
		t.Errorf("an image that is gone: %v, %v", got, err)
	}
	const all = `[{"Mounts":[]},{"Mounts":[{"Source":"/var/run"},{"Source":"/var/lib/ecs/exec/3.3.1/x"}]}]`
	for folder, want := range map[string]bool{"/var/lib/ecs/exec/3.3.1": true, "/var/lib/ecs/exec/3.3.1/x": true, "/var/lib/ecs/exec/3.3": false, "/srv": false} {
		if got, err := Mounted(t.Context(), machineOf(t, &said{status: http.StatusOK, body: all}), folder); got != want || err != nil {
			t.Errorf("%s: %v, %v", folder, got, err)
		}
	}
	if _, err := Mounted(t.Context(), machine(t, nil, nil, nil), "/srv"); !failure.Is(err, failure.DockerDown) {
		t.Errorf("a daemon that is down: %v", err)
	}
}
