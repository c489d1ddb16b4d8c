package ecsagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// machine is a host with these files.
func machine(t testing.TB, files map[string]string) host.Reader {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		write(t, filepath.Join(root, path), content)
	}
	return host.Reader{Files: host.NewDir(root), Now: time.Now}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestConfigOfTwoFiles(t *testing.T) {
	c, err := ReadConfig(machine(t, map[string]string{
		InstanceConfigPath: "ECS_EXTERNAL=true\nAWS_DEFAULT_REGION=eu-west-1\nECS_CLUSTER=old\nHTTP_PROXY=http://p:1\n",
		ConfigPath:         "ECS_CLUSTER=new\nECS_LOGLEVEL=\"debug\"\nHTTP_PROXY=\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ key, agent, init string }{
		{KeyExternal, "true", "true"},
		{KeyCluster, "new", "new"},
		{"ECS_LOGLEVEL", `"debug"`, "debug"},
		{"HTTP_PROXY", "", ""}, // an empty one in the later file hides the earlier
		{"ECS_RESERVED_MEMORY", "", ""},
	}
	for _, tt := range tests {
		if got := c.Agent(tt.key); got != tt.agent {
			t.Errorf("Agent(%s) = %q, want %q", tt.key, got, tt.agent)
		}
		if got := c.Init(tt.key); got != tt.init {
			t.Errorf("Init(%s) = %q, want %q", tt.key, got, tt.init)
		}
	}
}

func TestConfigWithoutFiles(t *testing.T) {
	c, err := ReadConfig(machine(t, nil))
	if err != nil || c.Agent(KeyCluster) != "" || c.Init(KeyCluster) != "" || len(c.Problems()) != 0 {
		t.Errorf("ReadConfig = %+v, %v", c, err)
	}
	if err := c.User.Set(KeyCluster, "a"); err != nil || string(c.User.Bytes()) != "ECS_CLUSTER=a\n" {
		t.Errorf("Set in a missing file: %q, %v", c.User.Bytes(), err)
	}
}

func TestProblems(t *testing.T) {
	tests := []struct {
		name, user string
		want       string // "line key fatal: part of what is wrong", one a line
	}{
		{"a good file", "# my host\n\nECS_CLUSTER=prod\nECS_EXTERNAL=true\nECS_INSTANCE_ATTRIBUTES={\"a\":\"b\"}\n", ""},
		{"quoted external", "ECS_EXTERNAL=\"true\"\n", "1 ECS_EXTERNAL true: has a quoted value"},
		{"single quotes", "ECS_LOGLEVEL='info'\n", "1 ECS_LOGLEVEL false: has a quoted value"},
		{"external in the agent's spelling only", "ECS_EXTERNAL=True\n", "1 ECS_EXTERNAL true: means true for the agent only"},
		{"external is false", "ECS_EXTERNAL=false\n", "1 ECS_EXTERNAL true: says that this is an EC2 instance"},
		{"external is nonsense", "ECS_EXTERNAL=yes\n", "1 ECS_EXTERNAL true: is not true"},
		{"export", "\nexport ECS_CLUSTER=prod\n", "2 ECS_CLUSTER true: has an export"},
		{"blank before", "ECS_CLUSTER =prod\n", "1 ECS_CLUSTER true: has a blank in front"},
		{"blank after", "ECS_CLUSTER= prod\n", "1 ECS_CLUSTER true: has a blank behind"},
		{"comment that becomes a variable", "#ECS_CLUSTER=old\n# words only\n", "1 #ECS_CLUSTER false: is a comment for systemd only"},
		{"comment with a backslash", "# path C:\\\nECS_CLUSTER=a\n", "1  true: is a comment that ends in a backslash"},
		{"keys", "AWS_ACCESS_KEY_ID=AKIAEXAMPLE\nAWS_SECRET_ACCESS_KEY=canary-secret\n",
			"1 AWS_ACCESS_KEY_ID true: keys in ecs.config always beat\n2 AWS_SECRET_ACCESS_KEY true: keys in ecs.config always beat"},
		{"bad attributes", "ECS_INSTANCE_ATTRIBUTES={\"a\":1}\n", "1 ECS_INSTANCE_ATTRIBUTES true: must be a JSON object of strings"},
		{"bad tags", "ECS_CONTAINER_INSTANCE_TAGS={a:b}\n", "1 ECS_CONTAINER_INSTANCE_TAGS true: must be a JSON object of strings"},
		{"bad ports are only bad", "ECS_RESERVED_PORTS=22,80\n", "1 ECS_RESERVED_PORTS false: must be a JSON list"},
		{"tags from EC2", "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM=ec2_instance\n",
			"1 ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM true: ec2_instance needs an EC2 instance id"},
		{"tags from nowhere", "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM=none\n", ""},
		{"unknown log driver", "ECS_AVAILABLE_LOGGING_DRIVERS=[\"json-file\",\"jsonfile\"]\n",
			"1 ECS_AVAILABLE_LOGGING_DRIVERS true: has the unknown entry jsonfile"},
		{"no assignment", "ECS_CLUSTER\n", "1  false: is no KEY=VALUE"},
		{"strange name", "ECS-CLUSTER=a\n", "1 ECS-CLUSTER false: has no proper name"},
		{"swallowed by a quote", "ECS_LOGLEVEL=\"info\nECS_EXTERNAL=true\n",
			"1 ECS_LOGLEVEL false: has a quoted value\n2 ECS_EXTERNAL true: is not seen by systemd"},
		{"swallowed by a backslash", "ECS_CGROUP_PATH=/sys\\\nECS_CLUSTER=a\n",
			"1 ECS_CGROUP_PATH false: has a backslash\n2 ECS_CLUSTER true: is not seen by systemd"},
		{"backslash in JSON for the agent", `ECS_INSTANCE_ATTRIBUTES={"a":"x\"y"}`, ""},
		{"byte order mark", "\ufeffECS_EXTERNAL=true\n", "1 ECS_EXTERNAL true: begins with a byte order mark"},
		{"not UTF-8", "A=\xff\n", "0  true: is not UTF-8\n1 A false: is not seen by systemd"},
		{"carriage returns", "ECS_CLUSTER=a\r\nECS_EXTERNAL=true\r\n", ""},
		{"unknown settings are the operator's affair", "MY_OWN=1\n", ""},
		{"a duration too short", "ECS_CONTAINER_STOP_TIMEOUT=1ms\n", "1 ECS_CONTAINER_STOP_TIMEOUT false: must be at least 1s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, p := range (Config{Instance: Parse(nil), User: Parse([]byte(tt.user))}).Problems() {
				if p.File != ConfigPath || p.Remedy == "" {
					t.Errorf("%+v names no file or remedy", p)
				}
				if strings.Contains(p.Wrong+p.Remedy, "canary") {
					t.Errorf("%+v shows a secret", p)
				}
				got = append(got, summary(p))
			}
			want := strings.Split(tt.want, "\n")
			if tt.want == "" {
				want = nil
			}
			if diff := cmp.Diff(len(want), len(got)); diff != "" {
				t.Fatalf("want %q, got %q", want, got)
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("got %q, want %q", got[i], want[i])
				}
			}
		})
	}
}

