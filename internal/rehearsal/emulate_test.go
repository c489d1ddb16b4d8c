package rehearsal

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// serving is "anywhere emulator" at work.
type serving struct {
	t       *testing.T
	ready   cli.EmulatorResult
	signals chan os.Signal
	out     *lockedBuffer
	errs    *lockedBuffer
	done    chan int
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// serve starts the command on a port of its own and comes back when it serves.
func serve(t *testing.T, args ...string) *serving {
	t.Helper()
	s := &serving{
		t: t, signals: make(chan os.Signal, 2), out: &lockedBuffer{}, errs: &lockedBuffer{}, done: make(chan int, 1),
	}
	env, _, _ := world()
	env.Streams.Out, env.Streams.Err = s.out, s.errs
	env.LookupEnv = func(string) (string, bool) { return "", false }
	env.ReadFile = func(string) ([]byte, error) { return nil, os.ErrNotExist }
	env.Signals = s.signals
	ready := make(chan cli.EmulatorResult, 1)
	env.Emulate = func(ctx context.Context, req cli.EmulatorRequest) (lifecycle.Report, error) {
		tell := req.Ready
		req.Ready = func(r cli.EmulatorResult) {
			tell(r)
			ready <- r
		}
		return Emulate(ctx, req)
	}
	go func() {
		s.done <- cli.Main(context.Background(), env, append([]string{"emulator", "--listen", "127.0.0.1:0"}, args...))
	}()
	select {
	case s.ready = <-ready:
	case status := <-s.done:
		t.Fatalf("the emulator ended with exit status %d: %s", status, s.errs)
	}
	return s
}

// stop ends it with a signal and returns the exit status.
func (s *serving) stop(sig os.Signal) int {
	s.t.Helper()
	s.signals <- sig
	status := <-s.done
	if document := s.out.String(); strings.HasPrefix(document, "{") {
		witness([]byte(document))
	}
	return status
}

// config is how an operator's SDK reaches it: as the variables say that it prints.
func (s *serving) config() aws.Config {
	env := s.ready.Environment
	return aws.Config{
		Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
	}
}

func TestEmulatorTellsHowToReachIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ready, ca := filepath.Join(dir, "ready.json"), filepath.Join(dir, "ca.pem")
	s := serve(t, "--region", "eu-central-1", "--ready-file", ready, "--ca-file-out", ca)
	text, err := os.ReadFile(ready)
	if err != nil {
		t.Fatal(err)
	}
	var told cli.EmulatorResult
	if err := json.Unmarshal(text, &told); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(ready); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the ready file, which has a key, is %v, %v", info.Mode(), err)
	}
	if told.URL != s.ready.URL || told.Region != "eu-central-1" || told.CAFile != ca || len(told.AgentFiles) < 3 {
		t.Errorf("the ready file says %s", text)
	}
	for _, want := range []string{"export AWS_ENDPOINT_URL=" + told.URL, "export AWS_SECRET_ACCESS_KEY=" + EmulatorSecret, "ECS_BACKEND_HOST=" + told.URL} {
		if !strings.Contains(s.out.String(), want+"\n") {
			t.Errorf("people are not told %s: %s", want, s.out)
		}
	}

	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}}
	answer, err := client.Get(strings.Replace(told.URL, "http://", "https://", 1))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if status := s.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d: %s", status, s.errs)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(told.URL, "http://")); err == nil {
		t.Error("it serves after its end")
	}
}

func TestEmulatorEndsAsItIsAskedTo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		args   []string
		sig    os.Signal
		status int
	}{
		{"Ctrl-C", nil, os.Interrupt, 0},
		{"SIGTERM, JSON", []string{"-o", "json"}, syscall.SIGTERM, 0},
		{"its time is over", []string{"--timeout", "1ms"}, nil, failure.Catalogue[failure.Timeout].Exit},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, c.args...)
			status := 0
			if c.sig == nil {
				status = <-s.done
			} else {
				status = s.stop(c.sig)
			}
			if status != c.status {
				t.Errorf("exit status %d: %s%s", status, s.out, s.errs)
			}
		})
	}
}

