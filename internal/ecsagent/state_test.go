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

// The state is read as bytes: as BoltDB lays them, as an old agent's JSON has them, and with what BoltDB has freed.
func TestReadBinding(t *testing.T) {
	const (
		shop = "arn:aws:ecs:eu-central-1:111122223333:container-instance/shop/0123456789abcdef0123456789abcdef"
		web  = "arn:aws:ecs:eu-central-1:111122223333:container-instance/web/fedcba9876543210fedcba9876543210"
		old  = "arn:aws-cn:ecs:cn-north-1:111122223333:container-instance/01234567-89ab-cdef-0123-456789abcdef"
	)
	bolt := func(cluster, arn string) string {
		return "\x00\x02agent-version\"1.105.1\"cluster-name\"" + cluster + "\"container-instance-arn\"" + arn +
			"\"ec2-instance-id\"\"\"\x00\x01"
	}
	tests := []struct {
		name    string
		files   map[string]string
		want    []string
		cluster string
	}{
		{"nothing", nil, nil, ""},
		{"refused at its first registration", map[string]string{StateDB: "\x00task-manifest-seq-num0\x00"}, nil, ""},
		{"bound", map[string]string{StateDB: bolt("shop", shop)}, []string{shop}, "shop"},
		{"configured by ARN", map[string]string{StateDB: bolt("arn:aws:ecs:eu-central-1:111122223333:cluster/shop", shop)},
			[]string{shop}, "arn:aws:ecs:eu-central-1:111122223333:cluster/shop"},
		{"twice the same", map[string]string{StateDB: bolt("shop", shop) + bolt("shop", shop)}, []string{shop}, "shop"},
		{"something freed", map[string]string{StateDB: bolt("web", web) + bolt("shop", shop)}, []string{web, shop}, ""},
		{"an ARN of the old form", map[string]string{StateDB: bolt("shop", old)}, []string{old}, "shop"},
		{"an old agent's", map[string]string{
			LegacyState: `{"Data":{"Cluster":"web","ContainerInstanceArn":"` + web + `"},"Version":31}`}, []string{web}, "web"},
		{"an old agent's under an empty database", map[string]string{
			StateDB: "\x00", LegacyState: `{"Cluster": "web", "ContainerInstanceArn": "` + web + `"}`}, []string{web}, "web"},
		{"the database before an old agent's", map[string]string{
			StateDB: bolt("shop", shop), LegacyState: `{"ContainerInstanceArn":"` + web + `"}`}, []string{shop}, "shop"},
	}
	for _, tt := range tests {
		got, err := ReadBinding(machine(t, tt.files))
		var arns []string
		for _, arn := range got.Instances {
			arns = append(arns, arn.String())
		}
		if err != nil || !slices.Equal(arns, tt.want) || got.Cluster != tt.cluster {
			t.Errorf("%s: %q, cluster %q, %v; want %q, %q", tt.name, arns, got.Cluster, err, tt.want, tt.cluster)
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
