package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/logging"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

const (
	account = "123456789012"
	region  = "eu-west-1"
)

// world is an emulated AWS with the cluster prod.
type world struct {
	*emulator.Emulator
	t   *testing.T
	url string
	now time.Time // AWS's
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Now()}
	w.Emulator = emulator.New(emulator.Options{Account: account, Region: region, Now: func() time.Time { return w.now }})
	w.AddCluster("prod")
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// config is that of an operator who may not do what deny says. The SDK's retries take no time.
func (w *world) config(deny ...string) aws.Config {
	w.AddOperator(emulator.Key{ID: "AKIAOPERATOR00000001", Secret: secret.NewText("the-operators-secret-key"), Deny: deny})
	return aws.Config{
		Region:      region,
		Credentials: credentials.NewStaticCredentialsProvider("AKIAOPERATOR00000001", "the-operators-secret-key", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			})
		},
	}
}

// operator is connected; pauses take no time and are added up.
func (w *world) operator(deny ...string) (o *Operator, paused *time.Duration) {
	w.t.Helper()
	o, err := Connect(context.Background(), w.config(deny...), Connection{EndpointURL: w.url})
	if err != nil {
		w.t.Fatal(err)
	}
	paused = new(time.Duration)
	o.pause = func(ctx context.Context, d time.Duration) error {
		*paused += d
		return context.Cause(ctx)
	}
	return o, paused
}

func TestConnect(t *testing.T) {
	w := newWorld(t)
	var traced []string
	o, err := Connect(context.Background(), w.config(), Connection{
		EndpointURL: w.url,
		Trace: func(next http.RoundTripper) http.RoundTripper {
			return doer(func(r *http.Request) (*http.Response, error) {
				traced = append(traced, r.Method+" "+r.URL.Host)
				return next.RoundTrip(r)
			})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.Account != account || o.Region != region || !strings.HasSuffix(o.ARN, ":user/operator") || o.Skew != 0 {
		t.Errorf("connected as %+v", o)
	}
	if want := []string{"POST " + strings.TrimPrefix(w.url, "http://")}; len(traced) != 1 || traced[0] != want[0] {
		t.Errorf("traced %v, want %v", traced, want)
	}
}

func TestTimesAreAWSs(t *testing.T) {
	w := newWorld(t)
	w.now = w.now.Add(3 * time.Hour)
	o, _ := w.operator() // the SDK corrects its signatures
	if off := (o.Skew - 3*time.Hour).Abs(); off > time.Minute {
		t.Errorf("the clock is off by %s", o.Skew)
	}
	made, err := o.CreateActivation(context.Background(), Order{Role: "r", Limit: 1, Life: time.Hour}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if left := made.Expires.Sub(w.now); left < 59*time.Minute || left > 61*time.Minute {
		t.Errorf("by AWS's clock the activation lasts %s", left)
	}
}

// TestANodeIsNoOperator: whatever file or variable they came from, AWS says whose the keys are.
func TestANodeIsNoOperator(t *testing.T) {
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">`+
			`<GetCallerIdentityResult><Arn>arn:aws:sts::%s:assumed-role/ecsAnywhereRole/mi-0123456789abcdef0</Arn>`+
			`<UserId>A</UserId><Account>%s</Account>`+
			`</GetCallerIdentityResult></GetCallerIdentityResponse>`, account, account)
	}))
	defer sts.Close()
	_, err := Connect(context.Background(), newWorld(t).config(), Connection{EndpointURL: sts.URL})
	f := failure.Of(err)
	if f == nil || f.Code != failure.CredentialsInvalid || !strings.Contains(f.Message, "mi-0123456789abcdef0") ||
		!strings.Contains(f.Remedy, "--profile") || !errors.Is(err, ErrNoOperator) {
		t.Errorf("got %+v", f)
	}
	nobody := Connection{EndpointURL: "http://127.0.0.1:1", NodeKey: "AKIAOPERATOR00000001"} // not asked
	if _, err := Connect(context.Background(), newWorld(t).config(), nobody); !errors.Is(err, ErrNoOperator) {
		t.Errorf("the key that is known to be the node's: %v", err)
	}
}

func TestFailures(t *testing.T) {
	silent := httptest.NewUnstartedServer(nil)
	silent.StartTLS()
	silent.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the client that does not trust it
	defer silent.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, test := range map[string]struct {
		fault, endpoint string
		change          func(*aws.Config)
		code            failure.Code
		says            string // in the message, evidence or remedy
	}{
		"throttled":       {fault: emulator.FaultThrottled, code: failure.Throttled, says: "Rate exceeded"},
		"server error":    {fault: emulator.FaultServerError, code: failure.AWSUnavailable, says: "internal error"},
		"clock":           {fault: emulator.FaultClockSkew, code: failure.ClockSkew, says: "Signature expired"},
		"unknown key":     {change: keys("AKIAUNKNOWN000000001"), code: failure.CredentialsInvalid, says: "security token"},
		"no keys":         {change: noKeys, code: failure.CredentialsInvalid, says: "--profile"},
		"no region":       {change: func(c *aws.Config) { c.Region = "" }, code: failure.Usage, says: "--region"},
		"strange region":  {change: func(c *aws.Config) { c.Region = "Frankfurt" }, code: failure.Usage, says: "Frankfurt"},
		"strange address": {endpoint: "localhost:1234", code: failure.Usage, says: "--endpoint-url"},
		"nobody there":    {endpoint: closed.URL, code: failure.Network, says: "cannot connect to 127.0.0.1"},
		"untrusted":       {endpoint: silent.URL, code: failure.TLSUntrusted, says: "AWS_CA_BUNDLE"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config()
			if test.change != nil {
				test.change(&cfg)
			}
			if test.endpoint == "" {
				test.endpoint = w.url
			}
			if test.fault != "" {
				if err := w.Fault(test.fault); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Connect(context.Background(), cfg, Connection{EndpointURL: test.endpoint})
			f := failure.Of(err)
			if f == nil || f.Code != test.code {
				t.Fatalf("got %+v, want %s", f, test.code)
			}
			if said := f.Message + "\n" + f.Evidence + "\n" + f.Advice(); !strings.Contains(said, test.says) {
				t.Errorf("%q is not in %s", test.says, said)
			}
			if said := fmt.Sprintf("%+v", f); strings.Contains(said, "the-operators-secret-key") {
				t.Errorf("the secret key is in the failure: %s", said)
			}
		})
	}
}

