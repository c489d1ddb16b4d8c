package ecsagent

import (
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
