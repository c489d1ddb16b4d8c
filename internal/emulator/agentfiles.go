package emulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// AgentFile is a file on a machine whose agents are to find the emulator instead of AWS.
type AgentFile struct{ Path, Content string }

// anchor is where Debian and Ubuntu look for authorities; update-ca-certificates makes them trust it.
const anchor = "/usr/local/share/ca-certificates/anywhere-emulator.crt"

// AgentFiles are the files that point SSM Agent and the ECS agent at the emulator; base is the URL at which their machine
// reaches it. Names and their quirks: amazon-ssm-agent 3.3 and amazon-ecs-agent 1.105.1, run against it on 2026-11-25.
func (e *Emulator) AgentFiles(base, cluster string) []AgentFile {
	base = strings.TrimSuffix(base, "/")
	ssm := map[string]any{
		"Ssm": map[string]string{"Endpoint": base}, "Mds": map[string]string{"Endpoint": base},
		// It takes the host of this one and speaks TLS to it; without a scheme it would take AWS's own host.
		"Mgs": map[string]string{"Endpoint": secured(base)},
		// Without this, an agent that is not registered asks the metadata service whether it is an EC2 instance.
		"Identity": map[string]any{"ConsumptionOrder": []string{"OnPrem"}},
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "    ")
	_ = encoder.Encode(ssm) // strings always encode
	files := []AgentFile{
		{"/etc/amazon/ssm/amazon-ssm-agent.json", text.String()},
		// Nothing is quoted: ecs-init does not take quotes away.
		{"/etc/ecs/ecs.config", fmt.Sprintf("ECS_CLUSTER=%s\nECS_EXTERNAL=true\nAWS_DEFAULT_REGION=%s\nECS_BACKEND_HOST=%s\n"+
			"AWS_EC2_METADATA_DISABLED=true\n", cluster, e.opts.Region, base)},
	}
	if e.opts.Authority != nil {
		files = append(files, AgentFile{anchor, string(e.opts.Authority.PEM())})
	}
	return files
}

func secured(base string) string {
	return "https://" + strings.TrimPrefix(strings.TrimPrefix(base, "http://"), "https://")
}

// AgentFlags are the flags with which `anywhere register` writes those files itself.
func AgentFlags(base string) string {
	base = strings.TrimSuffix(base, "/")
	return fmt.Sprintf("--endpoint-url %[1]s --agent-endpoint ecs=%[1]s,ssm=%[1]s,ec2messages=%[1]s,ssmmessages=%[2]s",
		base, secured(base))
}
