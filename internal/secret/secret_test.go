package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestTextDoesNotPrintItself(t *testing.T) {
	text := NewText("hunter2-hunter2")
	marshalled, err := json.Marshal(map[string]any{"code": text})
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{
		fmt.Sprint(text), fmt.Sprintf("%s %v %+v %#v %q", text, text, text, text, text), fmt.Sprintf("%+v", struct{ T Text }{text}), string(marshalled),
	} {
		if strings.Contains(out, "hunter2") {
			t.Errorf("printed: %s", out)
		}
	}
	if text.Reveal() != "hunter2-hunter2" || text.Empty() || !(Text{}).Empty() {
		t.Error("the content is not kept")
	}
}

func TestClean(t *testing.T) {
	var r Redactor
	r.Add("topsecretvalue", "topsecretvalue-and-more", "abc", " padded-secret\n")
	for _, test := range []struct{ in, want string }{
		{"code topsecretvalue!", "code [redacted]!"},
		{"topsecretvalue-and-more", "[redacted]"},
		{"abc stays: it is a word", "abc stays: it is a word"},
		{"x padded-secret y", "x [redacted] y"},
		{"anywhere1.QUJDREVGR0hJSktMTU5PUA is a token", "[redacted] is a token"},
		{"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = [redacted]"},
		{`"SecretAccessKey":"wJalrXUtn","SessionToken":"FwoGZX=="`, `"SecretAccessKey":"[redacted]","SessionToken":"[redacted]"`},
		{"AWS_SESSION_TOKEN=abcdef", "AWS_SESSION_TOKEN=[redacted]"},
		{`"ActivationCode":"abc/def+ghi"`, `"ActivationCode":"[redacted]"`},
		{"amazon-ssm-agent -register -code s3cr3t -id x", "amazon-ssm-agent -register -code [redacted] -id x"},
		{"http://user:pass@proxy:3128/", "http://[redacted]@proxy:3128/"},
		{"https://user:p@ss@proxy:3128", "https://[redacted]@proxy:3128"},
		{"HTTPS_PROXY=user:pa/ss@proxy:3128", "HTTPS_PROXY=[redacted]@proxy:3128"},
		{"Environment=\"https_proxy=http://user:pa/s@s@proxy:3128\" \"NO_PROXY=x\"", "Environment=\"https_proxy=http://[redacted]@proxy:3128\" \"NO_PROXY=x\""},
		{`{\"https-proxy\": \"u:p@proxy:3128\"}`, `{\"https-proxy\": \"[redacted]@proxy:3128\"}`},
		{"through user:pass@proxy:3128, u:p@q", "through [redacted]@proxy:3128, [redacted]@q"},
		{"redis:7@sha256:0123 and user@1000.service at 10:20 by git@example.com:x", "redis:7@sha256:0123 and user@1000.service at 10:20 by git@example.com:x"},
		{"https://s3.eu-west-1.amazonaws.com/a@b", "https://s3.eu-west-1.amazonaws.com/a@b"},
		{`ECS_ENGINE_AUTH_DATA={"https://r":{"password":"p"}}`, "ECS_ENGINE_AUTH_DATA=[redacted]"},
		{"nothing to hide", "nothing to hide"},
	} {
		if got := r.Clean(test.in); got != test.want {
			t.Errorf("Clean(%q) = %q, want %q", test.in, got, test.want)
		}
		if once := r.Clean(test.in); r.Clean(once) != once {
			t.Errorf("cleaning %q twice gives another text", test.in)
		}
	}
}

func TestWriter(t *testing.T) {
	var r Redactor
	r.Add("topsecretvalue")
	var out bytes.Buffer
	n, err := r.Writer(&out).Write([]byte("a topsecretvalue b\n"))
	if err != nil || n != 19 || out.String() != "a [redacted] b\n" {
		t.Errorf("wrote %q (%d, %v)", out.String(), n, err)
	}
}

func FuzzCleanLeavesNoSecret(f *testing.F) {
	f.Add("prefix ", "s3cr3t/va+lue", " suffix")
	f.Fuzz(func(t *testing.T, before, value, after string) {
		value = strings.TrimSpace(value)
		if len(value) < 6 || strings.Contains(Mask, value) || strings.Contains(value, Mask) {
			return // by our rule not a secret
		}
		var r Redactor
		r.Add(value)
		// What stands around the secret may, with the mask between, spell it once more: that is not a leak.
		if strings.Contains(before+Mask+after, value) {
			return
		}
		if cleaned := r.Clean(before + value + after); strings.Contains(cleaned, value) {
			t.Errorf("%q is still in %q", value, cleaned)
		}
	})
}

func TestOnlyADocumentDiscloses(t *testing.T) {
	d := Disclosed{NewText("hunter2hunter2")}
	document, err := json.Marshal(struct {
		Shown  Disclosed `json:"shown"`
		Absent Disclosed `json:"absent,omitzero"`
	}{Shown: d})
	if want := `{"shown":"hunter2hunter2"}`; err != nil || string(document) != want {
		t.Errorf("the document is %s, %v; want %s", document, err, want)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, d); strings.Contains(text, "hunter2") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func TestInAddress(t *testing.T) {
	for address, want := range map[string]string{
		"http://proxy:3128": "[]", "proxy:3128": "[]", "": "[]", "@proxy": "[]",
		"http://token@proxy:3128":     "[token]",
		"user:pass@proxy:3128":        "[user:pass pass dXNlcjpwYXNz]",
		"http://user:p@ss@proxy:3128": "[user:p@ss p@ss p%40ss dXNlcjpwQHNz]",
		"http://u:p%2Fw@proxy:3128/":  "[u:p%2Fw p%2Fw p/w u:p/w dTpwL3c=]",
		"u:100%@proxy":                "[u:100% 100% 100%25 dToxMDAl]",
	} {
		if got := fmt.Sprint(InAddress(address)); got != want {
			t.Errorf("%q has %s, want %s", address, got, want)
		}
	}
}
