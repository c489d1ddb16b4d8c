package ecsagent

import (
	"slices"
	"strings"
	"testing"
)

func TestReadState(t *testing.T) {
	tests := []struct {
		files      map[string]string
		db, legacy bool
	}{
		{nil, false, false},
		{map[string]string{StateDB: "bolt"}, true, false},
		{map[string]string{LegacyState: "{}"}, false, true},
		{map[string]string{StateDB: "bolt", LegacyState: "{}", DataDir + "/ecs_volume_plugin.json": "{}"}, true, true},
		{map[string]string{DataDir + "/ecs_volume_plugin.json": "{}"}, false, false},
	}
	for _, tt := range tests {
		got, err := ReadState(machine(t, tt.files))
		if err != nil || got.DB != tt.db || got.Legacy != tt.legacy || got.Any() != (tt.db || tt.legacy) || got.ModTime.IsZero() == got.Any() {
			t.Errorf("%v: ReadState = %+v, %v", tt.files, got, err)
		}
	}
}

// The instances in a state are found among anything else, each once; what only looks like one is none.
func TestStateInstances(t *testing.T) {
	const web = "arn:aws:ecs:eu-central-1:111122223333:container-instance/web/0123456789abcdef0123456789abcdef"
	const cn = "arn:aws-cn:ecs:cn-north-1:111122223333:container-instance/01234567-89ab-cdef-0123-456789abcdef"
	for _, tt := range []struct {
		files map[string]string
		want  []string
	}{
		{nil, nil},
		{map[string]string{StateDB: "bolt\x00task-manifest-seq-num"}, nil},
		{map[string]string{StateDB: "\x00\"" + web + "\"\x00\xff" + cn + "\x01" + web}, []string{web, cn}},
		{map[string]string{LegacyState: `{"ContainerInstanceArn":"` + cn + `"}`}, []string{cn}},
		{map[string]string{StateDB: "arn:aws:ecs:eu-central-1:1111:container-instance/web/1"}, nil},
	} {
		var got []string
		for _, arn := range StateInstances(machine(t, tt.files)) {
			got = append(got, arn.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v; want %v", tt.files, got, tt.want)
		}
	}
}

func TestDropIn(t *testing.T) {
	section := ""
	settings := map[string]string{}
	for line := range strings.Lines(string(DropIn())) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
		} else if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			settings[section+key] = value
		}
	}
	for key, want := range map[string]string{
		"[Service]RestartPreventExitStatus": "5", "[Unit]Wants": "network-online.target", "[Unit]After": "network-online.target",
	} {
		if settings[key] != want {
			t.Errorf("%s = %q, want %q", key, settings[key], want)
		}
	}
}
