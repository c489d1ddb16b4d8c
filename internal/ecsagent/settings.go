package ecsagent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is a row of Settings: what is known of one variable of ecs.config.
type Setting struct {
	Name    string
	Kind    kind
	Min     int64    // of whole numbers, and in nanoseconds of durations; 0 with Max 0 is no bound
	Max     int64    // 0 is no upper bound
	Values  []string // of a choice and of a list; empty is anything
	Default string   // what an external instance has without it, packages of 1.105.1
	Flag    string   // register's flag that sets it; --ecs-config then refuses it
	Refused string   // why nobody should set it on an external instance; --ecs-config refuses it
	Fatal   bool     // the agent does not start with a value that it cannot read
	Secret  bool     // its value is not shown
	Init    bool     // ecs-init reads it from its own environment, so systemd's reading counts
}

type kind int

// Kinds of values.
const (
	text kind = iota
	boolean
	number
	duration
	choice
	jsonMap  // an object whose values are strings
	jsonList // of strings or numbers
	jsonAny
	portRange // "a-b"
	rates     // "steady,burst"
)

// LogDrivers are the names that the agent knows; another one ends it ("Invalid logging drivers"). Source:
// agent/dockerclient/logging_drivers.go of 1.105.1; awsfirelens: the ECS developer guide, 2026-11.
var LogDrivers = []string{"awsfirelens", "awslogs", "fluentd", "gelf", "journald", "json-file", "logentries", "none",
	"splunk", "sumologic", "syslog"}

var levels = []string{"crit", "error", "warn", "info", "debug"}

const (
	millisecond = int64(time.Millisecond)
	second      = int64(time.Second)
	minute      = int64(time.Minute)
)

const (
	reasonKeys   = "keys in ecs.config always beat those of Systems Manager, so the instance would register under another identity"
	reasonInit   = "ecs-init's package sets it for the agent's container; another value breaks the agent or hides its logs from anywhere"
	reasonNoENI  = "external instances have no awsvpc network mode"
	reasonNoEC2  = "it asks the EC2 metadata service, which external instances do not have"
	reasonNoOper = "it does nothing on an external instance"
)

