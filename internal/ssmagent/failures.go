package ssmagent

import (
	"cmp"
	"regexp"
	"sync"
	"time"

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
	Sample   string // such a line, from its level on
	File     string // the log that has it; empty is LogPath
	// Lasts is for what the agent says again only so often, and no success of the credentials ends: it counts as present
	// for so long after its last line. Zero: until the service next accepts the identity.
	Lasts time.Duration
	// Fix is the safe remedy that doctor can apply by itself; empty when there is none (lifecycle.Fixes).
	Fix string
}

// Log is the log that has such a line.
func (f Failure) Log() string { return cmp.Or(f.File, LogPath) }

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

// refreshFails is how the agent's log begins to tell that it got no credentials.
const refreshFails = "ERROR [CredentialRefresher] Retrieve credentials produced error: "

// channelPause is the longest pause between two tries for the message channel, 40 minutes, and some (core/app and
// agent/session of agent 3.3.987.0).
const channelPause = 50 * time.Minute

// Failures are the known failures. The first whose pattern is in a line explains it, so the closer ones stand first.
var Failures = []Failure{
	// The identity.
	{
		Pattern: line(`MachineFingerprintDoesNotMatch`), Code: failure.FingerprintChanged, Terminal: true, Source: ran,
		Sample: refreshFails + "MachineFingerprintDoesNotMatch: Fingerprint doesn't match",
	},
	{
		Pattern: line(`Machine configuration has changed more than the allowed threshold|` +
			`The hardware ID \(.*has changed from the registered value`),
		Code: failure.FingerprintChanged, Terminal: true, Source: ran,
		Cause: "the agent takes this machine for another than the registered one: " +
			"a clone, a new machine-id or much changed hardware",
		Sample: "ERROR Machine configuration has changed more than the allowed threshold.",
	},
	{
		Pattern: line(`InvalidInstanceId`), Code: failure.NodeUnknown, Terminal: true, Source: issue + "381",
		Sample: refreshFails + "InvalidInstanceId: Not existing InstanceId mi-0123456789abcdef0",
	},
	{
		Pattern: line(`Failed to roll-back remove public key change`),
		Code:    failure.CredentialsInvalid, Terminal: true, Source: read,
		Cause:  "a rotation of the node's key failed half-way: the service and this host have different keys",
		Remedy: "register the host anew with a new activation and --accept-risk replace-identity",
		Sample: "ERROR Failed to roll-back remove public key change, instance most likely needs to be re-registered",
	},
	{
		Pattern: line(`RegistrationKey does not exist|Agent failed to assume any identity|failed to find agent identity`),
		Code:    failure.IdentityUnknown, Terminal: true, Source: issue + "247",
		Cause:  "the agent finds no registration on this host",
		Remedy: "register the host: anywhere register with a new activation",
		Sample: "ERROR Agent failed to assume any identity",
	},
	{
		Pattern: line(`(?i)Failed to load instance info from vault|error while loading server info`),
		Code:    failure.IdentityUnknown, Terminal: true, Source: issue + "484",
		Cause:  "the agent cannot read its identity store",
		Remedy: "register the host anew: anywhere register with a new activation and --accept-risk replace-identity",
		Sample: "ERROR Failed to load instance info from vault. unexpected end of JSON input",
	},

	// Registration.
	{
		Pattern: line(`ActivationExpired`), Code: failure.ActivationExpired, Terminal: true, Source: ran,
		Sample: "ERROR Registration failed due to error registering the instance with AWS SSM. ActivationExpired: ",
	},
	{
		Pattern: line(`RegistrationLimitExceeded`), Code: failure.ActivationUsedUp, Terminal: true, Source: ran,
		Sample: "ERROR Registration failed due to error registering the instance with AWS SSM. " +
			"RegistrationLimitExceeded: ",
	},
	{
		Pattern: line(`InvalidActivation`), Code: failure.ActivationInvalid, Terminal: true, Source: ran,
		Sample: "ERROR Registration failed due to error registering the instance with AWS SSM. InvalidActivation: ",
	},
	{
		Pattern: line(`RegisterManagedInstanceInput\.Activation(Code|Id)`), Code: failure.Usage, Terminal: true, Source: ran,
		Cause:  "the activation's id or code is too short: it was cut when it was copied",
		Remedy: "give the whole id (36 characters) and code (at least 20)",
		Sample: "ERROR InvalidParameter: 1 validation error(s) found. - minimum field size of 20, " +
			"RegisterManagedInstanceInput.ActivationCode.",
	},
	{
		Pattern: line(`MissingEndpoint|region \S* ?has invalid characters`), Code: failure.Usage, Terminal: true, Source: ran,
		Cause:  "the Region is not a Region's name",
		Remedy: "give --region like eu-central-1, without quotation marks round it",
		Sample: "ERROR Registration failed due to error registering the instance with AWS SSM. MissingEndpoint: " +
			"'Endpoint' configuration is required for this service",
	},
	{
		Pattern: line(`Unable to save registration information`), Code: failure.NotRoot, Terminal: true, Source: ran,
		Cause: "the agent could not write its identity store",
		Remedy: "run the command as root; if it was, see that /var/lib/amazon/ssm can be written (mount, chattr, " +
			"SELinux)",
		Sample: "ERROR Registration failed due to Unable to save registration information. operation not permitted",
	},

	// Channels that an external instance can be healthy without: never terminal, whatever their reason.
	{
		Pattern: line(`Failed to get controlchannel token.*AccessDenied`), Code: failure.AccessDenied, Source: read,
		Cause:  "the node's role may not use ssmmessages, so Run Command and Session Manager do not work",
		Remedy: "attach AmazonSSMManagedInstanceCore to the node's role",
		Sample: "ERROR [MGSInteractor] Failed to get controlchannel token, error: AccessDeniedException",
		Lasts:  channelPause,
	},
	{
		Pattern: line(`Failed to get controlchannel token`), Code: failure.Network, Source: read,
		Cause:  "the agent does not reach ssmmessages, so Run Command and Session Manager do not work",
		Sample: "ERROR [MGSInteractor] Failed to get controlchannel token, error: dial tcp: i/o timeout",
		Lasts:  channelPause,
	},
	{
		Pattern: line(`MDSInteractor stopped temporarily`), Code: failure.Network, Source: read,
		Cause: "the agent does not reach ec2messages; it tries again after 15 minutes",
		Sample: "ERROR [MDSInteractor] MDSInteractor stopped temporarily due to internal failure. We will retry " +
			"automatically after 15 minutes",
		Lasts: channelPause,
	},

	// Rights, credentials, clock.
	{
		Pattern: line(`InvalidSignatureException|Signature expired|Signature not yet current|RequestExpired`),
		Code:    failure.ClockSkew, Terminal: true, Source: ran,
		Remedy: "set the clock: timedatectl set-ntp true; " +
			"if it is right, the node's key is not the registered one: register anew with --accept-risk replace-identity",
		Sample: refreshFails + "InvalidSignatureException: Signature expired: 20261122T120000Z is now earlier than " +
			"20261122T125500Z",
	},
	{
		Pattern: line(`certificate has expired or is not yet valid`), Code: failure.ClockSkew, Terminal: true, Source: read,
		Cause: "the server's certificate is not valid at this machine's time: " +
			"the clock is wrong, or a proxy's certificate is out of date",
		Remedy: "set the clock: timedatectl set-ntp true; if it is right, see to the proxy",
		Sample: refreshFails + "RequestError: send request failed caused by: x509: certificate has expired or is " +
			"not yet valid",
	},
	{
		// The agent tries again only after 25 to 30 minutes.
		Pattern: line(`(Retrieve credentials produced error|SSM Agent hibernate).*AccessDenied`),
		Code:    failure.AccessDenied, Terminal: true, Source: ran,
		Cause: "Systems Manager gives the node no credentials: its role is missing, or does not trust ssm.amazonaws.com",
		Remedy: "let the role of the node's activation trust ssm.amazonaws.com, and attach " +
			"AmazonSSMManagedInstanceCore to it; " +
			"then systemctl restart amazon-ssm-agent",
		Sample: refreshFails + "AccessDeniedException: Systems Manager's instance management role is not configured",
	},
	{
		Pattern: line(`AccessDenied`), Code: failure.AccessDenied, Source: ran,
		Sample: "ERROR error when calling AWS APIs. error details - AccessDeniedException: ec2messages:GetMessages",
	},
	{
		Pattern: line(`ExpiredToken|shared credentials are already expired`), Code: failure.CredentialsExpired, Source: read,
		Sample: "WARN shared credentials are already expired, they were retrieved at 1 and expired at 2",
	},
	{
		Pattern: line(`UnrecognizedClientException|InvalidClientTokenId`), Code: failure.CredentialsInvalid, Source: read,
		Sample: "ERROR error when calling AWS APIs. error details - UnrecognizedClientException: The security token " +
			"is invalid.",
	},
	{
		Pattern: line(`Force update is enabled, creating a new empty config`), Code: failure.ForeignProfile, Source: ran,
		Cause:  "the agent could not parse " + CredentialsPath + " and replaced all of it",
		Remedy: "if other profiles were lost, take them from a backup of the file",
		Sample: "ERROR Failed to load shared credentials file. Force update is enabled, creating a new empty config",
	},
	{
		Pattern: line(`Failed to write credentials to disk`), Code: failure.ReadOnly, Source: ran,
		Cause:  "the agent cannot write its credentials to " + CredentialsPath,
		Remedy: "make the file and its folder writable for root (mount, chattr, SELinux)",
		Sample: "ERROR Failed to write credentials to disk, attempting force write",
	},

	// The service and the way to it.
	{
		Pattern: line(`ThrottlingException|Rate exceeded|TooManyUpdates`), Code: failure.Throttled, Source: ran,
		Sample: refreshFails + "ThrottlingException: Rate exceeded status code: 400, request id: 1",
	},
	{
		Pattern: line(`InternalServerError|ServiceUnavailable|status code: 5\d\d`), Code: failure.AWSUnavailable, Source: ran,
		Sample: refreshFails + "InternalServerError:  status code: 500, request id: 1",
	},
	{
		Pattern: line(`first record does not look like a TLS handshake`),
		Code:    failure.Network, Terminal: true, Source: issue + "226",
		Cause:  "the proxy speaks plain HTTP and is configured as https://",
		Remedy: "give --https-proxy with http:// in front of the proxy's name",
		Sample: refreshFails + "RequestError: send request failed caused by: proxyconnect tcp: tls: first record " +
			"does not look like a TLS handshake",
	},
	{
		Pattern: line(`x509: `), Code: failure.TLSUntrusted, Terminal: true, Source: ran,
		Sample: refreshFails + "RequestError: send request failed caused by: tls: failed to verify certificate: " +
			"x509: certificate signed by unknown authority",
	},
	{
		Pattern: line(`proxyconnect tcp`), Code: failure.Network, Source: ran,
		Cause: "the proxy could not be reached",
		Sample: refreshFails + "RequestError: send request failed caused by: proxyconnect tcp: dial tcp " +
			"10.0.0.9:3128: connect: connection refused",
	},
	{
		Pattern: line(`no such host`), Code: failure.Network, Source: issue + "125",
		Cause: "the name of the service's endpoint does not resolve",
		Sample: refreshFails + "RequestError: send request failed caused by: dial tcp: lookup " +
			"ssm.eu-central-1.amazonaws.com: no such host",
	},
	{
		Pattern: line(`RequestError: send request failed`), Code: failure.Network, Source: ran,
		Sample: refreshFails + "RequestError: send request failed caused by: dial tcp 10.0.0.1:443: connect: " +
			"connection refused",
	},
	{
		Pattern: line(`credentials refresher panic`), Code: failure.AWSUnavailable, Source: ran,
		Cause:  "the agent could not make sense of the service's answer, and pauses for five minutes",
		Remedy: "see that nothing answers in AWS's place (proxy, --agent-endpoint)",
		Sample: "ERROR [CredentialRefresher] credentials refresher panic: runtime error",
	},

	// The agent itself.
	{
		Pattern: line(`app config could not be loaded|Failed to unmarshal config override`),
		Code:    failure.AgentConfig, Terminal: true, Source: ran,
		Cause:  ConfigPath + " is not JSON; the agent does not start with it",
		Remedy: "correct the file (python3 -m json.tool shows where), or remove it",
		Sample: "ERROR app config could not be loaded",
	},
	{
		Pattern: line(`Another update in progress, try again later`), Code: failure.PackagesLocked, Source: read,
		Cause:  "an update of the agent by Systems Manager is at work, or died and left " + DataDir + "/update.lock",
		Remedy: "wait an hour: the lock is good for as long; anywhere preflight --only packages.manager",
		Sample: "ERROR Another update in progress, try again later",
	},
	{
		Pattern: line(`Updater died before updating`), Code: failure.PackageInstall, Source: read,
		Cause: "Systems Manager's updater does not run on this system; the agent stays as it is",
		Remedy: "turn off the automatic update of the agent in Systems Manager for this node, and update its " +
			"package here",
		Sample: "ERROR Updater died before updating, make sure your system is supported",
	},
	{
		Pattern: line(`Entering SSM Agent hibernate`), Code: failure.CredentialsInvalid, Source: ran,
		Cause: "Systems Manager refused the agent's first sign of life; it tries again after 5 minutes, then ever " +
			"less often",
		Sample: "INFO [ssm-agent-worker] Entering SSM Agent hibernate - something new",
	},
	{
		Pattern: line(`error when calling AWS APIs`), Code: failure.AWSUnavailable, Source: read,
		Cause:  "a call to AWS failed",
		Sample: "ERROR error when calling AWS APIs. error details - Something: new",
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
