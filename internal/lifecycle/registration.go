package lifecycle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const verbRegister = "register"

// Names of pins.
const (
	pinRegion  = "region"
	pinAccount = "account"
	pinCluster = "cluster"
	pinNode    = "node" // the managed node, where a verb gives something of it up
	pinSSM     = "ssm-agent"
	pinECS     = "ecs-init"
	pinExec    = "exec" // version of the SSM package that ECS Exec's files come from
)

// registration is one run of register: the request, made definite by what the host already is.
type registration struct {
	deps   Deps
	req    RegisterRequest
	engine *engine.Engine

	settled      bool
	region       string
	account      string // empty when nothing says which
	cluster      string // name
	profile      string // in which SSM Agent keeps its credentials; empty is default, with nothing to configure
	row          platform.Row
	endpoint     preflight.Endpoints
	source       *artifact.Source
	pins         map[string]string
	resumed      *engine.Operation // the unfinished registration that this run goes on with
	docker       installing
	proxy        proxying
	instanceGPUs []string // as ECS shows them; nil where it was not asked
	ipv6         bool     // AWS is reached by the names that have IPv6
	caStore      caStore  // that --ca-file goes into
	remote       *remote

	made    *control.Token // the activation that this run made for itself
	dropped bool           // and tried to delete
	deleted bool           // and did
	strays  []string       // earlier runs of the operation whose activations may be left
	owed    []string
	creates bool // the plan has the step that makes an activation

	binding    ecsagent.Binding     // of the ECS agent's state
	bound      ecsagent.InstanceARN // the container instance in it that is in the wanted place; empty when there is none
	attributes *attributeChange     // of an instance that is registered; nil when there is none to change
	imageless  bool                 // the ECS agent's image is gone from its cache
	mends      bool                 // the SSM agent's identity store is mended, not replaced

	warnings []string
	checks   []preflight.Result
	arn      ecsagent.InstanceARN // of the last verification that held
	arnText  string
	node     string    // the managed node of the last report
	ecsSince time.Time // when this run started the ECS agent
	deadline time.Time // for the agents to connect; set by the first wait

	offer *host.SnapOffer // what snapd says of the SSM agent's snap; nil until it was asked

	fetching sync.Mutex
	fetched  map[artifact.Ref]*fetch
}

// gateChecks stop every mutating verb before it looks at anything else.
var gateChecks = []string{"privileges", "os.release", "os.arch", "os.systemd", "os.container"}

func (r *registration) gates(ctx context.Context) error {
	r.checks = preflight.Run(ctx, preflight.All(), r.subject(),
		preflight.Options{Only: gateChecks, Ignore: r.req.Ignore, Timeout: checkTime})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return preflight.Verdict(r.checks, false)
}

// checkTime bounds the checks together. They answer in a fraction of it; what hangs is named then. It is longer than what
// a daemon that hangs is given (docker.Inspect: 5 s), and what goes out to the network (5 s), so that these are told as
// what they are.
const checkTime = 8 * time.Second

func (r *registration) subject() preflight.Subject {
	s := preflight.Subject{
		Host: r.deps.Host.Reader, Mutating: true, Resuming: r.resumed != nil,
		Region: r.region, Cluster: r.cluster, Endpoints: r.endpoint, Artifacts: r.req.Artifacts, Getenv: r.deps.Getenv,
		Profile: r.profile, GPU: r.req.EnableGPU, Proxy: r.req.Proxy, IPv6: r.ipv6, Settings: map[string]string{},
		ECSAgent: explicit(r.req.ECSAgentVersion), SSMAgent: explicit(r.req.SSMAgentVersion),
	}
	if s.Endpoints == (preflight.Endpoints{}) { // what is configured stays
		s.Endpoints = hostEndpoints(s.Host)
	}
	for _, p := range r.req.Settings {
		s.Settings[p.Key] = p.Value
	}
	if s.DockerFrom = r.dockerFrom(); s.DockerFrom != "" {
		s.Docker = true
	}
	if r.req.Activation != nil {
		s.ActivationID = r.req.Activation.ActivationID
	}
	if r.remote != nil {
		s.Remote = r.remote
	}
	s.Replacing = r.accepts("replace-identity")
	return s
}

