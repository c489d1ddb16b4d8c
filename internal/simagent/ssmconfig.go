package simagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Paths of the SSM agent on Linux (deb, rpm and snap alike; amazon-ssm-agent, appconfig/constants_unix.go).
const (
	ssmConfigFile    = "/etc/amazon/ssm/amazon-ssm-agent.json"
	ssmDataDir       = "/var/lib/amazon/ssm"
	ssmVault         = ssmDataDir + "/Vault"
	ssmSideFile      = ssmDataDir + "/registration"
	ssmRuntimeDir    = ssmDataDir + "/runtimeconfig"
	ssmIdentityFile  = ssmRuntimeDir + "/identity_config.json"
	ssmLogDir        = "/var/log/amazon/ssm"
	ssmPingMinutes   = 5
	ssmDefaultSuffix = "amazonaws.com"
)

// ssmConfig is the part of amazon-ssm-agent.json that matters here.
type ssmConfig struct {
	Profile struct {
		ShareCreds   *bool
		ShareProfile string
	}
	Ssm struct {
		Endpoint               string
		HealthFrequencyMinutes int
	}
	Agent    struct{ ServiceDomain string }
	Identity struct{ ConsumptionOrder []string }
}

// config reads amazon-ssm-agent.json. With a malformed file it returns the defaults and the error: -register goes on
// with them, the service does not.
func (s *SSM) config() (ssmConfig, error) {
	var c ssmConfig
	data, err := os.ReadFile(s.path(ssmConfigFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		fmt.Fprintf(s.stderr(), "Found config file at %s.\nApplying config override from %s.\n", ssmConfigFile, ssmConfigFile)
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		fmt.Fprintf(s.stderr(), "Failed to unmarshal config override. Fall back to default.\n")
		return ssmConfig{}, err
	}
	return c, nil
}

func (c ssmConfig) takesOnPrem() bool {
	if len(c.Identity.ConsumptionOrder) == 0 {
		return true
	}
	for _, kind := range c.Identity.ConsumptionOrder {
		if kind == "OnPrem" {
			return true
		}
	}
	return false
}

func (c ssmConfig) profile() string {
	if c.Profile.ShareProfile == "" {
		return "default"
	}
	return c.Profile.ShareProfile
}

func (c ssmConfig) sharesCredentials() bool {
	return c.Profile.ShareCreds == nil || *c.Profile.ShareCreds
}

// endpoint is where calls to SSM go. An endpoint without a scheme means https.
func (c ssmConfig) endpoint(region string) string {
	host := c.Ssm.Endpoint
	if host == "" {
		suffix := c.Agent.ServiceDomain
		if suffix == "" {
			suffix = ssmSuffix(region)
		}
		host = "ssm." + region + "." + suffix
	}
	if !strings.HasPrefix(host, "http://") && !strings.HasPrefix(host, "https://") {
		host = "https://" + host
	}
	return strings.TrimSuffix(host, "/") + "/"
}

// ssmSuffix is the agent's own table (common/identity/endpoint).
func ssmSuffix(region string) string {
	for _, row := range [][2]string{
		{"cn-", "amazonaws.com.cn"}, {"us-isob-", "sc2s.sgov.gov"}, {"us-isof-", "csp.hci.ic.gov"}, {"us-iso-", "c2s.ic.gov"},
		{"eu-isoe-", "cloud.adc-e.uk"}, {"eusc-de-", "amazonaws.eu"},
	} {
		if strings.HasPrefix(region, row[0]) {
			return row[1]
		}
	}
	return ssmDefaultSuffix
}

func validRegion(region string) bool {
	if region == "" || len(region) > 100 {
		return false
	}
	for _, r := range region {
		if !(r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return false
		}
	}
	return true
}