// On every address of the machine there is no one URL: it says so, and takes the one that it is told.
func TestEmulatorSaysWhoReachesIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args      []string
		url, said string
	}{
		{[]string{"--listen", "127.0.0.1:0"}, "http://127.0.0.1:", ""},
		{[]string{"--listen", "0.0.0.0:0"}, "http://127.0.0.1:", "name with --url how others reach it"},
		{[]string{"--listen", "0.0.0.0:0", "--url", "http://emulator.test:4580/"}, "http://emulator.test:4580", "whoever reaches"},
	} {
		s := serve(t, c.args...)
		s.stop(os.Interrupt)
		if !strings.HasPrefix(s.ready.URL, c.url) || !strings.Contains(s.errs.String(), c.said) || c.said == "" && s.errs.String() != "" {
			t.Errorf("%v: %s, %s", c.args, s.ready.URL, s.errs)
		}
	}
}

// operate runs a command line of an operator whose environment is the one that the emulator printed.
func (s *serving) operate(args ...string) (document []byte, status int) {
	s.t.Helper()
	env, out, errs := world()
	env.HTTP = func() *http.Client { return &http.Client{} }
	dir := host.NewDir(s.t.TempDir())
	env.Host = func() (host.Host, error) {
		return host.Host{Reader: host.Reader{Files: dir, Now: time.Now}, Disk: dir}, nil
	}
	env.LookupEnv = func(name string) (string, bool) {
		value, found := s.ready.Environment[name]
		return value, found
	}
	env.AWS = func(context.Context, control.Access) (aws.Config, error) { return s.config(), nil }
	env.ReadFile = func(string) ([]byte, error) { return nil, os.ErrNotExist }
	status = cli.Main(context.Background(), env, append(args, "-o", "json"))
	witness(out.Bytes())
	if status != 0 {
		s.t.Logf("anywhere %v: %s", args, errs)
	}
	return out.Bytes(), status
}

const seedOfTheTest = `
clusters: [{name: shop}]
activations: [{id: 01234567-89ab-cdef-0123-456789abcdef, code: twenty-characters-or-more, name: till}]
instances: [{cluster: shop, count: 2}]
taskDefinitions:
- {family: web, containerDefinitions: [{name: web, image: "web:1", memory: 64}]}
services: [{cluster: shop, serviceName: web, taskDefinition: web, desiredCount: 2}]
`

// What an operator makes is there after a restart, for the SDK and for anywhere itself; the seed is sown once.
func TestEmulatorGoesOnWithItsState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state, seed := filepath.Join(dir, "emulator.state"), filepath.Join(dir, "seed.yaml")
	if err := os.WriteFile(seed, []byte(seedOfTheTest), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--region", "eu-central-1", "--state", state, "--seed", seed, "--lag", "0", "-o", "json"}
	first := serve(t, args...)
	if r := first.ready; !r.Seeded || len(r.Activations) != 1 || r.Activations[0].ActivationCode != "twenty-characters-or-more" {
		t.Errorf("the seed is told as %+v", r)
	}
	document, status := first.operate("activation", "create", "--cluster", "shop", "--limit", "3")
	if status != 0 {
		t.Fatalf("exit status %d: %s", status, document)
	}
	if _, err := ecs.NewFromConfig(first.config()).CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: aws.String("made")}); err != nil {
		t.Fatal(err)
	}
	if status := first.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d: %s", status, first.errs)
	}
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the state is %v, %v", info, err)
	}

	second := serve(t, args...)
	defer second.stop(os.Interrupt)
	if second.ready.Seeded || second.ready.Region != "eu-central-1" {
		t.Errorf("the second start: %+v", second.ready)
	}
	activations, err := ssm.NewFromConfig(second.config()).DescribeActivations(t.Context(), &ssm.DescribeActivationsInput{})
	if err != nil || len(activations.ActivationList) != 2 {
		t.Errorf("activations: %+v, %v", activations, err)
	}
	cloud := ecs.NewFromConfig(second.config())
	clusters, err := cloud.ListClusters(t.Context(), &ecs.ListClustersInput{})
	if err != nil || len(clusters.ClusterArns) != 2 {
		t.Errorf("clusters: %+v, %v", clusters, err)
	}
	tasks, err := cloud.ListTasks(t.Context(), &ecs.ListTasksInput{Cluster: aws.String("shop"), ServiceName: aws.String("web")})
	if err != nil || len(tasks.TaskArns) != 2 {
		t.Errorf("tasks: %+v, %v", tasks, err)
	}
	if document, status := second.operate("activation", "list"); status != 0 || !bytes.Contains(document, []byte("01234567-89ab-cdef-0123-456789abcdef")) {
		t.Errorf("exit status %d: %s", status, document)
	}
}