// check runs the checks that can stop a registration. It is called only when something is pending.
func (r *registration) check(ctx context.Context) error {
	subject := r.subject()
	subject.Cached = r.cached(ctx)
	r.checks = preflight.Run(ctx, preflight.All(), subject, preflight.Options{Ignore: r.req.Ignore, Timeout: checkTime})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.warnings = append(r.warnings, preflight.Warnings(r.checks)...)
	return preflight.Verdict(r.checks, false)
}

// settle makes the request definite: Region, cluster, endpoints, the source of packages. It reads and changes nothing.
func (r *registration) settle(ctx context.Context) error {
	reader := r.deps.Host.Reader
	var err error
	if r.resumed, err = resumable(ctx, r.engine, verbRegister); err != nil {
		return err
	}
	if _, err := readRecord(reader); err != nil {
		return err
	}
	release, err := host.ReadOSRelease(reader.Files)
	if err != nil {
		return err
	}
	r.row, _, _ = platform.Find(release.ID, release.VersionID, release.Name, release.IDLike)
	identity, err := ssmagent.ReadIdentity(reader)
	if err != nil {
		return err
	}
	config, err := ecsagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	if err := r.settlePlace(ctx, identity, config); err != nil {
		return err
	}
	ssm, err := ssmagent.ReadConfig(reader)
	if err != nil {
		return err
	}
	r.profile = preflight.AgentProfile(r.req.SSMProfile, ssm, config, identity.Registered())
	if r.endpoint, err = parseEndpoints(r.req.AgentEndpoint, r.req.EndpointURL); err != nil {
		return err
	}
	if err := r.settleAttributes(ctx, identity, config); err != nil {
		return err
	}
	if err := r.settleVersions(identity); err != nil {
		return err
	}
	if err := r.settleDocker(ctx, release); err != nil {
		return err
	}
	if err := r.settleAuthorities(); err != nil {
		return err
	}
	if err := r.settleProxy(ctx); err != nil {
		return err
	}
	r.mends = identity.Hidden != "" && !r.replaces(ctx, identity)
	r.pins = map[string]string{pinRegion: r.region, pinCluster: r.cluster, pinAccount: r.account}
	r.fetched = map[artifact.Ref]*fetch{}
	r.settled = true
	return nil
}

// refuseSnap refuses a host whose SSM agent is a snap that cannot be worked with. That is no matter of a check that could be
// ignored: the deb's own script refuses to be installed beside any snap (facts: ssm-agent section 5.2). One that snapd is
// just changing is waited for.
func (r *registration) refuseSnap(ctx context.Context) error {
	err := ssmagent.RefuseSnap(ctx, r.deps.Host.Reader)
	if snapd := r.deps.Host.Snaps; failure.Is(err, failure.SnapAgent) && snapd != nil && snapd.Settle(ctx, ssmagent.Package) == nil {
		err = ssmagent.RefuseSnap(ctx, r.deps.Host.Reader)
	}
	return err
}

// ssmUnit is the SSM agent's unit, in the form in which it is installed, or would be.
func (r *registration) ssmUnit() string { return ssmagent.UnitOf(r.deps.Host.Reader) }

// place is where a host is to be registered. Empty fields are not said.
type place struct{ region, account, cluster string }

// place is what flags and token say, which must agree.
func (req RegisterRequest) place() (place, error) {
	said := place{region: req.Region, cluster: req.Cluster}
	if strings.HasPrefix(req.Cluster, "arn:") {
		arn, err := partition.ParseARN(req.Cluster)
		if err != nil || arn.Service != "ecs" || !strings.HasPrefix(arn.Resource, "cluster/") {
			return said, failure.New(failure.Usage, "--cluster: %q is not the ARN of an ECS cluster", req.Cluster)
		}
		if req.Region != "" && req.Region != arn.Region {
			return said, failure.New(failure.Usage, "--region is %s and --cluster is in %s", req.Region, arn.Region)
		}
		said = place{arn.Region, arn.Account, ecsagent.ClusterName(req.Cluster)}
	}
	if said.region != "" {
		if err := partition.CheckRegion(said.region); err != nil {
			return said, err
		}
	}
	t := req.Activation
	switch {
	case t == nil:
		return said, nil
	case t.Region != "" && said.region != "" && t.Region != said.region:
		return said, failure.New(failure.Usage, "--region is %s and the token's Region is %s", said.region, t.Region).
			WithRemedy("leave --region out, or use a token made for %s", said.region)
	case t.Cluster != "" && said.cluster != "" && t.Cluster != said.cluster:
		return said, failure.New(failure.Usage, "--cluster is %s and the token's cluster is %s", said.cluster, t.Cluster).
			WithRemedy("leave --cluster out, or use a token made for %s", said.cluster)
	case t.Account != "" && said.account != "" && t.Account != said.account:
		return said, failure.New(failure.Usage, "--cluster is in account %s and the token's account is %s", said.account, t.Account)
	}
	return place{first(said.region, t.Region), first(said.account, t.Account), first(said.cluster, t.Cluster)}, nil
}

