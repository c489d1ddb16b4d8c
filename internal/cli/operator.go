package cli

import (
	"context"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// operator connects to AWS with the operator's credentials. Region is the one that a flag's value brought along, as an
// ARN does; it beats --region's variables and configuration, and must agree with the flag itself.
//
// What AWS's own variables say is left to the SDK, which knows their order: AWS_PROFILE is weaker than keys in the
// environment, --profile is stronger; AWS_ENDPOINT_URL_SSM is for one service, --endpoint-url for all.
func (a *app) operator(ctx context.Context, region string) (*control.Operator, error) {
	return a.connect(ctx, control.Access{}, control.Connection{}, region)
}

// hostOperator is operator on a host, whose own keys do not count.
func (a *app) hostOperator(ctx context.Context, region, nodeKey string) (*control.Operator, error) {
	return a.connect(ctx, control.Access{OnHost: true}, control.Connection{NodeKey: nodeKey}, region)
}

// nodeOperator is the managed node itself.
func (a *app) nodeOperator(ctx context.Context, region string, read func() (control.Keys, error)) (*control.Operator, error) {
	cfg, c, err := a.aws(ctx, control.Access{OnHost: true}, control.Connection{}, region)
	if err != nil {
		return nil, err
	}
	return control.ConnectNode(ctx, cfg, c, read)
}

func (a *app) connect(
	ctx context.Context, access control.Access, c control.Connection, region string,
) (*control.Operator, error) {
	cfg, c, err := a.aws(ctx, access, c, region)
	if err != nil {
		return nil, err
	}
	return control.Connect(ctx, cfg, c)
}

// aws is the SDK's configuration as flags and variables have it.
func (a *app) aws(
	ctx context.Context, access control.Access, c control.Connection, region string,
) (aws.Config, control.Connection, error) {
	access.Region = a.global.region
	if region != "" && region != a.global.region {
		if a.origins["region"].kind == byFlag {
			return aws.Config{}, c, failure.New(failure.Usage, "--region is %s and --cluster is in %s", a.global.region, region)
		}
		access.Region = region
	}
	if a.ours("profile") {
		access.Profile = a.global.profile
	}
	cfg, err := a.env.AWS(ctx, access)
	if err != nil {
		return cfg, c, err
	}
	if client, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok || cfg.HTTPClient == nil {
		if client == nil {
			client = awshttp.NewBuildableClient()
		}
		cfg.HTTPClient = client.WithTransportOptions(a.trusting)
	}
	c.Trace = func(next http.RoundTripper) http.RoundTripper { return tracing{next, a} }
	if a.ours("endpoint-url") {
		c.EndpointURL = a.global.endpointURL
	}
	return cfg, c, nil
}

// ours reports whether a flag's value comes from the command line or the configuration file, and not from a variable
// that the SDK reads too.
func (a *app) ours(flag string) bool {
	kind := a.origins[flag].kind
	return kind == byFlag || kind == byConfig
}