// Settings are the variables that an operator of an external instance may meet. Source: README.md of
// aws/amazon-ecs-agent 1.105.1 (2026-06-29), agent/config/config_unix.go and ecs-init/config/common.go there.
var Settings = []Setting{
	// Identity and endpoint.
	{Name: KeyCluster, Default: "default", Flag: "--cluster"},
	{Name: KeyRegion, Flag: "--region", Fatal: true},
	{Name: KeyExternal, Kind: choice, Values: []string{"true"}, Flag: "register itself", Fatal: true},
	{Name: KeyEndpoint, Flag: "--agent-endpoint"},
	{Name: KeyProfile, Default: "default", Flag: "--ssm-profile"},
	{Name: KeyNoMetadata, Kind: boolean, Flag: "register itself"},
	{Name: KeyIPMode, Kind: choice, Values: []string{"ipv4", "ipv6"}, Flag: "--ip-mode"},
	{Name: "AWS_ACCESS_KEY_ID", Refused: reasonKeys, Secret: true},
	{Name: "AWS_SECRET_ACCESS_KEY", Refused: reasonKeys, Secret: true},
	{Name: "AWS_SESSION_TOKEN", Refused: reasonKeys, Secret: true},
	{Name: "AWS_PROFILE",
		Refused: "the container has no such file; --ssm-profile names the profile that Systems Manager writes"},
	{Name: "AWS_SHARED_CREDENTIALS_FILE",
		Refused: "the container has no such file; --ssm-profile names the profile that Systems Manager writes"},

	// Placement.
	{Name: KeyAttributes, Kind: jsonMap, Flag: "--attribute", Fatal: true},
	{Name: KeyTags, Kind: jsonMap, Flag: "--tag", Fatal: true},
	{Name: KeyPropagateTagsFrom, Kind: choice, Values: []string{"none"},
		Refused: "ec2_instance needs an EC2 instance id, without which the agent dies before it registers and logs no error", Fatal: true},
	{Name: "ECS_RESERVED_MEMORY", Kind: number, Max: 65535, Default: "0"},
	{Name: "ECS_RESERVED_PORTS", Kind: jsonList, Default: "[22,2375,2376,51678,51679]"},
	{Name: "ECS_RESERVED_PORTS_UDP", Kind: jsonList, Default: "[]"},
	{Name: "ECS_DYNAMIC_HOST_PORT_RANGE", Kind: portRange},

	// Features.
	{Name: "ECS_AVAILABLE_LOGGING_DRIVERS", Kind: jsonList, Values: LogDrivers, Fatal: true,
		Default: `["json-file","syslog","awslogs","fluentd","none"]`},
	{Name: "ECS_ENABLE_TASK_IAM_ROLE", Kind: boolean, Default: "true"},
	{Name: "ECS_ENABLE_TASK_IAM_ROLE_NETWORK_HOST", Kind: boolean, Default: "true"},
	{Name: "ECS_ENABLE_AWSLOGS_EXECUTIONROLE_OVERRIDE", Kind: boolean, Default: "true"},
	{Name: KeyGPU, Kind: boolean, Default: "false", Flag: "--enable-gpu"},
	{Name: "ECS_NVIDIA_RUNTIME", Refused: reasonNoOper},
	{Name: "ECS_ENABLE_CONTAINER_METADATA", Kind: boolean, Default: "false"},
	{Name: "ECS_DISABLE_PRIVILEGED", Kind: boolean, Default: "false"},
	{Name: "ECS_SELINUX_CAPABLE", Kind: boolean, Default: "false"},
	{Name: "ECS_APPARMOR_CAPABLE", Kind: boolean, Default: "false"},
	{Name: "ECS_ENABLE_TASK_CPU_MEM_LIMIT", Kind: boolean, Default: "true"},
	{Name: "ECS_CGROUP_PATH", Default: "/sys/fs/cgroup"},
	{Name: "ECS_CGROUP_CPU_PERIOD", Kind: duration, Min: 8 * millisecond, Max: 100 * millisecond, Default: "100ms"},
	{Name: "ECS_TASK_PIDS_LIMIT", Kind: number, Min: 1, Max: 4194304},
	{Name: "ECS_PROPAGATE_TASK_MEMORY_LIMIT_CGROUPV2", Kind: boolean, Default: "false"},
	{Name: "ECS_ENABLE_FIRELENS_ASYNC", Kind: boolean, Default: "true"},
	{Name: "ECS_SHARED_VOLUME_MATCH_FULL_CONFIG", Kind: boolean, Default: "false"},
	{Name: "ECS_EXCLUDE_IPV6_PORTBINDING", Kind: boolean, Default: "true"},
	{Name: "ECS_GMSA_SUPPORTED", Kind: boolean, Default: "false"},
	{Name: "ECS_PAUSE_LABELS", Kind: jsonAny},

	// Images and clean-up.
	{Name: "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION", Kind: duration, Min: second, Default: "3h"},
	{Name: "ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION_JITTER", Kind: duration, Default: "0s"},
	{Name: "ECS_DISABLE_IMAGE_CLEANUP", Kind: boolean, Default: "false"},
	{Name: "ECS_IMAGE_CLEANUP_INTERVAL", Kind: duration, Min: 10 * minute, Default: "30m"},
	{Name: "ECS_IMAGE_MINIMUM_CLEANUP_AGE", Kind: duration, Default: "1h"},
	{Name: "NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE", Kind: duration, Default: "1h"},
	{Name: "ECS_NUM_IMAGES_DELETE_PER_CYCLE", Kind: number, Min: 1, Default: "5"},
	{Name: "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE", Kind: number, Min: 1, Default: "5"},
	{Name: "ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP", Kind: boolean, Default: "false"},
	{Name: "ECS_EXCLUDE_UNTRACKED_IMAGE"},
	{Name: "ECS_IMAGE_PULL_BEHAVIOR", Kind: choice, Values: []string{"default", "always", "once", "prefer-cached"},
		Default: "default"},
	{Name: "ECS_IMAGE_PULL_TIMEOUT", Kind: duration, Min: second, Default: "2h"},
	{Name: "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT", Kind: duration, Min: second, Default: "1m"},
	{Name: "ECS_MANIFEST_PULL_TIMEOUT", Kind: duration, Min: 30 * second, Default: "1m"},
	{Name: "ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT", Kind: boolean, Default: "false"},

	// Time-outs.
	{Name: "ECS_CONTAINER_STOP_TIMEOUT", Kind: duration, Min: second, Default: "30s"},
	{Name: "ECS_CONTAINER_START_TIMEOUT", Kind: duration, Min: 45 * second, Default: "3m"},
	{Name: "ECS_CONTAINER_CREATE_TIMEOUT", Kind: duration, Min: minute, Default: "4m"},

	// Registries.
	{Name: "ECS_ENGINE_AUTH_TYPE", Kind: choice, Values: []string{"docker", "dockercfg"}},
	{Name: "ECS_ENGINE_AUTH_DATA", Kind: jsonAny, Secret: true},

	// Metrics and health.
	{Name: "ECS_DISABLE_METRICS", Kind: boolean, Default: "false"},
	{Name: "ECS_POLL_METRICS", Kind: boolean, Default: "false"},
	{Name: "ECS_POLLING_METRICS_WAIT_DURATION", Kind: duration, Min: 5 * second, Max: 20 * second, Default: "10s"},
	{Name: "ECS_DISABLE_DOCKER_HEALTH_CHECK", Kind: boolean, Default: "false"},
	{Name: "ECS_TASK_METADATA_RPS_LIMIT", Kind: rates, Default: "40,60"},
	{Name: "ECS_ENABLE_PROMETHEUS_METRICS", Kind: boolean, Default: "false"},
	{Name: "ECS_ENABLE_RUNTIME_STATS", Kind: boolean, Default: "false"},

	// State and updates.
	{Name: "ECS_CHECKPOINT", Kind: choice, Values: []string{"true"}, Default: "true",
		Refused: "without a saved state every start of the agent would register a new instance"},
	{Name: "ECS_DATADIR", Refused: reasonInit},
	{Name: "ECS_HOST_DATA_DIR", Refused: reasonInit},
	{Name: "ECS_UPDATE_DOWNLOAD_DIR", Refused: reasonInit},
	{Name: "ECS_AGENT_CONFIG_FILE_PATH", Refused: reasonInit},
	{Name: "ECS_UPDATES_ENABLED", Kind: boolean, Default: "true"},

	// Logging.
	{Name: "ECS_LOGLEVEL", Kind: choice, Values: levels, Default: "info", Init: true},
	{Name: "ECS_LOGLEVEL_ON_INSTANCE", Kind: choice, Values: append([]string{"none"}, levels...)},
	{Name: "ECS_LOGFILE", Refused: reasonInit},
	{Name: "ECS_LOG_ROLLOVER_TYPE", Kind: choice, Values: []string{"size", "hourly"}, Default: "size"},
	{Name: "ECS_LOG_OUTPUT_FORMAT", Kind: choice, Values: []string{"logfmt", "json"}, Default: "logfmt"},
	{Name: "ECS_LOG_MAX_FILE_SIZE_MB", Kind: number, Min: 1, Default: "5"},
	{Name: "ECS_LOG_MAX_ROLL_COUNT", Kind: number, Min: 1, Default: "24"},
	{Name: "ECS_AUDIT_LOGFILE"},
	{Name: "ECS_AUDIT_LOGFILE_DISABLED", Kind: boolean, Default: "false"},

	// ecs-init's own.
	{Name: "DOCKER_HOST", Init: true},
	{Name: "ECS_LOG_DRIVER", Kind: choice, Init: true, Default: "json-file",
		Values: []string{"awslogs", "fluentd", "gelf", "json-file", "journald", "logentries", "syslog", "splunk"}},
	{Name: "ECS_LOG_OPTS", Kind: jsonMap, Init: true},
	{Name: "ECS_INIT_DOCKER_LOG_FILE_SIZE", Default: "16m", Init: true},
	{Name: "ECS_INIT_DOCKER_LOG_FILE_NUM", Kind: number, Min: 1, Default: "4", Init: true},
	{Name: "ECS_AGENT_LABELS", Kind: jsonMap, Init: true},
	{Name: "ECS_AGENT_APPARMOR_PROFILE", Default: "ecs-agent-default", Init: true},
	{Name: "ECS_AGENT_RUN_PRIVILEGED", Kind: boolean, Default: "false", Init: true},
	{Name: "ECS_AGENT_PID_NAMESPACE_HOST", Kind: boolean, Default: "false", Init: true},
	{Name: "ECS_SKIP_LOCALHOST_TRAFFIC_FILTER", Kind: boolean, Default: "false", Init: true},
	{Name: "ECS_ALLOW_OFFHOST_INTROSPECTION_ACCESS", Kind: boolean, Default: "false", Init: true},

	// The proxy and trust, for the agent and, through systemd, for ecs-init.
	{Name: "HTTP_PROXY", Flag: "--http-proxy", Secret: true, Init: true},
	{Name: "HTTPS_PROXY", Flag: "--https-proxy", Secret: true, Init: true},
	{Name: "NO_PROXY", Flag: "--no-proxy", Init: true},
	{Name: "http_proxy", Flag: "--http-proxy", Secret: true, Init: true},
	{Name: "https_proxy", Flag: "--https-proxy", Secret: true, Init: true},
	{Name: "no_proxy", Flag: "--no-proxy", Init: true},
	{Name: "SSL_CERT_FILE", Flag: "--ca-file"},
	{Name: "SSL_CERT_DIR"},

	// Of no use on an external instance.
	{Name: "ECS_ENABLE_TASK_ENI", Kind: boolean, Refused: reasonNoENI},
	{Name: "ECS_AWSVPC_BLOCK_IMDS", Kind: boolean, Refused: reasonNoENI},
	{Name: "ECS_AWSVPC_ADDITIONAL_LOCAL_ROUTES", Kind: jsonList, Refused: reasonNoENI},
	{Name: "ECS_ENABLE_HIGH_DENSITY_ENI", Kind: boolean, Refused: reasonNoENI},
	{Name: "ECS_ENABLE_SPOT_INSTANCE_DRAINING", Kind: boolean, Refused: reasonNoEC2},
	{Name: "ECS_WARM_POOLS_CHECK", Kind: boolean, Refused: reasonNoEC2},
	{Name: "ECS_DISABLE_TASK_METADATA_AZ", Kind: boolean, Refused: reasonNoOper},
	{Name: "ECS_EBSTA_SUPPORTED", Kind: boolean, Refused: "external instances cannot attach EBS volumes"},
}