// settlePlace decides on Region, account and cluster: what was said, else an unfinished registration's, then the host's
// own, then the default.
func (r *registration) settlePlace(ctx context.Context, identity ssmagent.Identity, config ecsagent.Config) error {
	said, err := r.req.place()
	if err != nil {
		return err
	}
	var before map[string]string
	if r.resumed != nil {
		before = r.resumed.Pins
	}
	r.region = first(said.region, before[pinRegion], identity.Region, config.Agent("AWS_DEFAULT_REGION"))
	if r.region == "" {
		return failure.New(failure.Usage, "--region is missing, and nothing on this host says which").
			WithRemedy("add --region, or use --token, which brings its Region")
	}
	if err := partition.CheckRegion(r.region); err != nil {
		return err
	}
	if r.req.IPMode == "ipv6" && !partition.DualStack(r.region) {
		return failure.New(failure.Usage, "--ip-mode ipv6: the services of %s have no names with IPv6", r.region).
			WithRemedy("leave --ip-mode out")
	}
	r.account = first(said.account, before[pinAccount])
	r.cluster = first(said.cluster, before[pinCluster], ecsagent.ClusterName(config.Cluster()))
	r.remote = &remote{deps: r.deps, region: r.region, account: r.account}
	if err := r.settleIdentity(ctx, identity); err != nil {
		return err
	}
	return r.settleBinding(ctx, identity, config)
}

// settleVersions refuses versions that are known to be bad, and another version than the installed one on a host that is
// registered: changing that is an upgrade.
func (r *registration) settleVersions(identity ssmagent.Identity) error {
	for _, v := range []struct {
		flag, name, wanted string
		bad                func(string) (string, bool)
	}{
		{"--ecs-agent-version", ecsagent.Package, r.req.ECSAgentVersion, ecsagent.NotToInstall},
		{"--ssm-agent-version", ssmagent.Package, r.req.SSMAgentVersion, ssmagent.KnownBad},
	} {
		if explicit(v.wanted) == "" {
			continue
		}
		installed, err := r.deps.Host.Packages.Package(v.name)
		if err != nil {
			return err
		}
		there := installed.Installed && sameVersion(installed.Version, v.wanted)
		if why, bad := v.bad(v.wanted); bad && !there {
			return failure.New(failure.KnownBadVersion, "%s %s: %s", v.flag, v.wanted, why)
		}
		if installed.Installed && identity.Registered() && !there {
			return failure.New(failure.VersionManaged, "%s is %s on this registered host, and %s asks for %s", v.name, installed.Version, v.flag, v.wanted)
		}
	}
	return nil
}

// keys are those that packages may be signed with: the pinned ones, and --keyring's.
func (req RegisterRequest) keys() (*artifact.Keyring, error) {
	keys, err := artifact.Embedded()
	if err != nil || req.Keyring == "" {
		return keys, err
	}
	file, err := os.Open(req.Keyring)
	if err != nil {
		return nil, failure.Wrap(failure.Usage, err, "--keyring")
	}
	defer func() { _ = file.Close() }()
	if err := keys.Add(file); err != nil {
		return nil, failure.Wrap(failure.Usage, err, "--keyring: %s", req.Keyring)
	}
	return keys, nil
}

func (r *registration) settleSource() error {
	keys, err := r.req.keys()
	if err != nil {
		return err
	}
	r.ipv6 = r.req.IPMode == "ipv6" || r.explicitIPMode() == "" && preflight.IPv6Only(r.deps.Host.Reader)
	if r.ipv6 && r.req.Artifacts == "" && !partition.DualStackBuckets(r.region) {
		r.warnings = append(r.warnings, fmt.Sprintf("AWS documents no names with IPv6 for the buckets of %s, from which the agents' packages come: where "+
			"nothing translates addresses, anywhere mirror on another machine and --artifacts here are the way", r.region))
	}
	r.source = &artifact.Source{
		Base: r.req.Artifacts, IPv6: r.ipv6, HTTP: r.deps.HTTP, Keys: keys,
		Disk: r.deps.Host.Disk, Files: r.deps.Host.Files, CacheDir: PackageDir, Now: r.deps.Host.Now,
	}
	return nil
}

