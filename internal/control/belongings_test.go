package control

import (
	"maps"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// What the agent and AWS put on an instance by themselves is nobody's belongings.
func TestInstanceBelongings(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		found        bool
		code         failure.Code
	}{
		{"there", `{"containerInstances":[{"containerInstanceArn":"arn:1","attributes":[{"name":"ecs.os-type","value":"linux"},
			{"name":"com.amazonaws.ecs.capability.docker-remote-api.1.25"},{"name":"rack","value":"7"},{"name":"marked"}],
			"tags":[{"key":"team","value":"a b"},{"key":"aws:cloudformation:stack-name","value":"x"},{"key":"AWS:y","value":"z"}]}]}`, true, ""},
		{"missing", `{"failures":[{"arn":"arn:1","reason":"MISSING"}]}`, false, ""},
		{"another failure", `{"failures":[{"arn":"arn:1","reason":"BUSY"}]}`, false, failure.AWSUnavailable},
		{"no cluster", "!ClusterNotFoundException", false, failure.ClusterNotFound},
		{"denied", "!AccessDeniedException", false, failure.AccessDenied},
	} {
		var asked any
		o := answering(t, func(_ string, in map[string]any) string { asked = in["include"]; return test.answer })
		b, found, err := o.InstanceBelongings(t.Context(), "prod", "arn:1")
		if found != test.found || test.code == "" && err != nil || test.code != "" && !failure.Is(err, test.code) {
			t.Errorf("%s: %v, %v", test.name, found, err)
		}
		if include, _ := asked.([]any); len(include) != 1 || include[0] != "TAGS" {
			t.Errorf("%s: tags were not asked for: %v", test.name, asked)
		}
		if found && (!maps.Equal(b.Attributes, map[string]string{"rack": "7", "marked": ""}) ||
			!maps.Equal(b.Tags, map[string]string{"team": "a b"})) {
			t.Errorf("%s: %+v", test.name, b)
		}
	}
}

func TestTagInstance(t *testing.T) {
	w := newWorld(t)
	denied, _ := w.operator("ecs:TagResource")
	err := denied.TagInstance(t.Context(), "arn", map[string]string{"team": "a"})
	if !failure.Is(err, failure.AccessDenied) || !strings.Contains(failure.Of(err).Advice(), "allow ecs:TagResource") {
		t.Errorf("%v, %s", err, failure.Of(err).Advice())
	}
	allowed, _ := w.operator()
	if err := allowed.TagInstance(t.Context(), "arn", map[string]string{"team": "a"}); err == nil {
		t.Error("an instance that is not there has got tags")
	}
}