// IsSecret reports whether a variable's value is not for everybody's eyes.
func IsSecret(name string) bool {
	s, found := known(name)
	return found && s.Secret
}

// known finds a setting by its exact name.
func known(name string) (Setting, bool) {
	i := slices.IndexFunc(Settings, func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return Setting{}, false
	}
	return Settings[i], true
}

// wrong says, without repeating the value, what is wrong with it; empty when it can be read.
func (s Setting) wrong(value string) string {
	switch s.Kind {
	case boolean:
		if value != "true" && value != "false" {
			return "must be exactly true or false" // ecs-init and the agent agree on no other spelling
		}
	case number:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return "must be a whole number"
		}
		return s.outside(n, func(n int64) string { return strconv.FormatInt(n, 10) })
	case duration:
		d, err := time.ParseDuration(value)
		if err != nil {
			return "must be a duration like 90s or 3h"
		}
		return s.outside(int64(d), func(n int64) string { return time.Duration(n).String() })
	case choice:
		if !slices.Contains(s.Values, value) {
			return "must be one of " + strings.Join(s.Values, ", ")
		}
	case jsonMap:
		var m map[string]string
		if err := json.Unmarshal([]byte(value), &m); err != nil || m == nil {
			return `must be a JSON object of strings on one line, like {"rack":"12"}`
		}
	case jsonList:
		return s.wrongList(value)
	case jsonAny:
		if !json.Valid([]byte(value)) {
			return "must be JSON on one line"
		}
	case portRange:
		low, high, _ := strings.Cut(value, "-")
		a, errA := strconv.ParseUint(low, 10, 16)
		b, errB := strconv.ParseUint(high, 10, 16)
		if errA != nil || errB != nil || a == 0 || a > b {
			return "must be two ports like 49153-65535"
		}
	case rates:
		steady, burst, _ := strings.Cut(value, ",")
		a, errA := strconv.ParseUint(steady, 10, 31)
		b, errB := strconv.ParseUint(burst, 10, 31)
		if errA != nil || errB != nil || a == 0 || b < a {
			return "must be two rates like 40,60, the second not the smaller one"
		}
	}
	return ""
}

func (s Setting) wrongList(value string) string {
	var list []any
	if err := json.Unmarshal([]byte(value), &list); err != nil || list == nil {
		return `must be a JSON list on one line, like ["a","b"]`
	}
	if s.Values == nil {
		return ""
	}
	for _, item := range list {
		if name, ok := item.(string); !ok || !slices.Contains(s.Values, name) {
			return fmt.Sprintf("has the unknown entry %v; known are %s", item, strings.Join(s.Values, ", "))
		}
	}
	return ""
}

func (s Setting) outside(n int64, show func(int64) string) string {
	switch {
	case n < s.Min:
		return "must be at least " + show(s.Min)
	case s.Max != 0 && n > s.Max:
		return "must be at most " + show(s.Max)
	}
	return ""
}