// key is the digest that makes "the same command": what decides the outcome, without secrets, waiting times and output.
func (r *registration) key() string {
	text, err := json.Marshal(struct {
		Region, Cluster, ECS, SSM, Endpoint string
		Tags, Attributes, Settings          []Pair
		NoExec                              bool
		Profile                             string `json:",omitempty"` // a journal of before it was there keeps its key
		GPU                                 bool   `json:",omitempty"`
		Name, Role, Docker                  string `json:",omitempty"`
		Proxy                               string `json:",omitempty"` // without credentials
		Authorities, IPMode                 string `json:",omitempty"`
	}{
		r.region, r.cluster, r.req.ECSAgentVersion, r.req.SSMAgentVersion, r.req.AgentEndpoint,
		r.req.Tags, r.req.Attributes, r.req.Settings, r.req.NoExec, r.req.SSMProfile, r.req.EnableGPU, r.req.Name, r.req.Role,
		strings.TrimPrefix(r.req.DockerSource, DockerAuto), r.req.Proxy.Key(), r.req.Authorities.key(), r.explicitIPMode(),
	})
	if err != nil { // strings always marshal
		panic(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// parseEndpoints reads --agent-endpoint. Our calls and the agents' must not go to different worlds.
func parseEndpoints(agent, own string) (preflight.Endpoints, error) {
	var e preflight.Endpoints
	switch {
	case agent == "" && own == "":
		return e, nil
	case agent == "":
		return e, failure.New(failure.Usage, "--endpoint-url (or AWS_ENDPOINT_URL) is set and --agent-endpoint is not: the agents would talk to AWS and this command would not").
			WithRemedy("add --agent-endpoint URL, or unset AWS_ENDPOINT_URL")
	case own == "":
		return e, failure.New(failure.Usage, "--agent-endpoint is set and --endpoint-url is not: this command would talk to AWS and the agents would not").
			WithRemedy("add --endpoint-url URL")
	}
	check := func(text string) error {
		u, err := url.Parse(text)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return failure.New(failure.Usage, "--agent-endpoint: %q is not an http or https URL", text)
		}
		return nil
	}
	if !strings.Contains(agent, "=") {
		if err := check(agent); err != nil {
			return e, err
		}
		// The SSM agent's message gateway speaks only https (facts: ssm-agent section 4).
		gateway := "https://" + strings.TrimPrefix(strings.TrimPrefix(agent, "https://"), "http://")
		return preflight.Endpoints{ECS: agent, SSM: agent, SSMMessages: gateway, EC2Messages: agent}, nil
	}
	fields := map[string]*string{"ecs": &e.ECS, "ssm": &e.SSM, "ssmmessages": &e.SSMMessages, "ec2messages": &e.EC2Messages}
	for part := range strings.SplitSeq(agent, ",") {
		name, value, _ := strings.Cut(part, "=")
		field, known := fields[name]
		if !known {
			return e, failure.New(failure.Usage, "--agent-endpoint: %q is none of ecs, ssm, ssmmessages, ec2messages", name)
		}
		if err := check(value); err != nil {
			return e, err
		}
		if *field != "" {
			return e, failure.New(failure.Usage, "--agent-endpoint: %s is given twice", name)
		}
		*field = value
	}
	return e, nil
}

// explicit is the version that a flag names; empty when it names none of its own.
func explicit(version string) string {
	if version == artifact.Latest {
		return ""
	}
	return version
}

// accepts reports whether the operator accepted a named risk.
func (r *registration) accepts(risk string) bool { return slices.Contains(r.req.AcceptRisk, risk) }

// first is the first of values that is not empty or zero.
func first[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// sameVersion compares a version with what was asked for: 1.105.1 names 1.105.1-1.
func sameVersion(installed, asked string) bool {
	return installed == asked || strings.HasPrefix(installed, asked+"-")
}

// missing reports whether err says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
