package lifecycle

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func pairs(n int) (all []Pair) {
	for i := range n {
		all = append(all, Pair{fmt.Sprintf("key%d", i), "value"})
	}
	return all
}

func TestRequestLimits(t *testing.T) {
	tag := func(key, value string) RegisterRequest { return RegisterRequest{Tags: []Pair{{key, value}}} }
	attribute := func(key, value string) RegisterRequest { return RegisterRequest{Attributes: []Pair{{key, value}}} }
	long := strings.Repeat
	for name, test := range map[string]struct {
		req  RegisterRequest
		says string // of the refusal; empty is none
	}{
		"nothing": {RegisterRequest{}, ""},

		"50 tags":                        {RegisterRequest{Tags: pairs(50)}, ""},
		"51 tags":                        {RegisterRequest{Tags: pairs(51)}, "--tag is given 51 times; ECS takes 50"},
		"a tag of all that is allowed":   {tag("Kostenstelle/ÄÖ_1 +-=.:@", "größer = teurer"), ""},
		"a tag without a value":          {tag("empty", ""), ""},
		"the longest tag":                {tag(long("ä", 128), long("ß", 256)), ""},
		"a tag's name too long":          {tag(long("k", 129), ""), "has 129 characters; ECS takes 1 to 128"},
		"a tag's value too long":         {tag("k", long("v", 257)), "has 257 characters; ECS takes 0 to 256"},
		"a tag's name with a comma":      {tag("a,b", ""), "the name may have"},
		"a tag's value of two lines":     {tag("a", "b\nc"), "the value may have"},
		"a tag that is AWS's":            {tag("AWS:x", "y"), "AWS's own"},
		"a tag's value that is AWS's":    {tag("x", "aws:y"), "AWS's own"},
		"a tag's name with outer blanks": {tag(" a", "b"), "blank"},
		"the same tag twice": {RegisterRequest{Tags: []Pair{{"a", "1"}, {"a", "2"}}},
			`--tag "a": it is given twice`},

		"10 attributes": {RegisterRequest{Attributes: pairs(10)}, ""},
		"11 attributes": {RegisterRequest{Attributes: pairs(11)},
			"--attribute is given 11 times; ECS takes 10"},
		"an attribute of all there is":   {attribute(`a-Z_0/.\`, `a-Z 0_.@/\:`), ""},
		"the longest attribute":          {attribute(long("k", 128), long("v", 128)), ""},
		"an attribute's name too long":   {attribute(long("k", 129), "v"), "has 129 characters; ECS takes 1 to 128"},
		"an attribute's value too long":  {attribute("k", long("v", 129)), "has 129 characters; ECS takes 1 to 128"},
		"an attribute without a value":   {attribute("k", ""), "the value has 0 characters; ECS takes 1 to 128"},
		"an attribute's name with blank": {attribute("a b", "v"), "the name may have"},
		"an attribute with an umlaut":    {attribute("rack", "größe"), "the value may have"},
		"an attribute's outer blank":     {attribute("rack", "a "), "blank"},
		"the same attribute twice": {RegisterRequest{Attributes: []Pair{{"a", "1"}, {"a", "1"}}},
			`--attribute "a"`},

		"a setting": {RegisterRequest{Settings: []Pair{{"ECS_LOGLEVEL", "debug"}}}, ""},
		"a setting nobody knows": {RegisterRequest{Settings: []Pair{{"ECS_LOGLEVELS", "debug"}}},
			"--ecs-config: the ECS agent has no setting ECS_LOGLEVELS"},
		"a setting with a flag": {RegisterRequest{Settings: []Pair{{"ECS_CLUSTER", "web"}}},
			"ECS_CLUSTER cannot be given with --ecs-config"},
		"a setting's value": {RegisterRequest{Settings: []Pair{{"ECS_LOGLEVEL", "loud"}}}, "ECS_LOGLEVEL"},
		"the same setting twice": {RegisterRequest{Settings: []Pair{{"ECS_LOGLEVEL", "debug"}, {"ECS_LOGLEVEL", "info"}}},
			"--ecs-config ECS_LOGLEVEL is given twice"},

		"versions": {RegisterRequest{ECSAgentVersion: "1.105.1-1", SSMAgentVersion: "3.3.4108.0"},
			""},
		"the latest versions": {RegisterRequest{ECSAgentVersion: "latest", SSMAgentVersion: "latest"}, ""},
		"a word for a version": {RegisterRequest{ECSAgentVersion: "newest"},
			`--ecs-agent-version: "newest" is not a version`},
		"a version with a zero too many": {RegisterRequest{ECSAgentVersion: "01.105.1"},
			`--ecs-agent-version: "01.105.1" is not a version`},
		"a path for a version":         {RegisterRequest{SSMAgentVersion: "../../3.3.1.0"}, "--ssm-agent-version"},
		"a tag of git for a version":   {RegisterRequest{ECSAgentVersion: "v1.105.1"}, "--ecs-agent-version"},
		"a cluster":                    {RegisterRequest{Cluster: "shop_2-a"}, ""},
		"a cluster's name with blank":  {RegisterRequest{Cluster: "my shop"}, `--cluster: "my shop"`},
		"a name that no node may have": {RegisterRequest{Name: "web;1"}, "--name"},
		"a role that is none":          {RegisterRequest{Role: "a b"}, "--iam-role"},
		"a cluster's name too long":    {RegisterRequest{Cluster: long("c", 256)}, "--cluster"},
	} {
		err := test.req.Check()
		if test.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v; want %q as a usage error", name, err, test.says)
		}
	}
}

// The source of a limit is told.
func TestLimitsNameTheirSource(t *testing.T) {
	for _, l := range []limits{tagLimits, attributeLimits} {
		for _, bad := range [][]Pair{pairs(l.most + 1), {{strings.Repeat("k", 200), "v"}}, {{"k", "\x00"}}} {
			f := failure.Of(l.check(bad))
			if f == nil || f.Evidence != l.source || !strings.HasPrefix(l.source, "https://docs.aws.amazon.com/") {
				t.Errorf("%s: %+v", l.flag, f)
			}
		}
	}
}

// A request beyond the limits is refused before anything is looked at: no host is needed for it.
func TestRegisterRefusesTheRequestFirst(t *testing.T) {
	m := newMachine(t)
	d := Deps{Host: m.host(), RunID: "run-1"}
	d.Host.Self.EUID = 1000
	_, err := Register(t.Context(), d, RegisterRequest{Region: region, Tags: pairs(51)})
	if !failure.Is(err, failure.Usage) {
		t.Errorf("%v; want a usage error, not that root is missing", err)
	}
}
