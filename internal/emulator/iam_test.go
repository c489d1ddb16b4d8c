package emulator_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
)

// iam makes a signed call of IAM's query protocol; pairs are the form's.
func (w *world) iam(action string, pairs ...string) (int, string) {
	w.t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for n := 0; n < len(pairs); n += 2 {
		form.Set(pairs[n], pairs[n+1])
	}
	body := form.Encode()
	r, err := http.NewRequest(http.MethodPost, w.url+"/", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: operatorID, SecretAccessKey: operatorSecret},
		r, hex.EncodeToString(hash[:]), "iam", "us-east-1", w.now); err != nil {
		w.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

const trustPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["ssm.amazonaws.com"]},"Action":"sts:AssumeRole"}]}`

// A role is what IAM made of it, and Systems Manager hears of it a while later.
func TestRolesAreMadeBeforeTheyAreUsed(t *testing.T) {
	w := newWorld(t, emulator.Options{Region: "eu-central-1", Roles: true, Lag: 10 * time.Second})
	activate := func(role string) string {
		_, code, out := w.call(ssmTargets+"CreateActivation", `{"IamRole":"`+role+`"}`, signing{region: "eu-central-1"})
		message, _ := out["message"].(string)
		return strings.TrimSpace(code + " " + message)
	}
	const refused = "ValidationException Nonexistent role or missing ssm service principal in trust policy: arn:aws:iam::123456789012:role/"
	if said := activate("edge"); said != refused+"edge" {
		t.Error(said)
	}
	for _, c := range []struct {
		action string
		pairs  []string
		status int
		says   string
	}{
		{"CreateRole", []string{"RoleName", "edge"}, 400, "assumeRolePolicyDocument"},
		{"CreateRole", []string{"RoleName", "a b", "AssumeRolePolicyDocument", "{}"}, 400, "regular expression"},
		{"CreateRole", []string{"RoleName", "edge", "AssumeRolePolicyDocument", "{"}, 400, "MalformedPolicyDocument"},
		{"CreateRole", []string{"RoleName", "edge", "AssumeRolePolicyDocument", trustPolicy, "Moons", "4"}, 400, "takes no Moons"},
		{"CreateRole", []string{"RoleName", "edge", "AssumeRolePolicyDocument", trustPolicy}, 200, "<Arn>arn:aws:iam::123456789012:role/edge</Arn>"},
		{"CreateRole", []string{"RoleName", "edge", "AssumeRolePolicyDocument", trustPolicy}, 409, "EntityAlreadyExists"},
		{"CreateRole", []string{"RoleName", "other", "AssumeRolePolicyDocument", strings.Replace(trustPolicy, "ssm", "ec2", 1)}, 200, ""},
		{"GetRole", []string{"RoleName", "none"}, 404, "NoSuchEntity"},
		{"AttachRolePolicy", []string{"RoleName", "edge", "PolicyArn", "x"}, 400, "InvalidInput"},
		{"AttachRolePolicy", []string{"RoleName", "edge", "PolicyArn", "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"}, 200, ""},
		{"ListAttachedRolePolicies", []string{"RoleName", "edge"}, 200, "<PolicyName>AmazonSSMManagedInstanceCore</PolicyName>"},
		{"ListRoles", []string{"MaxItems", "1"}, 200, "<IsTruncated>true</IsTruncated>"},
		{"ListRoles", []string{"MaxItems", "1001"}, 400, "less than or equal to 1000"},
		{"DeleteRole", []string{"RoleName", "edge"}, 409, "DeleteConflict"},
		{"TagUser", nil, 400, "InvalidAction"},
	} {
		if status, text := w.iam(c.action, c.pairs...); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %v: %d %s", c.action, c.pairs, status, text)
		}
	}
	if said := activate("edge"); said != refused+"edge" {
		t.Errorf("at once: %s", said)
	}
	w.now = w.now.Add(10 * time.Second)
	if said := activate("edge"); said != "" {
		t.Errorf("later: %s", said)
	}
	if said := activate("other"); said != refused+"other" {
		t.Errorf("a role for something else: %s", said)
	}
	for _, c := range []struct {
		action string
		pairs  []string
	}{
		{"DetachRolePolicy", []string{"RoleName", "edge", "PolicyArn", "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"}},
		{"DeleteRole", []string{"RoleName", "edge"}},
	} {
		if status, text := w.iam(c.action, c.pairs...); status != 200 {
			t.Errorf("%s: %d %s", c.action, status, text)
		}
	}
	if said := activate("edge"); said != refused+"edge" {
		t.Errorf("after its deletion: %s", said)
	}
}
