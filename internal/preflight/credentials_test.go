package preflight

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// Every source is there, in the order of the agent's version, with what becomes of it and whose it is.
func TestCredentialSources(t *testing.T) {
	const (
		file    = "/root/.aws/credentials [default]"
		role    = "http://169.254.169.254"
		keyPair = "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nAWS_SECRET_ACCESS_KEY=not-a-real-secret\n"
		ecsKeys = "/etc/systemd/system/ecs.service.d/a.conf"
		ssmKeys = "/etc/systemd/system/amazon-ssm-agent.service.d/a.conf"
	)
	own := credentialSource{"ssm-file", file, "access key ****MPLE", "ssm-agent", "wins"}
	for _, c := range []struct {
		name, agent string
		change      func(*machine)
		winner      string
		want        []credentialSource
	}{
		{"a new host", "", nil, "none", []credentialSource{
			{"ssm-file", file, "nothing yet", "none", "no effect"},
			{"ec2-role", role, "would be asked after the managed node's credentials; this check does not ask it", "none", "unknown"},
		}},
		{"a registered host", "1.105.1-1", func(m *machine) {
			m.managedNode(nodeID)
			m.write(ecsagent.ConfigPath, "AWS_EC2_METADATA_DISABLED=true\n")
		}, "ssm-file", []credentialSource{
			own, {"ec2-role", role, "not asked: AWS_EC2_METADATA_DISABLED=true", "none", "no effect"},
		}},
		{"an agent before 1.100.0", "1.99.1-1", func(m *machine) { m.managedNode(nodeID) }, "ssm-file", []credentialSource{
			{"ec2-role", role, "would be asked before the managed node's credentials; this check does not ask it", "none", "unknown"}, own,
		}},
		{"a person's key", "", func(m *machine) { m.write(ssmagent.CredentialsPath, longTermKey) }, "ssm-file", []credentialSource{
			{"ssm-file", file, "access key ****MPLE", "foreign", "wins"},
			{"ec2-role", role, "would be asked after the managed node's credentials", "none", "shadowed"},
		}},
		{"a file that cannot be parsed", "", func(m *machine) { m.write(ssmagent.CredentialsPath, "[default\n") }, "none", []credentialSource{
			{"ssm-file", file, "a file that cannot be parsed", "foreign", "no effect"},
			{"ec2-role", role, "would be asked after the managed node's credentials; this check does not ask it", "none", "unknown"},
		}},
		{"keys in ecs.config", "", func(m *machine) {
			m.managedNode(nodeID)
			m.write(ecsagent.ConfigPath, keyPair)
		}, "environment", []credentialSource{
			{"environment", ecsagent.ConfigPath, "access key ****MPLE", "foreign", "wins"},
			{"ssm-file", file, "access key ****MPLE", "ssm-agent", "shadowed"},
			{"ec2-role", role, "would be asked after the managed node's credentials", "none", "shadowed"},
		}},
		{"half a pair, and places that reach nobody", "", func(m *machine) {
			m.managedNode(nodeID)
			m.write(ecsagent.InstanceConfigPath, "AWS_SESSION_TOKEN=not-a-real-secret\n")
			m.write(ecsagent.JSONConfigPath, `{"AWS_ACCESS_KEY_ID":"AKIAIOSFODNN7EXAMPLE"}`)
			m.write(ecsKeys, "[Service]\nEnvironment=AWS_PROFILE=mine\nEnvironment=LANG=C\n")
			m.write(ssmKeys, "[Service]\nEnvironment=AWS_SECRET_ACCESS_KEY=not-a-real-secret\n")
		}, "ssm-file", []credentialSource{
			{"environment", ecsagent.InstanceConfigPath, "half a key pair", "foreign", "no effect"}, own,
			{"ec2-role", role, "would be asked after the managed node's credentials", "none", "shadowed"},
			{"ecs-service", ecsKeys, "AWS_PROFILE reaches ecs-init, not the agent in its container", "foreign", "no effect"},
			{"ssm-service", ssmKeys, "AWS_SECRET_ACCESS_KEY reaches what the SSM agent runs, not its own calls", "foreign", "no effect"},
			{"json-config", ecsagent.JSONConfigPath, "AWS_ACCESS_KEY_ID is none of the settings that the agent reads there", "foreign", "no effect"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			if c.agent != "" {
				m.install(ecsagent.Package, c.agent)
			}
			if c.change != nil {
				c.change(m)
			}
			evidence := m.check("credentials.chain", Subject{}).Evidence
			if diff := cmp.Diff(c.want, evidence["sources"]); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if evidence["winner"] != c.winner || evidence["agentVersion"] != c.agent {
				t.Errorf("winner %v, version %v; want %s, %s", evidence["winner"], evidence["agentVersion"], c.winner, c.agent)
			}
			text, err := json.Marshal(evidence)
			if err != nil || strings.Contains(string(text), "not-a-real") || strings.Contains(string(text), "AKIA") {
				t.Errorf("a secret is shown: %s, %v", text, err)
			}
		})
	}
}
