package lifecycle

import (
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// What ECS takes. A request beyond it would fail behind the point of no return, when ECS refuses the registration.
// Source: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ API_Tag.html and API_Attribute.html, read 2026-11-22.
const (
	tagReference       = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html"
	attributeReference = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Attribute.html"
)

// limits of one kind of pairs. Lengths are in characters.
type limits struct {
	flag             string
	most             int
	keyMost          int
	valueLeast       int
	valueMost        int
	key, value       func() *regexp.Regexp // compiled when there are pairs: every start of the program would pay for them
	keyForm, valForm string
	source           string
}

func lazily(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

var tagLimits = limits{
	flag: "--tag", most: 50, keyMost: 128, valueMost: 256,
	key: lazily(`^[\p{L}\p{N}\p{Zs}+\-=._:/@]+$`), keyForm: "letters, digits, blanks and + - = . _ : / @",
	value: lazily(`^[\p{L}\p{N}\p{Zs}+\-=._:/@]*$`), valForm: "letters, digits, blanks and + - = . _ : / @",
	source: tagReference,
}

var attributeLimits = limits{
	flag: "--attribute", most: 10, keyMost: 128, valueLeast: 1, valueMost: 128,
	key: lazily(`^[A-Za-z0-9_./\\-]+$`), keyForm: `letters without accents, digits and - _ / \ .`,
	value: lazily(`^[A-Za-z0-9_.@/\\: -]*$`), valForm: `letters without accents, digits, blanks and - _ . @ / \ :`,
	source: attributeReference,
}

// check refuses pairs that ECS would refuse, naming flag, limit and source.
func (l limits) check(pairs []Pair) error {
	if len(pairs) > l.most {
		return failure.New(failure.Usage, "%s is given %d times; ECS takes %d at most", l.flag, len(pairs), l.most).
			WithEvidence("%s", l.source)
	}
	seen := map[string]bool{}
	for _, p := range pairs {
		wrong := func(format string, args ...any) error {
			return failure.New(failure.Usage, "%s %q: "+format, append([]any{l.flag, p.Key}, args...)...).
				WithEvidence("%s", l.source)
		}
		keyLength, valueLength := utf8.RuneCountInString(p.Key), utf8.RuneCountInString(p.Value)
		switch {
		case seen[p.Key]:
			return wrong("it is given twice")
		case p.Key == "" || keyLength > l.keyMost:
			return wrong("the name has %d characters; ECS takes 1 to %d", keyLength, l.keyMost)
		case !l.key().MatchString(p.Key):
			return wrong("the name may have %s", l.keyForm)
		case reserved(p.Key), reserved(p.Value):
			return wrong("what begins with aws: is AWS's own")
		case valueLength < l.valueLeast || valueLength > l.valueMost:
			return wrong("the value has %d characters; ECS takes %d to %d", valueLength, l.valueLeast, l.valueMost)
		case !l.value().MatchString(p.Value):
			return wrong("the value may have %s", l.valForm)
		case strings.TrimFunc(p.Key, unicode.IsSpace) != p.Key || strings.TrimFunc(p.Value, unicode.IsSpace) != p.Value:
			return wrong("neither name nor value may begin or end with a blank")
		}
		seen[p.Key] = true
	}
	return nil
}

func reserved(text string) bool { return strings.HasPrefix(strings.ToLower(text), "aws:") }

// versionForm is that of both agents' packages: three numbers or four, and perhaps the package's revision.
var versionForm = regexp.MustCompile(`^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2,3}(-[1-9][0-9]*)?$`)

// clusterForm is an ECS cluster's name. Source: API_CreateCluster.html of the same reference, read 2026-11-22.
var clusterForm = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

const maxClusterName = 255

// Check refuses what cannot be right whatever the host is like. It looks at nothing but the request, and at the file that
// --keyring names.
func (req RegisterRequest) Check() error {
	if err := (preflight.Options{Ignore: req.Ignore}).Validate(); err != nil {
		return err
	}
	if err := tagLimits.check(req.Tags); err != nil {
		return err
	}
	if err := attributeLimits.check(req.Attributes); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, s := range req.Settings {
		if seen[s.Key] {
			return failure.New(failure.Usage, "--ecs-config %s is given twice", s.Key)
		}
		if err := ecsagent.CheckSetting(s.Key, s.Value); err != nil {
			return failure.Wrap(failure.Usage, err, "--ecs-config")
		}
		seen[s.Key] = true
	}
	if err := checkVersions([]string{req.ECSAgentVersion}, []string{req.SSMAgentVersion}); err != nil {
		return err
	}
	if req.SSMProfile != "" {
		if err := ssmagent.CheckProfile(req.SSMProfile); err != nil {
			return failure.Wrap(failure.Usage, err, "--ssm-profile")
		}
	}
	if req.Activation == nil {
		if err := req.order().Check(); err != nil {
			return err
		}
	}
	isName := len(req.Cluster) <= maxClusterName && clusterForm.MatchString(req.Cluster)
	if req.Cluster != "" && !strings.HasPrefix(req.Cluster, "arn:") && !isName {
		return failure.New(failure.Usage, "--cluster: %q is not a cluster's name: it has 1 to 255 letters, digits, - and _",
			req.Cluster)
	}
	if _, err := req.place(); err != nil {
		return err
	}
	if _, err := parseEndpoints(req.AgentEndpoint, req.EndpointURL); err != nil || req.Keyring == "" {
		return err
	}
	_, err := req.keys()
	if errors.Is(err, fs.ErrPermission) { // who is not root is told that first
		return nil
	}
	return err
}

// checkVersions refuses what cannot be a version of either agent.
func checkVersions(ecs, ssm []string) error {
	for _, v := range []struct {
		flag     string
		versions []string
	}{{"--ecs-agent-version", ecs}, {"--ssm-agent-version", ssm}} {
		for _, version := range v.versions {
			if explicit(version) != "" && !versionForm.MatchString(version) {
				return failure.New(failure.Usage, "%s: %q is not a version", v.flag, version).
					WithRemedy("give it like 1.105.1 or 3.3.4108.0, or latest, or leave it out")
			}
		}
	}
	return nil
}
