package emulator_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

func TestSignatures(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	for _, c := range []struct {
		name       string
		s          signing
		code, text string // of the refusal; empty: accepted
	}{
		{name: "in order"},
		{name: "four minutes slow", s: signing{at: w.now.Add(-4 * time.Minute)}},
		{"anonymous", signing{id: "none"}, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		{"unknown key", signing{id: "AKIAUNKNOWN000000001"}, "UnrecognizedClientException", "security token"},
		{"token that is not the key's", signing{token: "foreign"}, "UnrecognizedClientException", "security token"},
		{"wrong secret", signing{secret: "wrong"}, "InvalidSignatureException", "does not match"},
		{"clock slow", signing{at: w.now.Add(-6 * time.Minute)}, "InvalidSignatureException",
			"Signature expired: 20261122T115400Z is now earlier than 20261122T115500Z (20261122T120000Z - 5 min.)"},
		{"clock fast", signing{at: w.now.Add(6 * time.Minute)}, "InvalidSignatureException",
			"Signature not yet current: 20261122T120600Z is still later than 20261122T120500Z (20261122T120000Z + 5 min.)"},
		{"other Region", signing{region: "eu-west-1"}, "InvalidSignatureException", "scoped"},
		{"other service", signing{service: "ecs"}, "InvalidSignatureException", "scoped"},
		{"header changed on the way", signing{spoil: func(r *http.Request) {
			r.Header.Set("X-Amz-Target", "AmazonSSM.DeleteActivation")
		}}, "InvalidSignatureException", "does not match"},
		{"signed for any host", signing{spoil: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "host;", "", 1))
		}}, "InvalidSignatureException", "'Host' must be"},
		{"not a signature", signing{spoil: func(r *http.Request) {
			r.Header.Set("Authorization", "Basic dXNlcg==")
		}}, "IncompleteSignatureException", "requires"},
		{"half a signature", signing{spoil: func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20261122/us-east-1/ssm/aws4_request")
		}}, "IncompleteSignatureException", "requires"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, code, body := w.call("AmazonSSM.DescribeActivations", "{}", c.s)
			if c.code == "" {
				if status != http.StatusOK {
					t.Errorf("refused with %d %v", status, body)
				}
				return
			}
			text, _ := body["message"].(string)
			if status != http.StatusBadRequest || code != c.code || !strings.Contains(text, c.text) {
				t.Errorf("got %d %s %q, want 400 %s with %q", status, code, text, c.code, c.text)
			}
		})
	}
}

func TestABodyThatChangedIsRefused(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	_, code, _ := w.call("AmazonSSM.DescribeActivations", `{"MaxResults":1}`, signing{spoil: func(r *http.Request) {
		r.Body = http.NoBody
		r.ContentLength = 0
	}})
	if code != "InvalidSignatureException" {
		t.Errorf("got %q", code)
	}
}
