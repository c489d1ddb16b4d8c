package secret

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

func TestScrubberTakesOutWhatLooksLikeASecret(t *testing.T) {
	const (
		key   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
		short = "hunter2hunter2"
	)
	long := strings.Repeat("aB3x", 60)
	for name, text := range map[string]string{
		"a bare secret key":      "the key is " + key + " and so on",
		"a bare session token":   "x IQoJ" + long,
		"a label":                "registry_password=" + short,
		"a label in JSON":        `{"password": "` + short + `", "x": 1}`,
		"a label in JSON inside": `msg="{\"password\":\"` + short + `\"}"`,
		"a value with blanks":    `"clientSecret": "` + short + ` with words"`,
		"an authorization":       "Authorization: AWS4-HMAC-SHA256 Credential=x/20261122, Signature=" + short,
		"basic":                  "authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+short)),
		"bearer":                 "sent Bearer " + short,
		"docker's auth":          `"auths": {"registry.example": {"auth": "` + short + `"}}`,
		"ecs auth data":          `ECS_ENGINE_AUTH_DATA={"r":{"username":"u","password":"` + short + `"}}`,
		"ecs auth data, JSON":    `"EngineAuthData": {"r":{"x":"` + short + `"}}`,
		"a proxy":                "HTTPS_PROXY=http://user:" + short + "@proxy.example:3128",
		"a proxy without scheme": "https_proxy=user:" + short + "@proxy.example:3128",
		"a password with an at":  "HTTPS_PROXY=http://user:x@" + short + "@proxy.example:3128",
		"an activation code":     "amazon-ssm-agent -register -code " + short + " -id x",
		"its label":              "activationCode=" + short,
		"a join token":           "anywhere1." + strings.Repeat("abcDEF123_", 4),
		"a private key":          "-----BEGIN RSA PRIVATE KEY-----\nMIIB" + short + "\n-----END RSA PRIVATE KEY-----",
		"half a private key":     "-----BEGIN PRIVATE KEY-----\n" + short,
		"the rest of one":        strings.Repeat("aB3/", 16) + "\n",
		"a key in JSON":          `"privateKey":"MIIE` + long + `"`,
		"an access key":          "key id ASIAIOSFODNN7EXAMPLE",
		"a presigned URL":        "https://s3.example/x?X-Amz-Signature=" + short + "&y=1",
		"a security token":       "X-Amz-Security-Token: " + short,
		"a web token":            "eyJhbGciOi" + "JIUzI1NiJ9.eyJzdWIiOiIx" + short + ".sig",
		"a token of GitHub":      "ghp_" + short + short,
	} {
		var s Scrubber
		got := s.Clean(text)
		for _, secret := range []string{key, short, long, "IOSFODNN7", strings.Repeat("aB3/", 10)} {
			if strings.Contains(got, secret) {
				t.Errorf("%s: %q is left in %q", name, secret, got)
			}
		}
		if !strings.Contains(got, Mask) {
			t.Errorf("%s: nothing was taken out of %q", name, got)
		}
	}
}

func TestScrubberKnowsSecretsInTheirForms(t *testing.T) {
	const secret = `pa"ss/w&rd+1`
	var s Scrubber
	s.Know(secret, "short")
	inJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{
		secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret)), strings.Trim(string(inJSON), `"`),
	} {
		if got := s.Clean("x " + form + " y"); got != "x "+Mask+" y" {
			t.Errorf("%q becomes %q", form, got)
		}
	}
	if got := s.Clean("a short text"); got != "a short text" {
		t.Errorf("a word is taken for a secret: %q", got)
	}
}

func TestScrubberNamesAccountsConsistently(t *testing.T) {
	var s Scrubber
	got := s.Clean("arn:aws:ecs:eu-west-1:111122223333:cluster/x in 444455556666, image 111122223333.dkr.ecr.eu-west-1.amazonaws.com/a_111122223333_b")
	want := "arn:aws:ecs:eu-west-1:ACCOUNT-1:cluster/x in ACCOUNT-2, image ACCOUNT-1.dkr.ecr.eu-west-1.amazonaws.com/a_ACCOUNT-1_b"
	if got != want {
		t.Errorf("%s", got)
	}
	if again := s.Clean("444455556666"); again != "ACCOUNT-2" {
		t.Error(again)
	}
}

// What helps to understand a host stays.
func TestScrubberLeavesTheRest(t *testing.T) {
	for _, text := range []string{
		"level=info time=2026-11-22T09:00:00Z msg=\"Registered container instance with cluster!\" module=ecs_client.go",
		"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		"/var/lib/ecs/deps/execute-command/bin/3.3.4108.0/amazon-ssm-agent",
		"mi-0123456789abcdef0 8f14e45f-ceea-467f-9575-ad5f7a5a5b6c 1700000000123456",
		"Successfully got ECS instance credentials from provider: RotatingSharedCredentialsProvider",
		"ECS_CLUSTER=shop\nAWS_DEFAULT_REGION=eu-central-1\nECS_EXTERNAL=true\n",
		"https://ecs.eu-central-1.amazonaws.com/ answered 200",
	} {
		var s Scrubber
		if got := s.Clean(text); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

func TestScrubberCleansDocuments(t *testing.T) {
	var doc any
	if err := json.Unmarshal([]byte(`{"account":"111122223333","n":123456789012,"token":"abc","list":["password=hunter22"],"in":{"secretKey":"x"}}`), &doc); err != nil {
		t.Fatal(err)
	}
	var s Scrubber
	got, err := json.Marshal(s.CleanJSON(doc))
	if want := `{"account":"ACCOUNT-1","in":{"secretKey":"[redacted]"},"list":["password=[redacted]"],"n":123456789012,"token":"[redacted]"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

// Whatever stands around it, a secret that is known is never left, and no text makes the scrubber stumble.
func FuzzScrubber(f *testing.F) {
	const known = "hunter2-hunter2"
	for _, seed := range []string{"", "password=", "Authorization: ", "-----BEGIN PRIVATE KEY-----", `{"auth":"`, "http://u:", "111122223333", "\xff\n\n", strings.Repeat("aB3/", 30)} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		var s Scrubber
		s.Know(known)
		got := s.Clean(before + known + after)
		if strings.Contains(got, known) || strings.Count(got, "\n") > strings.Count(before+after, "\n") {
			t.Errorf("%q becomes %q", before+known+after, got)
		}
	})
}
