package ecsagent

import "testing"

// The order changed with 1.100.0; a Debian revision does not count.
func TestCredentialOrder(t *testing.T) {
	for version, ssmFirst := range map[string]bool{
		"": true, "1.105.1-1": true, "1.100.0-1": true, "1.100.0": true, "1.99.1-1": false, "1.52.0-1": false,
	} {
		if got := FromSSM.Before(FromEC2Role, version); got != ssmFirst {
			t.Errorf("%q: SSM Agent's file before an EC2 role is %v", version, got)
		}
		if !FromEnvironment.Before(FromSSM, version) {
			t.Errorf("%q: keys in ecs.config win", version)
		}
	}
}

func TestProfileOfConfig(t *testing.T) {
	named := Config{Instance: Parse(nil), User: Parse([]byte("ECS_ALTERNATE_CREDENTIAL_PROFILE=ecs\n"))}
	for _, c := range []struct {
		config        Config
		version, want string
	}{
		{Config{Instance: Parse(nil), User: Parse(nil)}, "", "default"},
		{named, "", "ecs"},
		{named, "1.63.0-1", "ecs"},
		{named, "1.62.2-1", "default"},
	} {
		if got := c.config.Profile(c.version); got != c.want {
			t.Errorf("%q reads profile %s; want %s", c.version, got, c.want)
		}
	}
}