// A node's credentials live as long as is said; what SSM Agent signs for them is in internal/emulator's tests.
func TestEmulatorsTokensLiveAsLongAsIsSaid(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		life time.Duration
	}{{nil, time.Hour}, {[]string{"--token-life", "90s"}, 90 * time.Second}} {
		s := serve(t, append([]string{"--lag", "0"}, c.args...)...)
		systems := ssm.NewFromConfig(s.config())
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		made, err := systems.CreateActivation(t.Context(), &ssm.CreateActivationInput{IamRole: aws.String("ecsAnywhereRole")})
		if err != nil {
			t.Fatal(err)
		}
		node := s.ask(nil, "", "RegisterManagedInstance", map[string]string{
			"ActivationId": *made.ActivationId, "ActivationCode": *made.ActivationCode, "Fingerprint": "f",
			"PublicKey": base64.StdEncoding.EncodeToString(public), "PublicKeyType": "Rsa",
		})["InstanceId"].(string)
		before := time.Now()
		expires, _ := s.ask(key, node, "RequestManagedInstanceRoleToken", map[string]string{"Fingerprint": "f"})["TokenExpirationDate"].(float64)
		if life := time.UnixMilli(int64(expires * 1000)).Sub(before); life < c.life-time.Second || life > c.life+time.Minute {
			t.Errorf("%v: a token lives for %v", c.args, life)
		}
		s.stop(os.Interrupt)
	}
}

// ask makes a call as a node does that has no credentials yet: anonymous, or signed with its private key.
func (s *serving) ask(key *rsa.PrivateKey, node, operation string, in map[string]string) map[string]any {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.ready.URL+"/", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AmazonSSM."+operation)
	if key != nil {
		hash := func(b []byte) string { sum := sha256.Sum256(b); return hex.EncodeToString(sum[:]) }
		now := time.Now().UTC()
		stamp, scope := now.Format("20060102T150405Z"), now.Format("20060102")+"/us-east-1/ssm/aws4_request"
		canonical := "POST\n/\n\nhost:" + r.Host + "\nx-amz-date:" + stamp + "\n\nhost;x-amz-date\n" + hash(body)
		digest := sha256.Sum256([]byte("AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hash([]byte(canonical))))
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 32})
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("X-Amz-Date", stamp)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+node+"/"+scope+", SignedHeaders=host;x-amz-date, Signature="+
			base64.StdEncoding.EncodeToString(signature))
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&out); err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %v, %v", operation, answer.StatusCode, out, err)
	}
	return out
}

func TestEmulatorRefusesStates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	used := filepath.Join(dir, "used")
	s := serve(t, "--state", used)
	defer s.stop(os.Interrupt)
	for _, c := range []struct {
		args []string
		code failure.Code
		says string
	}{
		{[]string{"--state", path("newer", `{"version":7}`)}, failure.InvalidConfig, "version 7"},
		{[]string{"--state", path("torn", `{"version":1,`)}, failure.InvalidConfig, "no state of an emulator"},
		{[]string{"--state", used}, failure.Locked, "another emulator"},
		{[]string{"--state", filepath.Join(dir, "nowhere", "x")}, failure.Usage, "cannot be used"},
		{[]string{"--seed", path("seed", "moons: 4")}, failure.InvalidConfig, "field moons is not known here"},
		{[]string{"--seed", filepath.Join(dir, "none")}, failure.Usage, "cannot be read"},
		{[]string{"--listen", strings.TrimPrefix(s.ready.URL, "http://")}, failure.PortTaken, "something else serves"},
	} {
		env, out, _ := world()
		env.LookupEnv = func(string) (string, bool) { return "", false }
		env.ReadFile = func(string) ([]byte, error) { return nil, os.ErrNotExist }
		env.Emulate = Emulate
		status := cli.Main(t.Context(), env, append([]string{"emulator", "-o", "json", "--listen", "127.0.0.1:0"}, c.args...))
		witness(out.Bytes())
		var document struct {
			Error struct{ Code, Message, Evidence string }
		}
		if err := json.Unmarshal(out.Bytes(), &document); err != nil {
			t.Fatal(err)
		}
		if e := document.Error; e.Code != string(c.code) || status != failure.Catalogue[c.code].Exit || !strings.Contains(e.Message+e.Evidence, c.says) {
			t.Errorf("%v: exit status %d: %s", c.args, status, out)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "newer")); err != nil || string(text) != `{"version":7}` {
		t.Errorf("the state that was refused is %q now, %v", text, err)
	}
}
