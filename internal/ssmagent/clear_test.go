package ssmagent

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

const agentsOwn = "aws_access_key_id     = ASIAEXAMPLE000000001\naws_secret_access_key = secret\naws_session_token     = token=with=signs==\n"

// Every line that is not one of the agent's three stays to the letter.
func TestTheAgentsKeysAreTakenOut(t *testing.T) {
	for _, test := range []struct{ name, profile, text, want string }{
		{"as the agent writes it", "default", "[default]\n" + agentsOwn + "\n", ""},
		{"another profile below", "default", "[default]\n" + agentsOwn + "\n[mine]\naws_access_key_id = AKIA\n", "[mine]\naws_access_key_id = AKIA\n"},
		{"another profile above", "default", "# mine\n[mine]\nregion=eu-west-1\n\n[default]\n" + agentsOwn, "# mine\n[mine]\nregion=eu-west-1\n\n"},
		{"a setting beside the keys", "default", "[default]\nregion = eu-west-1\n" + agentsOwn, "[default]\nregion = eu-west-1\n"},
		{"a comment in the profile", "default", "[default]\n; keep me\n" + agentsOwn, "[default]\n; keep me\n"},
		{"its own profile", "ecs", "[default]\naws_access_key_id=AKIAMINE\n[ecs]\n" + agentsOwn + "[z]\na=b\n",
			"[default]\naws_access_key_id=AKIAMINE\n[z]\na=b\n"},
		{"no line end, blanks, DOS", "default", "[default]\r\n  aws_access_key_id=ASIA1\r\n\r\n[z]\r\na=b", "[z]\r\na=b"},
		{"a profile with a longer name", "default", "[default2]\naws_access_key_id=AKIA\n[default]\n" + agentsOwn, "[default2]\naws_access_key_id=AKIA\n"},
		{"before any profile", "default", "aws_access_key_id=AKIA\n[default]\n" + agentsOwn, "aws_access_key_id=AKIA\n"},
	} {
		got, err := withoutKeys([]byte(test.text), test.profile)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

// What the agent's parser would read otherwise afterwards is left alone, and no secret is told.
func TestKeysThatCannotBeTakenOut(t *testing.T) {
	for name, text := range map[string]string{
		"a value over several lines": "[default]\naws_session_token = \"\"\"one\nregion = x\ntwo\"\"\"\n",
		"a line that goes on":        "[default]\naws_secret_access_key = hidden\\\nregion = eu-west-1\n",
		"not to be parsed":           "[default\naws_secret_access_key = hidden\n",
	} {
		rest, err := withoutKeys([]byte(text), "default")
		if !failure.Is(err, failure.ForeignProfile) || rest != nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %q, %v", name, rest, err)
		}
	}
}

func FuzzWithoutKeys(f *testing.F) {
	f.Add("[default]\n"+agentsOwn+"[z]\na=b\n", "default")
	f.Add("[default]\naws_session_token = \"\"\"a\n[z]\n\"\"\"\n", "default")
	f.Add("a=b\n", "z")
	f.Fuzz(func(t *testing.T, text, profile string) {
		rest, err := withoutKeys([]byte(text), profile)
		if err == nil && !sameButFor([]byte(text), rest, profile) {
			t.Errorf("%q became %q", text, rest)
		}
		for line := range strings.Lines(string(rest)) {
			if !strings.Contains(text, line) {
				t.Errorf("%q has the new line %q", rest, line)
			}
		}
	})
}

func TestNodeDirIsOnlyOfANode(t *testing.T) {
	if got := NodeDir("mi-0123456789abcdef0"); got != DataDir+"/mi-0123456789abcdef0" {
		t.Error(got)
	}
	for _, id := range []string{"", ".", "..", "mi-", "mi-0123456789abcdef0/..", "../mi-0123456789abcdef0", "mi-0123456789ABCDEF0", "i-0123456789abcdef0"} {
		if got := NodeDir(id); got != "" {
			t.Errorf("%q gives %q", id, got)
		}
	}
}

func TestSameCredentials(t *testing.T) {
	const one = "# mine\n[ops]\nregion=eu-west-1\naws_access_key_id=AKIA"
	for text, want := range map[string]bool{
		one: true,
		"# mine\n[ops]\nregion            = eu-west-1\naws_access_key_id = AKIA\n\n": true,
		"# ours\n[ops]\nregion=eu-west-1\naws_access_key_id=AKIA":                    false,
		"[ops]\nregion=eu-west-1\naws_access_key_id=AKIA":                            false,
		"# mine\n[ops]\nregion=eu-west-1\naws_access_key_id=AKIB":                    false,
		one + "\n[more]\na=b": false,
		"[ops":                false,
	} {
		if got := SameCredentials([]byte(one), []byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if SameCredentials([]byte("[ops"), []byte("[ops")) {
		t.Error("what cannot be parsed says nothing")
	}
}
