package emulator_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// world is an emulator with a cluster, an operator and a server.
type world struct {
	*emulator.Emulator
	t   *testing.T
	url string
	now time.Time
}

const (
	operatorID     = "AKIAOPERATOR00000001"
	operatorSecret = "operator-secret-key-of-the-test"
)

func newWorld(t *testing.T, opts emulator.Options) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	opts.Now = func() time.Time { return w.now }
	w.Emulator = emulator.New(opts)
	w.AddCluster("demo")
	w.AddOperator(emulator.Key{ID: operatorID, Secret: secret.NewText(operatorSecret)})
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// signing says how a test request is signed; the zero value is the operator's, in order.
type signing struct {
	id, secret, token, region, service string
	at                                 time.Time
	spoil                              func(*http.Request)
}

// call makes a signed call and returns the status, the error's code and the body.
func (w *world) call(target, body string, s signing) (int, string, map[string]any) {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.url+"/", bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	or := func(v, otherwise string) string {
		if v == "" {
			return otherwise
		}
		return v
	}
	if s.at.IsZero() {
		s.at = w.now
	}
	if s.id != "none" {
		hash := sha256.Sum256([]byte(body))
		if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{
			AccessKeyID: or(s.id, operatorID), SecretAccessKey: or(s.secret, operatorSecret), SessionToken: s.token,
		}, r, hex.EncodeToString(hash[:]), or(s.service, "ssm"), or(s.region, "us-east-1"), s.at); err != nil {
			w.t.Fatal(err)
		}
	}
	if s.spoil != nil {
		s.spoil(r)
	}
	return w.send(r)
}

func (w *world) send(r *http.Request) (int, string, map[string]any) {
	w.t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil {
		w.t.Fatalf("the answer is not JSON: %v", err)
	}
	code, _ := out["__type"].(string)
	return answer.StatusCode, code, out
}

func (w *world) config() aws.Config {
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(w.url), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(operatorID, operatorSecret, ""),
	}
}

