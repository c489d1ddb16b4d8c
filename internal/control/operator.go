package control

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// callTime bounds one attempt at one call. AWS answers within seconds; what hangs longer is a firewall.
const callTime = 30 * time.Second

// maxSkew is how far this machine's clock may be from AWS's before it is told. AWS refuses signatures beyond it; the
// SDK then corrects its own clock silently.
const maxSkew = 5 * time.Minute

// Access says which of the operator's credentials to use. Empty fields leave it to the SDK's default chain, with all
// its variables and files.
type Access struct {
	Profile string // --profile: beats keys in the environment, unlike AWS_PROFILE
	Region  string // empty: the profile's
	// OnHost leaves out what is the machine's and no person's or pipeline's: the role of an EC2 instance, which ends the
	// SDK's chain. Asking for it would cost seconds on every machine that is none. A profile that names it counts.
	OnHost bool
}

// ErrNoOperator is in the chain of a failure to connect where no operator has left any credentials: those of the machine
// or of its managed node do not count. Credentials that are there and do not work are another failure.
var ErrNoOperator = errors.New("no credentials of an operator")

// Load is the operator's configuration as the SDK finds it in this process's environment and the caller's files. It
// makes no call.
func Load(ctx context.Context, a Access) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})} // else it writes to our stderr
	if a.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(a.Profile))
	}
	if a.Region != "" {
		options = append(options, config.WithRegion(a.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	var absent config.SharedConfigProfileNotExistError
	switch {
	case errors.As(err, &absent):
		return cfg, failure.New(failure.Usage, "--profile (or AWS_PROFILE): there is no AWS profile %q", absent.Profile).
			WithEvidence("looked in %s", strings.Join(sharedFiles(), " and ")).
			WithRemedy("aws configure list-profiles shows those that there are")
	case err != nil:
		return cfg, failure.Wrap(failure.CredentialsInvalid, err, "read the AWS configuration").
			WithRemedy("correct the file or variable that is named; aws sts get-caller-identity reads the same ones")
	}
	if a.OnHost && aws.IsCredentialsProvider(cfg.Credentials, (*ec2rolecreds.Provider)(nil)) {
		cfg.Credentials = nil
	}
	return cfg, nil
}

// sharedFiles are the files in which the SDK looks for profiles. Its own error leaves them out.
func sharedFiles() []string {
	env, err := config.NewEnvConfig()
	if err != nil { // of another variable
		env = config.EnvConfig{}
	}
	return []string{
		cmp.Or(env.SharedConfigFile, config.DefaultSharedConfigFilename()),
		cmp.Or(env.SharedCredentialsFile, config.DefaultSharedCredentialsFilename()),
	}
}

// Connection says how an operator's calls travel.
type Connection struct {
	// EndpointURL is for every service; empty leaves it to the SDK, with AWS_ENDPOINT_URL….
	EndpointURL string
	// NodeKey is the access key id that SSM Agent keeps on this machine, empty where there is none: it never counts as an
	// operator's, and is told from one without a call.
	NodeKey string
	// Trace sees every call; nil sees none.
	Trace func(http.RoundTripper) http.RoundTripper
}

// Operator is AWS in one account and Region, with an operator's credentials.
type Operator struct {
	Region  string
	Account string
	ARN     string        // who the credentials are
	Skew    time.Duration // AWS's clock minus this machine's, where it matters; else 0
	NodeID  string        // mi-…: these are the node's own, and no operator's (ConnectNode); else empty

	ecs   *ecs.Client
	ssm   *ssm.Client
	now   func() time.Time
	pause func(context.Context, time.Duration) error
}

// nodeSession ends the ARN of a managed node's own role session: assumed-role/ROLE/mi-…. Source: AWS's own error texts
// in upstream issues, like aws/amazon-ecs-agent 3812 (read 2026-11-22).
var nodeSession = regexp.MustCompile(`:assumed-role/.+/(mi-[0-9a-f]+)$`)

// Connect fetches the credentials and asks AWS whose they are. A managed node's own key, which the SSM agent keeps in
// /root/.aws/credentials, is refused wherever it was found.
func Connect(ctx context.Context, cfg aws.Config, c Connection) (*Operator, error) {
	if cfg.Credentials == nil {
		return nil, noCredentials(ErrNoOperator)
	}
	o, source, err := connect(ctx, cfg, c)
	if err == nil && o.NodeID != "" {
		return nil, nodeIsNoOperator("the managed node "+o.NodeID, o.ARN+", from "+source)
	}
	return o, err
}

// Keys are access keys that the SSM agent keeps.
type Keys struct {
	ID              string
	Secret, Session secret.Text
}

// keysLast is how long keys that were read are used: the agent replaces them long before they expire, and a drain may
// outlast them.
const keysLast = time.Minute

// ConnectNode connects with the role of this managed node itself, whose keys read finds. That role may drain its container
// instance and deregister it from ECS, and cannot look at it (facts: aws A2).
func ConnectNode(ctx context.Context, cfg aws.Config, c Connection, read func() (Keys, error)) (*Operator, error) {
	cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		keys, err := read()
		return aws.Credentials{
			AccessKeyID: keys.ID, SecretAccessKey: keys.Secret.Reveal(), SessionToken: keys.Session.Reveal(),
			Source: "SSM agent", CanExpire: true, Expires: time.Now().Add(keysLast),
		}, err
	}))
	c.NodeKey = ""
	o, source, err := connect(ctx, cfg, c)
	if err == nil && o.NodeID == "" {
		return nil, failure.New(failure.CredentialsInvalid, "the SSM agent's credentials are not those of a managed node").
			WithEvidence("%s, from %s", o.ARN, source)
	}
	return o, err
}

