package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

func credentialChecks() []Check {
	return []Check{
		{ID: "credentials.chain", Title: "Credentials that the agents would find", Root: true, Run: credentialsChain},
	}
}

// accessKeys are the settings by which a configuration file gives the ECS agent credentials of its own.
var accessKeys = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}

// credentialsChain looks at the agents' sources in the ECS agent's own order: keys in its configuration files beat
// everything, then comes the profile that SSM Agent maintains (aws/amazon-ecs-agent 1.100.0 of 2025-10-07 and newer,
// ecs-agent/credentials/providers).
func credentialsChain(_ context.Context, s Subject) Result {
	config, err := ecsagent.ReadConfig(s.Host)
	if err != nil {
		return broken(err)
	}
	for _, key := range accessKeys {
		if config.Agent(key) != "" {
			return fail(failure.ForeignProfile,
				key+" in the ECS agent's configuration would win over the managed node's credentials",
				fmt.Sprintf("sed -i -E '/(%s)=/d' %s %s",
					strings.Join(accessKeys, "|"), ecsagent.ConfigPath, ecsagent.InstanceConfigPath)).with("setting", key)
		}
	}
	identity, err := ssmagent.ReadIdentity(s.Host)
	if err != nil {
		return broken(err)
	}
	credentials, err := ssmagent.ReadCredentials(s.Host, s.Profile)
	if err != nil {
		return broken(err)
	}
	if why, foreign := ssmagent.Foreign(credentials, identity, s.Profile); foreign {
		return fail(failure.ForeignProfile, why, fmt.Sprintf(
			"rename the profile in %[1]s, or move the file away (mv %[1]s %[1]s.before-ecs), then run the command again",
			ssmagent.CredentialsPath)).with("profiles", append([]string{}, credentials.Profiles...))
	}
	var r Result
	switch {
	case !credentials.Exists:
		r = pass("none: SSM Agent will write %s", ssmagent.CredentialsPath)
	case credentials.Ours:
		r = pass("the managed node's own, in %s", ssmagent.CredentialsPath)
	default:
		r = pass("%s has other profiles (%s), which SSM Agent leaves alone",
			ssmagent.CredentialsPath, strings.Join(credentials.Profiles, ", "))
	}
	if credentials.Exists && credentials.Mode.Perm()&0o077 != 0 {
		r.Status, r.Remedy = Warn, "chmod 0600 "+ssmagent.CredentialsPath
		r.Detail += fmt.Sprintf("; its mode is %#o, so others can read the node's keys", credentials.Mode.Perm())
	}
	return r.with("order", []string{ecsagent.ConfigPath, ecsagent.InstanceConfigPath, ssmagent.CredentialsPath}).
		with("profiles", append([]string{}, credentials.Profiles...))
}