// The SDK is what anywhere itself uses: it must be able to read every answer.
func TestTheSDKUnderstandsTheAnswers(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.now = time.Now() // the SDK signs by its own clock
	ctx := context.Background()
	systems := ssm.NewFromConfig(w.config())
	made, err := systems.CreateActivation(ctx, &ssm.CreateActivationInput{
		IamRole: aws.String("service-role/ecsAnywhereRole"), RegistrationLimit: aws.Int32(3),
		Description:    aws.String("run 7"),
		ExpirationDate: aws.Time(w.now.Add(time.Hour)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(*made.ActivationCode) < 20 || len(*made.ActivationId) != 36 {
		t.Errorf("activation %s with a code of %d characters; AWS's have 36 and 20", *made.ActivationId,
			len(*made.ActivationCode))
	}
	list, err := systems.DescribeActivations(ctx, &ssm.DescribeActivationsInput{})
	if err != nil {
		t.Fatal(err)
	}
	if a := list.ActivationList; len(a) != 1 || *a[0].IamRole != "ecsAnywhereRole" || *a[0].RegistrationLimit != 3 ||
		a[0].Expired || *a[0].Description != "run 7" {
		t.Errorf("activations are %+v", a)
	}
	if _, err := systems.DeleteActivation(ctx, &ssm.DeleteActivationInput{ActivationId: made.ActivationId}); err != nil {
		t.Error(err)
	}
	if _, ok := w.ActivationsLeft(*made.ActivationId); ok {
		t.Error("the activation is there after its deletion")
	}
	clusters, err := ecs.NewFromConfig(w.config()).DescribeClusters(ctx, &ecs.DescribeClustersInput{
		Clusters: []string{"demo", "nowhere"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(clusters.Clusters) != 1 || *clusters.Clusters[0].Status != "ACTIVE" || len(clusters.Failures) != 1 ||
		*clusters.Failures[0].Reason != "MISSING" {
		t.Errorf("clusters are %+v, failures %+v", clusters.Clusters, clusters.Failures)
	}
	who, err := sts.NewFromConfig(w.config()).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Fatal(err)
	}
	if *who.Account != "123456789012" {
		t.Errorf("the caller's account is %s", *who.Account)
	}
}

func TestDeniedActions(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.AddOperator(emulator.Key{ID: "AKIAREADER0000000001", Secret: secret.NewText("reader"), Deny: []string{"ssm:*"}})
	status, code, body := w.call("AmazonSSM.DescribeActivations", "{}",
		signing{id: "AKIAREADER0000000001", secret: "reader"})
	if status != 400 || code != "AccessDeniedException" {
		t.Errorf("got %d %s %v", status, code, body)
	}
	if status, code, _ := w.call("AmazonEC2ContainerServiceV20141113.DescribeClusters", "{}",
		signing{id: "AKIAREADER0000000001", secret: "reader", service: "ecs"}); status != 200 {
		t.Errorf("an action that is not denied was answered with %d %s", status, code)
	}
}

func TestBuckets(t *testing.T) {
	const name = "amazon-ssm-us-east-1/latest/debian_amd64/amazon-ssm-agent.deb"
	content := []byte("0123456789abcdef")
	w := newWorld(t, emulator.Options{Artifacts: fstest.MapFS{
		name: {Data: content, ModTime: time.Unix(1, 0)}, name + ".sig": {Data: []byte("signature")},
	}})
	get := func(path, rangeHeader string) (int, string, []byte, error) {
		r, err := http.NewRequest(http.MethodGet, w.url+"/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if rangeHeader != "" {
			r.Header.Set("Range", rangeHeader)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		data, err := io.ReadAll(answer.Body)
		return answer.StatusCode, answer.Header.Get("ETag"), data, err
	}
	if status, tag, data, err := get(name, ""); status != 200 || tag == "" || !bytes.Equal(data, content) || err != nil {
		t.Errorf("got %d %s %q %v", status, tag, data, err)
	}
	if status, _, data, _ := get(name, "bytes=10-"); status != 206 || string(data) != "abcdef" {
		t.Errorf("a range got %d %q", status, data)
	}
	status, _, data, _ := get("amazon-ssm-us-east-1/latest/none", "")
	if status != 404 || !bytes.Contains(data, []byte("NoSuchKey")) {
		t.Errorf("a missing object got %d %q", status, data)
	}
	for _, c := range []struct {
		fault, name string
		check       func(status int, data []byte, err error) bool
	}{
		{emulator.FaultArtifactTruncated, name, func(_ int, data []byte, err error) bool {
			return err != nil && len(data) < len(content)
		}},
		{emulator.FaultArtifactCorrupt, name, func(status int, data []byte, err error) bool {
			return status == 200 && err == nil && len(data) == len(content) && !bytes.Equal(data, content)
		}},
		{emulator.FaultArtifactUnsigned, name + ".sig", func(status int, _ []byte, _ error) bool { return status == 404 }},
		{emulator.FaultArtifactMissing, name, func(status int, _ []byte, _ error) bool { return status == 404 }},
	} {
		if err := w.Fault(c.fault); err != nil {
			t.Fatal(err)
		}
		if status, _, data, err := get(c.name, ""); !c.check(status, data, err) {
			t.Errorf("with %s: %d %q %v", c.fault, status, data, err)
		}
		w.ClearFault(c.fault)
		if status, _, _, err := get(c.name, ""); status != 200 || err != nil {
			t.Errorf("%s stays after it was cleared: %d %v", c.fault, status, err)
		}
	}
}

func TestRequestsAreLogged(t *testing.T) {
	w := newWorld(t, emulator.Options{})
	w.call("AmazonSSM.DescribeActivations", "{}", signing{})
	w.call("AmazonSSM.DescribeActivations", "{}", signing{id: "none"})
	log := w.Requests()
	if len(log) != 2 || log[0].Operation != "ssm:DescribeActivations" || log[0].KeyID != operatorID ||
		log[0].Status != 200 || !log[0].At.Equal(w.now) || log[1].KeyID != "" ||
		log[1].Error != "MissingAuthenticationTokenException" {
		t.Errorf("the log is %+v", log)
	}
}
