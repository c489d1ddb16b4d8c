package preflight

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

func credentialChecks() []Check {
	return []Check{
		{ID: "credentials.chain", Title: "Credentials that the agents would find", Root: true, Run: credentialsChain},
	}
}

// accessKeys are the settings by which a configuration file gives the ECS agent credentials of its own.
var accessKeys = []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}

// fileKeys are those that send the agent's SDK to another file or profile, inside its container.
var fileKeys = []string{"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_PROFILE"}

// Whose credentials are.
const (
	ofAgent   = "ssm-agent"
	ofForeign = "foreign"
	ofNobody  = "none"
)

// What becomes of a source.
const (
	wins     = "wins"
	shadowed = "shadowed"
	noEffect = "no effect"
	unknown  = "unknown" // it depends on what this check does not ask
)

// credentialSource is one place that has credentials, or looks as if it had, as evidence shows it.
type credentialSource struct {
	Source string `json:"source"`
	Where  string `json:"where"`
	What   string `json:"what"` // never a secret
	Whose  string `json:"whose"`
	Effect string `json:"effect"`
}

// AgentProfile is the profile in which SSM Agent is to keep its credentials: the one that is asked for, else the one that
// it is told to keep, else, on a host that is not registered, the one that the ECS agent is told to read. Empty is the
// default profile, with nothing configured.
func AgentProfile(asked string, ssm ssmagent.Config, ecs ecsagent.Config, registered bool) string {
	if asked != "" || ssm.ShareProfile != "" || registered {
		return cmp.Or(asked, ssm.ShareProfile)
	}
	return ecs.Agent(ecsagent.KeyProfile)
}

// chain is what the check looks at.
type chain struct {
	config   ecsagent.Config
	agent    agentInQuestion
	identity ssmagent.Identity
	ssmUnit  []host.UnitVariable
	ecsUnit  []host.UnitVariable
	profile  string // that SSM Agent maintains, or is to
	reads    string // that the ECS agent reads, or will
	written  ssmagent.Credentials
	read     ssmagent.Credentials
}

// credentialsChain says which credentials the agents would find, in the order of the ECS agent's version. It looks at
// their files and at their services' environments; what this process or a person's shell has does not reach them.
func credentialsChain(ctx context.Context, s Subject) Result {
	c, err := readChain(ctx, s)
	if err != nil {
		return broken(err)
	}
	r := c.judge(s)
	sources, winner := c.sources()
	return r.with("sources", sources).with("winner", winner).with("order", ecsagent.CredentialOrder(c.agent.Version)).
		with("agentVersion", c.agent.Version).with("profile", cmp.Or(c.profile, ssmagent.DefaultProfile)).
		with("profiles", append([]string{}, c.written.Profiles...))
}

func readChain(ctx context.Context, s Subject) (chain, error) {
	var c chain
	var err error
	if c.config, err = ecsagent.ReadConfig(s.Host); err != nil {
		return c, err
	}
	if c.agent, err = s.ecsAgent(); err != nil {
		return c, err
	}
	if c.identity, err = ssmagent.ReadIdentity(s.Host); err != nil {
		return c, err
	}
	if c.ssmUnit, err = host.UnitEnvironment(ctx, s.Host, ssmagent.UnitOf(s.Host)); err != nil {
		return c, err
	}
	if c.ecsUnit, err = host.UnitEnvironment(ctx, s.Host, ecsUnit(s)); err != nil {
		return c, err
	}
	ssm, err := ssmagent.ReadConfig(s.Host)
	if err != nil && !failure.Is(err, failure.AgentConfig) { // that it cannot be understood, existing.ssm tells
		return c, err
	}
	c.profile = AgentProfile(s.Profile, ssm, c.config, c.identity.Registered())
	c.reads = cmp.Or(s.Profile, c.config.Profile(c.agent.Version))
	if c.written, err = ssmagent.ReadCredentials(s.Host, c.profile); err != nil {
		return c, err
	}
	c.read, err = ssmagent.ReadCredentials(s.Host, c.reads)
	return c, err
}

