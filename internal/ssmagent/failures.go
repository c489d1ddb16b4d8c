package ssmagent

import (
	"regexp"
	"sync"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Failure is a known failure of the agent, told by a line that it prints: in its log, or when it registers.
type Failure struct {
	Pattern  Pattern
	Code     failure.Code
	Cause    string // empty: the code's own in failure.Catalogue
	Remedy   string // empty: likewise
	Terminal bool   // the agent may go on trying, but waiting longer cannot help
	Since    string // the first and last version that prints it; empty is open
	Until    string
	Source   string
}

// explained returns the failure's cause and remedy.
func (f Failure) explained() (cause, remedy string) {
	row := failure.Catalogue[f.Code]
	cause, remedy = f.Cause, f.Remedy
	if cause == "" {
		cause = row.Cause
	}
	if remedy == "" {
		remedy = row.Remedy
	}
	return cause, remedy
}

// Sources of the rows below.
const (
	ran   = "agent 3.3.987.0 run against a server, 2026-11-22"
	read  = "source of agent 3.3.987.0, read 2026-11-22"
	issue = "https://github.com/aws/amazon-ssm-agent/issues/"
)

// Failures are the known failures. The first whose pattern is in a line explains it, so the closer ones stand first.
var Failures = []Failure{
	// The identity.
	{
		Pattern: line(`MachineFingerprintDoesNotMatch`), Code: failure.FingerprintChanged, Terminal: true, Source: ran,
	},
	{
		Pattern: line(`Machine configuration has changed more than the allowed threshold|` +
			`The hardware ID \(.*has changed from the registered value`),
		Code: failure.FingerprintChanged, Terminal: true, Source: ran,
		Cause: "the agent takes this machine for another than the registered one: " +
			"a clone, a new machine-id or much changed hardware",
	},
	{
		Pattern: line(`InvalidInstanceId`), Code: failure.NodeUnknown, Terminal: true, Source: issue + "381",
	},
	{
		Pattern: line(`Failed to roll-back remove public key change`),
		Code:    failure.CredentialsInvalid, Terminal: true, Source: read,
		Cause:  "a rotation of the node's key failed half-way: the service and this host have different keys",
		Remedy: "register the host anew with a new activation and --accept-risk replace-identity",
	},
	{
		Pattern: line(`RegistrationKey does not exist|Agent failed to assume any identity|failed to find agent identity`),
		Code:    failure.IdentityUnknown, Terminal: true, Source: issue + "247",
		Cause:  "the agent finds no registration on this host",
		Remedy: "register the host: anywhere register with a new activation",
	},
	{
		Pattern: line(`(?i)Failed to load instance info from vault|error while loading server info`),
		Code:    failure.IdentityUnknown, Terminal: true, Source: issue + "484",
		Cause:  "the agent cannot read its identity store",
		Remedy: "register the host anew: anywhere register with a new activation and --accept-risk replace-identity",
	},

	// Registration.
	{
		Pattern: line(`ActivationExpired`), Code: failure.ActivationExpired, Terminal: true, Source: ran,
	},
	{
		Pattern: line(`RegistrationLimitExceeded`), Code: failure.ActivationUsedUp, Terminal: true, Source: ran,
	},
	{
		Pattern: line(`InvalidActivation`), Code: failure.ActivationInvalid, Terminal: true, Source: ran,
	},
	{
		Pattern: line(`RegisterManagedInstanceInput\.Activation(Code|Id)`), Code: failure.Usage, Terminal: true, Source: ran,
		Cause:  "the activation's id or code is too short: it was cut when it was copied",
		Remedy: "give the whole id (36 characters) and code (at least 20)",
	},
	{
		Pattern: line(`MissingEndpoint|region \S* ?has invalid characters`), Code: failure.Usage, Terminal: true, Source: ran,
		Cause:  "the Region is not a Region's name",
		Remedy: "give --region like eu-central-1, without quotation marks round it",
	},
	{
		Pattern: line(`Unable to save registration information`), Code: failure.NotRoot, Terminal: true, Source: ran,
		Cause:  "the agent could not write its identity store",
		Remedy: "run the command as root; if it was, see that /var/lib/amazon/ssm can be written (mount, chattr, SELinux)",
	},

	// Channels that an external instance can be healthy without: never terminal, whatever their reason.
	{
		Pattern: line(`Failed to get controlchannel token.*AccessDenied`), Code: failure.AccessDenied, Source: read,
		Cause:  "the node's role may not use ssmmessages, so Run Command and Session Manager do not work",
		Remedy: "attach AmazonSSMManagedInstanceCore to the node's role",
	},
	{
		Pattern: line(`Failed to get controlchannel token`), Code: failure.Network, Source: read,
		Cause: "the agent does not reach ssmmessages, so Run Command and Session Manager do not work",
	},
	{
		Pattern: line(`MDSInteractor stopped temporarily`), Code: failure.Network, Source: read,
		Cause: "the agent does not reach ec2messages; it tries again after 15 minutes",
	},

	// Rights, credentials, clock.
	{
		Pattern: line(`InvalidSignatureException|Signature expired|Signature not yet current|RequestExpired`),
		Code:    failure.ClockSkew, Terminal: true, Source: ran,
		Remedy: "set the clock: timedatectl set-ntp true; " +
			"if it is right, the node's key is not the registered one: register anew with --accept-risk replace-identity",
	},
	{
		Pattern: line(`certificate has expired or is not yet valid`), Code: failure.ClockSkew, Terminal: true, Source: read,
		Cause: "the server's certificate is not valid at this machine's time: " +
			"the clock is wrong, or a proxy's certificate is out of date",
		Remedy: "set the clock: timedatectl set-ntp true; if it is right, see to the proxy",
	},
	{
		// The agent tries again only after 25 to 30 minutes.
		Pattern: line(`(Retrieve credentials produced error|SSM Agent hibernate).*AccessDenied`),
		Code:    failure.AccessDenied, Terminal: true, Source: ran,
		Cause: "Systems Manager gives the node no credentials: its role is missing, or does not trust ssm.amazonaws.com",
		Remedy: "let the role of the node's activation trust ssm.amazonaws.com, and attach AmazonSSMManagedInstanceCore to it; " +
			"then systemctl restart amazon-ssm-agent",
	},
	{
		Pattern: line(`AccessDenied`), Code: failure.AccessDenied, Source: ran,
	},
	{
		Pattern: line(`ExpiredToken|shared credentials are already expired`), Code: failure.CredentialsExpired, Source: read,
	},
	{
		Pattern: line(`UnrecognizedClientException|InvalidClientTokenId`), Code: failure.CredentialsInvalid, Source: read,
	},
	{
		Pattern: line(`Force update is enabled, creating a new empty config`), Code: failure.ForeignProfile, Source: ran,
		Cause:  "the agent could not parse " + CredentialsPath + " and replaced all of it",
		Remedy: "if other profiles were lost, take them from a backup of the file",
	},
	{
		Pattern: line(`Failed to write credentials to disk`), Code: failure.ReadOnly, Source: ran,
		Cause:  "the agent cannot write its credentials to " + CredentialsPath,
		Remedy: "make the file and its folder writable for root (mount, chattr, SELinux)",
	},

	// The service and the way to it.
	{
		Pattern: line(`ThrottlingException|Rate exceeded|TooManyUpdates`), Code: failure.Throttled, Source: ran,
	},
	{
		Pattern: line(`InternalServerError|ServiceUnavailable|status code: 5\d\d`), Code: failure.AWSUnavailable, Source: ran,
	},
	{
		Pattern: line(`first record does not look like a TLS handshake`),
		Code:    failure.Network, Terminal: true, Source: issue + "226",
		Cause:  "the proxy speaks plain HTTP and is configured as https://",
		Remedy: "give --https-proxy with http:// in front of the proxy's name",
	},
	{
		Pattern: line(`x509: `), Code: failure.TLSUntrusted, Terminal: true, Source: ran,
	},
	{
		Pattern: line(`proxyconnect tcp`), Code: failure.Network, Source: ran,
		Cause: "the proxy could not be reached",
	},
	{
		Pattern: line(`no such host`), Code: failure.Network, Source: issue + "125",
		Cause: "the name of the service's endpoint does not resolve",
	},
	{
		Pattern: line(`RequestError: send request failed`), Code: failure.Network, Source: ran,
	},
	{
		Pattern: line(`credentials refresher panic`), Code: failure.AWSUnavailable, Source: ran,
		Cause:  "the agent could not make sense of the service's answer, and pauses for five minutes",
		Remedy: "see that nothing answers in AWS's place (proxy, --agent-endpoint)",
	},

	// The agent itself.
	{
		Pattern: line(`app config could not be loaded|Failed to unmarshal config override`),
		Code:    failure.AgentConfig, Terminal: true, Source: ran,
		Cause:  ConfigPath + " is not JSON; the agent does not start with it",
		Remedy: "correct the file (python3 -m json.tool shows where), or remove it",
	},
	{
		Pattern: line(`Entering SSM Agent hibernate`), Code: failure.CredentialsInvalid, Source: ran,
		Cause: "Systems Manager refused the agent's first sign of life; it tries again after 5 minutes, then ever less often",
	},
	{
		Pattern: line(`error when calling AWS APIs`), Code: failure.AWSUnavailable, Source: read,
		Cause: "a call to AWS failed",
	},
}

// Pattern is a regular expression that is compiled when it is first used: the whole table would cost every start of the
// program a millisecond.
type Pattern struct {
	text     string
	compiled func() *regexp.Regexp
}

func line(text string) Pattern {
	return Pattern{text, sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })}
}

func (p Pattern) String() string { return p.text }

// MatchString reports whether a line shows the pattern.
func (p Pattern) MatchString(s string) bool { return p.compiled().MatchString(s) }

// explain finds the failure that a line shows.
func explain(text string) (Failure, bool) {
	for _, known := range Failures {
		if known.Pattern.MatchString(text) {
			return known, true
		}
	}
	return Failure{}, false
}