func summary(p Problem) string {
	fatal := "false"
	if p.Fatal {
		fatal = "true"
	}
	return string(rune('0'+p.Line)) + " " + p.Key + " " + fatal + ": " + p.Wrong
}

func TestProblemsNameTheFile(t *testing.T) {
	c := Config{Instance: Parse([]byte("ECS_EXTERNAL=\"true\"\n")), User: Parse(nil), JSON: []byte(`{"Cluster": `)}
	got := c.Problems()
	if len(got) != 2 || got[0].File != InstanceConfigPath || got[1].File != JSONConfigPath || !got[1].Fatal {
		t.Errorf("Problems = %+v", got)
	}
	c.JSON = []byte(" \n")
	if got := c.Problems(); len(got) != 1 {
		t.Errorf("an empty JSON file is a problem: %+v", got)
	}
}

func TestCluster(t *testing.T) {
	for _, test := range []struct {
		name, user, instance, json, want string
	}{
		{"nowhere", "", "", "", ""},
		{"in the operator's file", "ECS_CLUSTER=shop\n", "ECS_CLUSTER=web\n", `{"Cluster":"old"}`, "shop"},
		{"in the instance's file", "", "ECS_CLUSTER=web\n", `{"Cluster":"old"}`, "web"},
		{"in the JSON file", "ECS_LOGLEVEL=debug\n", "", `{"Cluster":"old","Checkpoint":true}`, "old"},
		{"in the JSON file by its older name", "", "", `{"ClusterArn":"older"}`, "older"},
		{"empty above the JSON file", "ECS_CLUSTER=\n", "", `{"Cluster":"old"}`, "old"},
		{"in a JSON file that is none", "", "", `{"Cluster":`, ""},
	} {
		files := map[string]string{ConfigPath: test.user, InstanceConfigPath: test.instance, JSONConfigPath: test.json}
		config, err := ReadConfig(machine(t, files))
		if got := config.Cluster(); err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}