// judge decides; the worst finding speaks.
func (c chain) judge(s Subject) Result {
	if r, failed := c.failed(); failed {
		return r
	}
	var r Result
	where := fmt.Sprintf("profile [%s] of %s", cmp.Or(c.profile, ssmagent.DefaultProfile), ssmagent.CredentialsPath)
	others := slices.DeleteFunc(slices.Clone(c.written.Profiles), func(name string) bool {
		return name == cmp.Or(c.profile, ssmagent.DefaultProfile)
	})
	switch {
	case c.written.Ours:
		r = pass("the managed node's own, in %s", where)
	case !c.written.Exists:
		r = pass("none: SSM Agent will write %s", where)
	case len(others) > 0:
		r = pass("none in %s, which SSM Agent will write; it leaves the other profiles (%s) alone",
			where, strings.Join(others, ", "))
	default:
		r = pass("none in %s, which SSM Agent will write", where)
	}
	for _, w := range c.warnings(s) {
		r.Status = Warn
		r.Detail += "; " + w.Detail
		r.Remedy = strings.TrimPrefix(r.Remedy+"; "+w.Remedy, "; ")
	}
	return r
}

// failed finds what must not stay.
func (c chain) failed() (Result, bool) {
	profile := cmp.Or(c.profile, ssmagent.DefaultProfile)
	for _, key := range accessKeys {
		if c.config.Agent(key) != "" {
			return fail(failure.ForeignProfile,
				key+" in the ECS agent's configuration would win over the managed node's credentials",
				fmt.Sprintf("sed -i -E '/(%s)=/d' %s", strings.Join(accessKeys, "|"),
					strings.Join(c.filesWith(accessKeys), " "))).with("setting", key), true
		}
	}
	if file, because := ssmagent.SharedFile(c.ssmUnit); because != "" {
		return fail(failure.AgentConfig,
			fmt.Sprintf("%s makes the SSM agent write its credentials to %s, where the ECS agent does not look", because, file),
			fmt.Sprintf("take HOME and AWS_SHARED_CREDENTIALS_FILE out of %s, then systemctl daemon-reload", because)), true
	}
	if profile != ssmagent.DefaultProfile && c.agent.before(ecsagent.ProfileFloor) {
		return fail("", fmt.Sprintf("%s knows no profile but [%s], and SSM Agent is to maintain [%s]",
			c.agent.name(), ssmagent.DefaultProfile, profile), newerAgent(ecsagent.ProfileFloor)), true
	}
	if !c.written.Parsable && c.written.Exists {
		why, _ := ssmagent.Foreign(c.written, c.identity, c.profile)
		return fail(failure.ForeignProfile, why, fmt.Sprintf(
			"correct %[1]s, or move it away (mv %[1]s %[1]s.before-ecs), then run the command again; "+
				"with --ssm-profile NAME SSM Agent leaves a [default] alone once the file can be read",
			ssmagent.CredentialsPath)), true
	}
	if why, foreign := ssmagent.Foreign(c.written, c.identity, c.profile); foreign {
		return fail(failure.ForeignProfile, why, fmt.Sprintf(
			"let SSM Agent keep its own profile: add --ssm-profile %s; or rename this one in %[2]s, "+
				"or move the file away (mv %[2]s %[2]s.before-ecs), then run the command again",
			c.freeName(), ssmagent.CredentialsPath)), true
	}
	if c.reads != profile && c.read.HasProfile && !c.read.Ours {
		return fail(failure.ForeignProfile, fmt.Sprintf(
			"%s lets the ECS agent read profile [%s] of %s, which is not SSM Agent's: it maintains [%s]",
			ecsagent.KeyProfile, c.reads, ssmagent.CredentialsPath, profile),
			fmt.Sprintf("take %s out of %s, or bring both together: anywhere register --ssm-profile %s",
				ecsagent.KeyProfile, strings.Join(c.filesWith([]string{ecsagent.KeyProfile}), " and "), c.freeName())), true
	}
	return Result{}, false
}

