package ecsagent

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestCheckSetting(t *testing.T) {
	tests := []struct{ key, value, want string }{ // want: part of message or remedy, empty when accepted
		{"ECS_RESERVED_MEMORY", "256", ""},
		{"ECS_RESERVED_MEMORY", "65536", "at most 65535"},
		{"ECS_RESERVED_MEMORY", "-1", "at least 0"},
		{"ECS_RESERVED_MEMORY", "1g", "whole number"},
		{"ECS_RESERVED_MEMORY", "", "has no value"},
		{"ECS_CONTAINER_STOP_TIMEOUT", "90s", ""},
		{"ECS_CONTAINER_STOP_TIMEOUT", "90", "duration"},
		{"ECS_CONTAINER_STOP_TIMEOUT", "10ms", "at least 1s"},
		{"ECS_POLLING_METRICS_WAIT_DURATION", "1m", "at most 20s"},
		{"ECS_DISABLE_METRICS", "true", ""},
		{"ECS_DISABLE_METRICS", "True", "exactly true or false"},
		{"ECS_DISABLE_METRICS", `"true"`, "exactly true or false"},
		{"ECS_LOGLEVEL", "debug", ""},
		{"ECS_LOGLEVEL", "verbose", "one of crit, error"},
		{"ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached", ""},
		{"ECS_AVAILABLE_LOGGING_DRIVERS", `["json-file","journald"]`, ""},
		{"ECS_AVAILABLE_LOGGING_DRIVERS", `["jsonfile"]`, "unknown entry jsonfile"},
		{"ECS_AVAILABLE_LOGGING_DRIVERS", `json-file`, "JSON list"},
		{"ECS_RESERVED_PORTS", `[22,8080]`, ""},
		{"ECS_DYNAMIC_HOST_PORT_RANGE", "40000-50000", ""},
		{"ECS_DYNAMIC_HOST_PORT_RANGE", "50000-40000", "two ports"},
		{"ECS_TASK_METADATA_RPS_LIMIT", "40,60", ""},
		{"ECS_TASK_METADATA_RPS_LIMIT", "40", "two rates"},
		{"ECS_LOG_OPTS", `{"max-size":"10m"}`, ""},
		{"ECS_LOG_OPTS", `{"tag":"a\"b"}`, "systemd takes quotes and backslashes away"}, // ecs-init reads it from its environment
		{"ECS_ENGINE_AUTH_DATA", `{"r":{"password":"a\"b"}}`, ""},                       // only the agent reads it
		{"ECS_CGROUP_PATH", `/sys\fs`, "systemd takes quotes and backslashes away"},
		{"ECS_CGROUP_PATH", "/sys\nAWS_ACCESS_KEY_ID=x", "one line"},
		{"ECS_CGROUP_PATH", " /sys", "one line"},
		{"ECS_CGROUP_PATH", `"/sys"`, "systemd takes quotes"},
		{"ECS_CLUSTER", "prod", "--cluster sets it"},
		{"AWS_DEFAULT_REGION", "eu-west-1", "--region sets it"},
		{"ECS_INSTANCE_ATTRIBUTES", `{}`, "--attribute sets it"},
		{"AWS_ACCESS_KEY_ID", "AKIA", "must not be set"},
		{"ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM", "ec2_instance", "logs no error"},
		{"ECS_ENABLE_TASK_ENI", "true", "no awsvpc"},
		{"ECS_CHECKPOINT", "false", "register a new instance"},
		{"ECS_RESERVED_MEMROY", "256", "did you mean --ecs-config ECS_RESERVED_MEMORY=…"},
		{"ecs_loglevel", "info", "did you mean --ecs-config ECS_LOGLEVEL=…"},
		{"export ECS_LOGLEVEL", "info", "did you mean --ecs-config ECS_LOGLEVEL=…"},
		{"RACK", "12", "names are written in capitals"},
		{"", "12", "has no setting"},
	}
	for _, tt := range tests {
		t.Run(tt.key+"="+tt.value, func(t *testing.T) {
			err := CheckSetting(tt.key, tt.value)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			coded := failure.Of(err)
			if coded == nil || coded.Code != failure.Usage || !strings.Contains(coded.Message+" "+coded.Advice(), tt.want) {
				t.Errorf("got %v (%+v), want %q", err, coded, tt.want)
			}
		})
	}
}

func TestCheckSettingKeepsSecrets(t *testing.T) {
	for _, value := range []string{`{"r":"canary`, "canary\n", `"canary`} {
		err := failure.Of(CheckSetting("ECS_ENGINE_AUTH_DATA", value))
		if err == nil || strings.Contains(err.Message+err.Evidence+err.Advice(), "canary") {
			t.Errorf("%q: %+v", value, err)
		}
	}
}

func TestSettingsAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Settings {
		if seen[s.Name] || !variableName.MatchString(s.Name) {
			t.Errorf("%q is there twice or is no variable's name", s.Name)
		}
		seen[s.Name] = true
		if s.Kind == choice && len(s.Values) == 0 {
			t.Errorf("%s is a choice of nothing", s.Name)
		}
		if s.Default != "" && s.wrong(s.Default) != "" && s.Name != KeyExternal {
			t.Errorf("%s: its own default %q %s", s.Name, s.Default, s.wrong(s.Default))
		}
		if s.Flag == "" && s.Refused == "" && nearest(s.Name) != s.Name {
			t.Errorf("nearest(%s) = %s", s.Name, nearest(s.Name))
		}
	}
}