// connect fetches the credentials, whosever they are, and asks AWS whose.
func connect(ctx context.Context, cfg aws.Config, c Connection) (o *Operator, source string, err error) {
	if cfg.Region == "" {
		return nil, "", failure.New(failure.Usage, "--region is missing, and no AWS profile or variable names one").
			WithRemedy("add --region, or set AWS_REGION")
	}
	if err := partition.CheckRegion(cfg.Region); err != nil {
		return nil, "", err
	}
	if err := CheckEndpoint(c.EndpointURL); err != nil {
		return nil, "", err
	}
	keys, err := cfg.Credentials.Retrieve(ctx)
	switch {
	case err != nil:
		return nil, "", credentialsFailed(ctx, err)
	case c.NodeKey != "" && keys.AccessKeyID == c.NodeKey:
		return nil, keys.Source, nodeIsNoOperator("this managed node", keys.Source)
	}
	cfg.HTTPClient = bounded(cfg.HTTPClient, c.Trace)
	var endpoint *string
	if c.EndpointURL != "" {
		endpoint = &c.EndpointURL
	}
	caller := sts.NewFromConfig(cfg, func(o *sts.Options) { o.BaseEndpoint = first(endpoint, o.BaseEndpoint) })
	o = &Operator{
		Region: cfg.Region,
		ecs:    ecs.NewFromConfig(cfg, func(o *ecs.Options) { o.BaseEndpoint = first(endpoint, o.BaseEndpoint) }),
		ssm:    ssm.NewFromConfig(cfg, func(o *ssm.Options) { o.BaseEndpoint = first(endpoint, o.BaseEndpoint) }),
		now:    time.Now,
		pause:  pause,
	}
	who, err := caller.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, keys.Source, withSource(called(ctx, err, "ask AWS whose credentials these are"), keys.Source)
	}
	o.Account, o.ARN = aws.ToString(who.Account), aws.ToString(who.Arn)
	if node := nodeSession.FindStringSubmatch(o.ARN); node != nil {
		o.NodeID = node[1]
	}
	if server, ok := middleware.GetServerTime(who.ResultMetadata); ok {
		if skew := server.Sub(o.now()); skew.Abs() > maxSkew {
			o.Skew = skew.Round(time.Second)
		}
	}
	return o, keys.Source, nil
}

// nodeIsNoOperator refuses a managed node's own key.
func nodeIsNoOperator(node, seen string) error {
	f := failure.New(failure.CredentialsInvalid,
		"the credentials found here are those of %s itself, which never count as an operator's", node).
		WithEvidence("%s", seen).
		WithRemedy("name an operator's profile with --profile or AWS_PROFILE, or run this on a workstation")
	f.Err = ErrNoOperator
	return f
}

// Now is the time by AWS's clock.
func (o *Operator) Now() time.Time { return o.now().Add(o.Skew) }

// CheckEndpoint refuses what cannot be --endpoint-url. Empty is none.
func CheckEndpoint(text string) error {
	if text == "" {
		return nil
	}
	if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return failure.New(failure.Usage, "--endpoint-url: %q is not an http or https URL", text)
	}
	return nil
}

// doer is one way to send a request, in the SDK's form and in net/http's.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error)        { return d(r) }
func (d doer) RoundTrip(r *http.Request) (*http.Response, error) { return d(r) }

// bounded is the SDK's client, with what AWS_CA_BUNDLE and the proxy variables made of it, a bound on each request, and
// trace around it.
func bounded(client aws.HTTPClient, trace func(http.RoundTripper) http.RoundTripper) aws.HTTPClient {
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	if buildable, ok := client.(*awshttp.BuildableClient); ok {
		client = buildable.WithTimeout(callTime)
	}
	if trace == nil {
		return client
	}
	return doer(trace(doer(client.Do)).RoundTrip)
}

// pause waits as long, or until ctx ends. The one in lifecycle is the same: this room knows none that could hold it for both.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func first(values ...*string) *string {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}