// warnings are what does no harm yet, or not for sure.
func (c chain) warnings(s Subject) []Result {
	var all []Result
	add := func(detail, remedy string) { all = append(all, warn(detail, remedy)) }
	profile := cmp.Or(c.profile, ssmagent.DefaultProfile)
	if c.reads != profile && s.Profile == "" {
		add(fmt.Sprintf("the ECS agent reads profile [%s], where SSM Agent writes nothing", c.reads),
			"anywhere register --ssm-profile "+profile)
	}
	if named := c.named(fileKeys); len(named) > 0 {
		files := strings.Join(c.filesWith(fileKeys), " ")
		add(fmt.Sprintf("%s in the ECS agent's configuration names a file inside its container, "+
			"asked %s the managed node's credentials",
			strings.Join(named, ", "), c.when(ecsagent.FromSharedFile)),
			fmt.Sprintf("sed -i -E '/^(%s)=/d' %s", strings.Join(fileKeys, "|"), files))
	}
	if !ecsagent.FromSSM.Before(ecsagent.FromEC2Role, c.agent.Version) && !c.noMetadata() && !s.Mutating {
		add(fmt.Sprintf("%s asks for an EC2 role before it takes the managed node's credentials", c.agent.name()),
			"anywhere register sets "+ecsagent.KeyNoMetadata+"=true, which keeps it from asking")
	}
	for _, v := range c.ssmUnit {
		if slices.Contains(accessKeys, v.Name) || v.Name == "AWS_PROFILE" {
			add(fmt.Sprintf("%s gives the SSM agent's service %s: what the agent runs (Run Command, sessions) "+
				"would use it instead of the node's role", v.At, v.Name), "take "+v.Name+" out of "+v.At)
		}
	}
	if mode := c.written.Mode.Perm(); c.written.Exists && mode&0o077 != 0 {
		add(fmt.Sprintf("the file's mode is %#o, so others can read the node's keys", mode),
			"chmod 0600 "+ssmagent.CredentialsPath)
	}
	return all
}

// sources are all that there is, in the agent's order, and which one wins: "none" when none of those that can be seen has
// credentials. What reaches nobody comes last.
func (c chain) sources() (all []credentialSource, winner string) {
	winner = "none"
	effect := func(s ecsagent.CredentialSource) string {
		if winner != "none" {
			return shadowed
		}
		winner = string(s)
		return wins
	}
	for _, source := range ecsagent.CredentialOrder(c.agent.Version) {
		switch source {
		case ecsagent.FromEnvironment:
			all = append(all, c.environment(effect)...)
		case ecsagent.FromSSM:
			all = append(all, c.rotating(effect))
		case ecsagent.FromSharedFile:
			for _, key := range c.named(fileKeys) {
				all = append(all, credentialSource{
					string(source), strings.Join(c.filesWith([]string{key}), ", "),
					key + " names a file or profile inside the container", ofForeign, unknown,
				})
			}
		case ecsagent.FromEC2Role:
			all = append(all, c.role(winner))
		}
	}
	return append(all, c.withoutEffect()...), winner
}

// environment are the keys in the agent's configuration files; half a pair gives nothing.
func (c chain) environment(effect func(ecsagent.CredentialSource) string) []credentialSource {
	var all []credentialSource
	id, key := c.config.Agent(accessKeys[0]), c.config.Agent(accessKeys[1])
	for _, file := range c.filesWith(accessKeys) {
		source := credentialSource{string(ecsagent.FromEnvironment), file, "half a key pair", ofForeign, noEffect}
		if id != "" && key != "" {
			source.What = "access key " + ssmagent.MaskKeyID(id)
			if len(all) == 0 {
				source.Effect = effect(ecsagent.FromEnvironment)
			} else {
				source.Effect = all[0].Effect // the two files together give the pair
			}
		}
		all = append(all, source)
	}
	return all
}