func noKeys(c *aws.Config) { c.Credentials = nil }

func keys(id string) func(*aws.Config) {
	return func(c *aws.Config) {
		c.Credentials = credentials.NewStaticCredentialsProvider(id, "the-operators-secret-key", "")
	}
}

func TestDeniedNamesActionAndPrincipal(t *testing.T) {
	o, _ := newWorld(t).operator("ssm:*", "ecs:DescribeClusters")
	ctx := context.Background()
	_, create := o.CreateActivation(ctx, Order{Role: "r", Limit: 1, Life: time.Hour}, func(string) {})
	_, list := o.Activations(ctx)
	_, del := o.DeleteActivation(ctx, "01234567-89ab-cdef-0123-456789abcdef")
	for action, err := range map[string]error{
		"ssm:CreateActivation": create, "ssm:DescribeActivations": list, "ssm:DeleteActivation": del,
		"ecs:DescribeClusters": o.ProveCluster(ctx, ClusterRef{Name: "prod"}),
	} {
		f := failure.Of(err)
		if f == nil || f.Code != failure.AccessDenied {
			t.Errorf("%s: %+v", action, f)
			continue
		}
		for _, want := range []string{action, ":user/operator"} {
			if !strings.Contains(f.Evidence, want) || !strings.Contains(f.Remedy, want) {
				t.Errorf("%s: %s is not in the evidence %q and the remedy %q", action, want, f.Evidence, f.Remedy)
			}
		}
	}
}

func TestInterruption(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	w.RefuseRole(1)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := o.CreateActivation(ctx, Order{Role: "r", Limit: 1, Life: time.Hour}, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("while waiting for the role: %v", err)
	}
	if _, err := o.Activations(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("listing: %v", err)
	}
	if _, err := Connect(ctx, w.config(), Connection{EndpointURL: w.url}); !errors.Is(err, context.Canceled) {
		t.Errorf("connecting: %v", err)
	}
}

func TestLoad(t *testing.T) {
	home := t.TempDir()
	for _, name := range os.Environ() { // what the tester's own shell says about AWS is no part of the test
		if name, _, _ = strings.Cut(name, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(home, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "credentials"))
	for name, text := range map[string]string{
		"config":      "[profile site]\nregion = eu-central-1\n",
		"credentials": "[site]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = s\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(a Access) (region, key string, err error) {
		cfg, err := Load(context.Background(), a)
		if err != nil {
			return "", "", err
		}
		keys, err := cfg.Credentials.Retrieve(context.Background())
		return cfg.Region, keys.AccessKeyID, err
	}
	if cfg, err := Load(context.Background(), Access{}); err != nil || cfg.Logger != (logging.Nop{}) {
		t.Errorf("the SDK writes to %T, past the redactor; %v", cfg.Logger, err)
	}
	if region, key, err := load(Access{Profile: "site"}); err != nil || region != "eu-central-1" || key != "AKIAPROFILE" {
		t.Errorf("the profile gives %s, %s, %v", region, key, err)
	}
	if region, _, err := load(Access{Profile: "site", Region: "us-east-1"}); err != nil || region != "us-east-1" {
		t.Errorf("--region does not beat the profile's: %s, %v", region, err)
	}
	_, _, err := load(Access{Profile: "nowhere"})
	if !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), "nowhere") ||
		failure.Of(err).Evidence != "looked in "+filepath.Join(home, "config")+" and "+filepath.Join(home, "credentials") {
		t.Errorf("a profile that is not there: %+v", err)
	}
	if _, _, err := load(Access{}); err == nil {
		t.Error("there are no credentials, and some were found")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false") // the role of an EC2 instance ends the chain, and is not asked for on a host
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
	if cfg, err := Load(context.Background(), Access{}); err != nil || cfg.Credentials == nil {
		t.Errorf("on a workstation: %v, %v", cfg.Credentials, err)
	}
	cfg, err := Load(context.Background(), Access{OnHost: true})
	if err != nil || cfg.Credentials != nil {
		t.Errorf("the machine's own role is asked for: %v, %v", cfg.Credentials, err)
	}
	if _, err := Connect(context.Background(), cfg, Connection{}); !errors.Is(err, ErrNoOperator) || !failure.Is(err, failure.CredentialsInvalid) {
		t.Errorf("nobody's credentials: %v", err)
	}
	if cfg, err := Load(context.Background(), Access{OnHost: true, Profile: "site"}); err != nil || cfg.Credentials == nil {
		t.Errorf("a profile on a host: %v, %v", cfg.Credentials, err)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	if _, key, err := load(Access{Profile: "site"}); err != nil || key != "AKIAPROFILE" {
		t.Errorf("--profile does not beat keys in the environment: %s, %v", key, err)
	}
	t.Setenv("AWS_PROFILE", "site")
	if region, key, err := load(Access{}); err != nil || key != "AKIAENVIRONMENT" || region != "eu-central-1" {
		t.Errorf("AWS_PROFILE beats keys in the environment: %s, %s, %v", region, key, err)
	}
}
