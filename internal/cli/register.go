package cli

import (
	"context"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

type registerOptions struct {
	activation activationOptions

	cluster, name, role              string
	ecsAgentVersion, ssmAgentVersion string
	dockerSource                     string
	tags, attributes, settings       []lifecycle.Pair
	artifacts, keyring, caFile       string
	ipMode                           string
	agentEndpoint, ssmProfile        string
	enableGPU                        bool
	httpProxy, httpsProxy, noProxy   string
	noExec, noStart                  bool
	ignore                           []string
	waitTimeout                      time.Duration
	dryRun, detailed, noRollback     bool
}

const ssmProfileUsage = "credentials profile that the SSM agent keeps for the ECS agent, " +
	"where [default] is somebody's (default: as configured, else default)"

func newRegister(a *app) *cobra.Command {
	o := &registerOptions{waitTimeout: 5 * time.Minute, dockerSource: lifecycle.DockerAuto, ipMode: lifecycle.IPModes[0]}
	cmd := &cobra.Command{
		Use:   "register [flags]",
		Short: "Make this host a verified external instance of an ECS cluster",
		Long: long(`
Makes this host an ECS external instance: checks it, installs Docker where there is none, the SSM agent and the ECS
agent, registers it with Systems Manager, configures and starts the agents, and waits until the ECS agent itself reports
its container instance in the wanted cluster. What is already so is left alone; a second run changes nothing.

An activation comes as a join token (--token), or as an id and a code (--activation-id with --activation-code-file, or
with the code in the variable ` + codeVariable + `). A host that is registered needs none. Where none is given, and
there are an operator's credentials (the environment, --profile, single sign-on; never the role or the key of the
machine itself), one is made for this host alone and deleted afterwards. With them ECS and Systems Manager are asked
too whether the host is registered. The operator needs ssm:CreateActivation, iam:PassRole for the role,
ssm:DescribeActivations, ssm:DeleteActivation, ssm:DescribeInstanceInformation, ecs:DescribeClusters,
ecs:ListContainerInstances and ecs:DescribeContainerInstances.

A failure before the registration with Systems Manager is undone. After it what is done is kept, because the
activation's slot is spent: the same command goes on from there, without a token.`),
		Example: `  ssh host sudo anywhere register --token - < token
  anywhere register --cluster shop --region eu-central-1 --activation-id ID --activation-code-file -
  anywhere register --cluster shop --region eu-central-1 --profile ops --name web-1
  anywhere register --cluster shop --dry-run`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runRegister(cmd, o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.activation.register(f)
	f.StringVar(&o.cluster, "cluster", "", "ECS cluster, by name or ARN (default: the token's, else default)")
	f.StringVar(&o.name, "name", "", "name of the managed node, when an activation is made for it")
	f.StringVar(&o.role, "iam-role", lifecycle.DefaultRole,
		"the host's IAM role, by name, path and name, or ARN, when an activation is made for it")
	f.StringVar(&o.ecsAgentVersion, "ecs-agent-version", "",
		"like 1.105.1, or latest (default: the installed one, else the latest)")
	f.StringVar(&o.ssmAgentVersion, "ssm-agent-version", "",
		"like 3.3.1611.0, or latest (default: the installed one, else the latest)")
	f.Var(choiceValue{&o.dockerSource, lifecycle.DockerSources}, "docker-source",
		"where a missing Docker comes from: Docker's own repository, or the distribution's package; auto takes the first\n"+
			"that can be had. With --artifacts, Docker's repository is docker/linux/… below it")
	f.Var(pairsValue{&o.tags}, "tag", "tag of the container instance; may be repeated")
	f.Var(pairsValue{&o.attributes}, "attribute",
		"attribute of the container instance; may be repeated; on a registered host it takes operator credentials")
	f.Var(pairsValue{&o.settings}, "ecs-config", "setting for the ECS agent's configuration file; may be repeated")
	f.StringVar(&o.ssmProfile, "ssm-profile", "", ssmProfileUsage)
	f.BoolVar(&o.enableGPU, "enable-gpu", false, "let tasks use this host's NVIDIA GPUs; their driver must be there")
	f.Var(choiceValue{&o.ipMode, lifecycle.IPModes}, "ip-mode",
		"by which AWS is reached, by both agents and this command; auto is ipv6 on a host whose only default route is that of IPv6")
	registerProxy(f, &o.httpProxy, &o.httpsProxy, &o.noProxy)
	f.StringVar(&o.artifacts, "artifacts", "", "`URL|DIR` with the agents' packages (default: AWS)")
	f.StringVar(&o.keyring, "keyring", "", "`FILE` with further OpenPGP public keys, after AWS has rotated one")
	f.StringVar(&o.caFile, "ca-file", "", "PEM `FILE` with the certificate authority of a proxy that opens connections: for this host, both agents,\n"+
		"ECS Exec and this command")
	f.StringVar(&o.agentEndpoint, "agent-endpoint", "",
		"where the agents find AWS: a URL, or NAME=URL,… with the names ecs, ssm, ssmmessages, ec2messages")
	f.BoolVar(&o.noExec, "no-exec", false, "leave out what ECS Exec needs")
	f.BoolVar(&o.noStart, "no-start", false, "do not start the agents, and so prove nothing")
	f.Var(wordsValue{to: &o.ignore}, "ignore", "ids of checks whose failure is only a warning")
	f.Var(durationValue{&o.waitTimeout}, "wait-timeout", "how long to wait for the agents to connect")
	f.BoolVar(&o.noRollback, "no-rollback", false, "keep the half-way state when a step fails")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "show what would be done, and do nothing")
	f.BoolVar(&o.detailed, "detailed-exitcode", false, "with --dry-run: exit 11 when something would be done")
	return cmd
}

func (a *app) runRegister(cmd *cobra.Command, o *registerOptions) error {
	req, err := a.registerRequest(cmd, o)
	if err != nil {
		return err
	}
	a.outcome.text = func(w io.Writer, s report.Style, rep lifecycle.Report, err error) {
		if err != nil {
			failedChecks(cleaning{a.err, a.redactor}, a.style(a.env.Streams.ErrTTY), rep.Checks)
			return
		}
		if result, ok := rep.Result.(lifecycle.RegisterResult); ok && !a.global.quiet {
			report.Registration(w, s, rep, result, o.dryRun)
		}
	}
	begin := "register: looking at this host"
	if o.dryRun {
		begin = "register: looking at this host; nothing will be changed"
	}
	return a.do(cmd, verb{
		begin: begin, mutating: true, dryRun: o.dryRun, check: req.Check,
		run: func(ctx context.Context, deps lifecycle.Deps) (lifecycle.Report, error) {
			return lifecycle.Register(ctx, deps, req)
		},
	})
}

// registerRequest checks the flags together and brings them into the request.
func (a *app) registerRequest(cmd *cobra.Command, o *registerOptions) (lifecycle.RegisterRequest, error) {
	var none lifecycle.RegisterRequest
	if o.detailed && !o.dryRun {
		return none, usage(cmd, "--detailed-exitcode needs --dry-run")
	}
	artifacts, err := a.location(o.artifacts)
	if err != nil {
		return none, err
	}
	keyring, err := absolute("keyring", o.keyring)
	if err != nil {
		return none, err
	}
	proxy, err := a.givenProxy(o)
	if err != nil {
		return none, err
	}
	authorities, err := a.givenAuthorities(o.caFile)
	if err != nil {
		return none, err
	}
	if o.ipMode == "ipv6" {
		if err := a.byIPv6(); err != nil {
			return none, err
		}
	}
	activation, err := a.activation(cmd, &o.activation)
	if err != nil {
		return none, err
	}
	for _, flag := range []string{"name", "iam-role"} {
		if activation != nil && a.origins[flag].kind == byFlag {
			return none, usage(cmd, "--%s excludes --token and --activation-…: an activation has its own already", flag)
		}
	}
	req := lifecycle.RegisterRequest{
		Activation: activation, Region: a.global.region, Cluster: o.cluster, Name: o.name, Role: o.role,
		ECSAgentVersion: o.ecsAgentVersion, SSMAgentVersion: o.ssmAgentVersion,
		DockerSource: o.dockerSource, Proxy: proxy, IPMode: o.ipMode, Authorities: authorities,
		Tags: o.tags, Attributes: o.attributes, Settings: o.settings, SSMProfile: o.ssmProfile, EnableGPU: o.enableGPU,
		Artifacts: artifacts, Keyring: keyring, AgentEndpoint: o.agentEndpoint, EndpointURL: a.global.endpointURL,
		NoExec: o.noExec, NoStart: o.noStart, Ignore: o.ignore, WaitTimeout: o.waitTimeout,
		AcceptRisk: a.global.acceptRisk, DryRun: o.dryRun, DetailedExitcode: o.detailed, NoRollback: o.noRollback,
		LockTimeout: a.global.lockTimeout,
	}
	if o.activation.token != "" { // a token is given on the command line: it beats what the environment or a file says
		if a.origins["region"].kind != byFlag {
			req.Region = ""
		}
		if a.origins["cluster"].kind != byFlag {
			req.Cluster = ""
		}
	}
	return req, nil
}

// location is what --artifacts names: a URL as it is, or a folder made absolute.
func (a *app) location(value string) (string, error) {
	const flag = "artifacts"
	if u, err := url.Parse(value); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if u.Host == "" {
			return "", failure.New(failure.Usage, "%s: %q has no host", a.gave(flag), value)
		}
		return strings.TrimRight(value, "/"), nil
	}
	if scheme, _, found := strings.Cut(value, "://"); found {
		return "", failure.New(failure.Usage, "%s: packages cannot be taken from %s://", a.gave(flag), scheme).
			WithRemedy("give a folder, or an http:// or https:// URL")
	}
	return absolute(flag, value)
}

// absolute is the path from the root, since what a verb does may run elsewhere; empty stays empty.
func absolute(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", failure.Wrap(failure.Usage, err, "--%s: make %s absolute", flag, path)
	}
	return abs, nil
}

// failedChecks writes the checks that stopped a verb.
func failedChecks(w io.Writer, s report.Style, checks []preflight.Result) {
	var failed []preflight.Result
	for _, c := range checks {
		if c.Status == preflight.Fail && !c.Ignored {
			failed = append(failed, c)
		}
	}
	if len(failed) > 1 { // one alone is the error itself
		report.Checks(w, s, failed)
	}
}