// rotating is the file that SSM Agent maintains, as far as the ECS agent sees it.
func (c chain) rotating(effect func(ecsagent.CredentialSource) string) credentialSource {
	source := credentialSource{
		string(ecsagent.FromSSM), fmt.Sprintf("%s [%s]", ecsagent.CredentialsFile, c.reads),
		"nothing yet", ofNobody, noEffect,
	}
	switch {
	case c.read.Exists && !c.read.Parsable:
		source.What, source.Whose = "a file that cannot be parsed", ofForeign
		return source
	case !c.read.HasProfile:
		return source
	case c.read.KeyID != "":
		source.What = "access key " + c.read.KeyID
	case len(c.read.Sources) > 0:
		source.What = strings.Join(c.read.Sources, ", ")
	default:
		source.What = "a profile without credentials"
		return source
	}
	source.Whose, source.Effect = ofForeign, effect(ecsagent.FromSSM)
	if c.read.Ours {
		source.Whose = ofAgent
	}
	return source
}

// role is the EC2 metadata service, which is not asked here.
func (c chain) role(winner string) credentialSource {
	source := credentialSource{string(ecsagent.FromEC2Role), "http://169.254.169.254",
		"would be asked " + c.when(ecsagent.FromEC2Role) + " the managed node's credentials", ofNobody, unknown}
	switch {
	case c.noMetadata():
		source.What, source.Effect = "not asked: "+ecsagent.KeyNoMetadata+"=true", noEffect
	case winner != "none":
		source.Effect = shadowed
	default:
		source.What += "; this check does not ask it"
	}
	return source
}

// withoutEffect are credentials in places that the ECS agent never sees, which people take for places that it does.
func (c chain) withoutEffect() []credentialSource {
	var all []credentialSource
	told := slices.Concat(accessKeys, fileKeys, []string{ecsagent.KeyProfile})
	for _, unit := range []struct {
		name, reach string
		variables   []host.UnitVariable
	}{
		{"ecs-service", "reaches ecs-init, not the agent in its container", c.ecsUnit},
		{"ssm-service", "reaches what the SSM agent runs, not its own calls", c.ssmUnit},
	} {
		for _, v := range unit.variables {
			configured := v.At == ecsagent.ConfigPath || v.At == ecsagent.InstanceConfigPath // told already
			if slices.Contains(told, v.Name) && !configured {
				all = append(all, credentialSource{unit.name, v.At, v.Name + " " + unit.reach, ofForeign, noEffect})
			}
		}
	}
	for _, name := range append(slices.Clone(accessKeys), ecsagent.KeyProfile, "AlternateCredentialProfile") {
		if strings.Contains(string(c.config.JSON), `"`+name+`"`) {
			all = append(all, credentialSource{
				"json-config", ecsagent.JSONConfigPath, name + " is none of the settings that the agent reads there",
				ofForeign, noEffect,
			})
		}
	}
	return all
}

// when says whether a source is asked before or after the managed node's credentials.
func (c chain) when(s ecsagent.CredentialSource) string {
	if s.Before(ecsagent.FromSSM, c.agent.Version) {
		return "before"
	}
	return "after"
}

func (c chain) noMetadata() bool { return c.config.Agent(ecsagent.KeyNoMetadata) == "true" }

// named are those of the settings that the ECS agent's configuration has.
func (c chain) named(settings []string) (found []string) {
	for _, key := range settings {
		if c.config.Agent(key) != "" {
			found = append(found, key)
		}
	}
	return found
}

// filesWith are the configuration files that have one of the settings.
func (c chain) filesWith(settings []string) (files []string) {
	has := func(file *ecsagent.File) bool {
		return slices.ContainsFunc(settings, func(key string) bool { value, ok := file.Get(key); return ok && value != "" })
	}
	if has(c.config.User) {
		files = append(files, ecsagent.ConfigPath)
	}
	if has(c.config.Instance) {
		files = append(files, ecsagent.InstanceConfigPath)
	}
	return files
}

// freeName is a profile's name that nobody has.
func (c chain) freeName() string {
	const name = "ecs-anywhere"
	for n := 2; ; n++ {
		free := name
		if n > 2 {
			free = fmt.Sprintf("%s-%d", name, n-1)
		}
		if !slices.Contains(c.written.Profiles, free) {
			return free
		}
	}
}
