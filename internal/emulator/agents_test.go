package emulator_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// These tests say what amazon-ssm-agent 3.3.0.0 (1c217c89) and amazon-ecs-agent 1.105.1 (8dfceca6) said to the emulator
// when they ran against it on 2026-11-25: the same requests, headers, frames and order, with Go's own types.

// clock is the service's clock, which a test moves while agents are connected.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// wire is an emulator with an agent's machine.
type wire struct {
	*emulator.Emulator
	t     *testing.T
	url   string
	clock *clock
	// the machine
	key         *rsa.PrivateKey
	node        string
	fingerprint string
	keys        aws.Credentials
}

func newWire(t *testing.T, opts emulator.Options) *wire {
	t.Helper()
	w := &wire{t: t, clock: &clock{now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}}
	opts.Now = w.clock.Now
	w.Emulator = emulator.New(opts)
	w.AddCluster("demo")
	w.AddOperator(emulator.Key{ID: operatorID, Secret: secret.NewText(operatorSecret)})
	server := httptest.NewServer(w)
	t.Cleanup(func() {
		_ = w.Close() // the agents' sockets; the server is the test's
		server.Close()
	})
	w.url = server.URL
	w.register()
	return w
}

func publicKey(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// machineKey is the key of every test's machine: making one takes as long as the rest of a test.
var machineKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// register is `amazon-ssm-agent -register` and the first credentials.
func (w *wire) register() {
	w.t.Helper()
	id, code := w.AddActivation(5, w.clock.Now().Add(time.Hour))
	w.key, w.fingerprint = machineKey(), "5217bc23-1b76-4a37-9a28-e0e79f6fd1d6"
	status, out := w.post(w.request("AmazonSSM.RegisterManagedInstance", struct {
		ActivationCode, ActivationId, Fingerprint, PublicKey, PublicKeyType string
	}{code, id, w.fingerprint, publicKey(w.t, w.key), "Rsa"}))
	if w.node, _ = out["InstanceId"].(string); status != http.StatusOK || !strings.HasPrefix(w.node, "mi-") {
		w.t.Fatalf("RegisterManagedInstance: %d %v", status, out)
	}
	w.refresh()
}

// refresh is what the credential refresher does at half of a token's life.
func (w *wire) refresh() {
	w.t.Helper()
	status, out := w.roleToken(w.key, w.fingerprint, nil)
	if status != http.StatusOK || out["UpdateKeyPair"] != false {
		w.t.Fatalf("RequestManagedInstanceRoleToken: %d %v", status, out)
	}
	text := func(name string) string { s, _ := out[name].(string); return s }
	w.keys = aws.Credentials{
		AccessKeyID: text("AccessKeyId"), SecretAccessKey: text("SecretAccessKey"), SessionToken: text("SessionToken"),
	}
}

func (w *wire) request(target string, in any) *http.Request {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, w.url+"/", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	return r
}

func (w *wire) post(r *http.Request) (int, map[string]any) {
	w.t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		w.t.Fatalf("the answer %q is not JSON: %v", data, err)
	}
	return answer.StatusCode, out
}

// chunked hides the length of a body, so that net/http sends it in chunks, as SSM Agent's RSA signer makes it do.
type chunked struct{ io.Reader }

// signRSA is agent/ssm/rsaauth of SSM Agent: Signature Version 4's string to sign under the node's private key.
func (w *wire) signRSA(r *http.Request, body string, key *rsa.PrivateKey) {
	w.t.Helper()
	at := w.clock.Now()
	stamp, scope := at.Format("20060102T150405Z"), at.Format("20060102")+"/us-east-1/ssm/aws4_request"
	hash := func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) }
	const headers = "content-type;host;x-amz-date;x-amz-target"
	canonical := strings.Join([]string{
		"POST", "/", "", "content-type:application/x-amz-json-1.1", "host:" + r.Host, "x-amz-date:" + stamp,
		"x-amz-target:" + r.Header.Get("X-Amz-Target"), "", headers, hash(body),
	}, "\n")
	digest := sha256.Sum256([]byte("AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hash(canonical)))
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 32})
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("X-Amz-Date", stamp)
	r.Header.Set("X-Amz-Content-Sha256", hash(body)) // present, and not signed
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		w.node, scope, headers, base64.StdEncoding.EncodeToString(signature)))
}

func (w *wire) nodeCall(target, body string, key *rsa.PrivateKey, spoil func(*http.Request)) (int, map[string]any) {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.url+"/", chunked{strings.NewReader(body)})
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", target)
	w.signRSA(r, body, key)
	if spoil != nil {
		spoil(r)
	}
	return w.post(r)
}

func (w *wire) roleToken(key *rsa.PrivateKey, fingerprint string, spoil func(*http.Request)) (int, map[string]any) {
	w.t.Helper()
	return w.nodeCall("AmazonSSM.RequestManagedInstanceRoleToken", `{"Fingerprint":"`+fingerprint+`"}`, key, spoil)
}

// call is a call with the node's credentials, or an operator's.
func (w *wire) call(service, target string, in any, keys aws.Credentials) (int, map[string]any) {
	w.t.Helper()
	r := w.request(target, in)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	w.sign(r, body, service, keys)
	return w.post(r)
}

func (w *wire) sign(r *http.Request, body []byte, service string, keys aws.Credentials) {
	w.t.Helper()
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, r, hex.EncodeToString(hash[:]), service, "us-east-1",
		w.clock.Now()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) asNode(service, target string, in any) map[string]any {
	w.t.Helper()
	status, out := w.call(service, target, in, w.keys)
	if status != http.StatusOK {
		w.t.Fatalf("%s: %d %v", target, status, out)
	}
	return out
}

var operatorKeys = aws.Credentials{AccessKeyID: operatorID, SecretAccessKey: operatorSecret}

const ecsTarget = "AmazonEC2ContainerServiceV20141113."

func (w *wire) asOperator(operation string, in any) map[string]any {
	w.t.Helper()
	status, out := w.call("ecs", ecsTarget+operation, in, operatorKeys)
	if status != http.StatusOK {
		w.t.Fatalf("%s: %d %v", operation, status, out)
	}
	return out
}

// dial opens a WebSocket whose handshake is signed like a GET.
func (w *wire) dial(service, path string, keys aws.Credentials) (*websocket.Conn, *http.Response, error) {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodGet, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.sign(r, nil, service, keys)
	conn, answer, err := websocket.Dial(w.t.Context(), w.url+path, &websocket.DialOptions{HTTPHeader: r.Header})
	if err == nil {
		w.t.Cleanup(func() { _ = conn.CloseNow() })
	}
	return conn, answer, err
}

func (w *wire) mustDial(service, path string) *websocket.Conn {
	w.t.Helper()
	conn, _, err := w.dial(service, path, w.keys)
	if err != nil {
		w.t.Fatalf("dialling %s: %v", path, err)
	}
	conn.SetReadLimit(-1)
	return conn
}

func (w *wire) write(conn *websocket.Conn, message any) {
	w.t.Helper()
	text, err := json.Marshal(message)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := conn.Write(w.t.Context(), websocket.MessageText, text); err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits for something that another goroutine makes so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

func code(out map[string]any) string { s, _ := out["__type"].(string); return s }

func TestTheRoleTokenNeedsTheNodesOwnKeyAndFingerprint(t *testing.T) {
	w := newWire(t, emulator.Options{})
	for _, c := range []struct {
		name        string
		key         *rsa.PrivateKey
		fingerprint string
		spoil       func(*http.Request)
		code        string
	}{
		{"in order", w.key, w.fingerprint, nil, ""},
		{"another key", newRSA(t), w.fingerprint, nil, "InvalidSignatureException"},
		{"another machine", w.key, "00000000-0000-4000-8000-000000000000", nil, "MachineFingerprintDoesNotMatch"},
		{"a body that was changed", w.key, w.fingerprint, func(r *http.Request) {
			r.Body = io.NopCloser(chunked{strings.NewReader(`{"Fingerprint":"other"}`)})
		}, "InvalidSignatureException"},
		{"not a signature", w.key, w.fingerprint, func(r *http.Request) {
			r.Header.Set("Authorization", r.Header.Get("Authorization")+"!")
		}, "InvalidSignatureException"},
		{"anonymous", w.key, w.fingerprint, func(r *http.Request) { r.Header.Del("Authorization") },
			"MissingAuthenticationTokenException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, out := w.roleToken(c.key, c.fingerprint, c.spoil)
			if code(out) != c.code || (status == http.StatusOK) != (c.code == "") {
				t.Errorf("got %d %v, want %q", status, out, c.code)
			}
			if c.code != "" {
				return
			}
			for _, field := range []string{"AccessKeyId", "SecretAccessKey", "SessionToken", "TokenExpirationDate", "UpdateKeyPair"} {
				if _, ok := out[field]; !ok {
					t.Errorf("%s is missing: the agent's refresher does not survive that", field)
				}
			}
		})
	}
	w.DeregisterNode(w.node)
	if _, out := w.roleToken(w.key, w.fingerprint, nil); code(out) != "InvalidInstanceId" {
		t.Errorf("a node that was deregistered gets %v", out)
	}
}

func TestTheNodesKeyIsRotated(t *testing.T) {
	w := newWire(t, emulator.Options{})
	fresh := newRSA(t)
	body := `{"NewPublicKey":"` + publicKey(t, fresh) + `","NewPublicKeyType":"Rsa"}`
	if status, out := w.nodeCall("AmazonSSM.UpdateManagedInstancePublicKey", body, fresh, nil); code(out) != "InvalidSignatureException" {
		t.Errorf("the new key may announce itself: %d %v", status, out)
	}
	if status, out := w.nodeCall("AmazonSSM.UpdateManagedInstancePublicKey", body, w.key, nil); status != http.StatusOK {
		t.Fatalf("the old key may not announce the new one: %d %v", status, out)
	}
	if _, out := w.roleToken(w.key, w.fingerprint, nil); code(out) != "InvalidSignatureException" {
		t.Errorf("the old key is still good: %v", out)
	}
	if status, out := w.roleToken(fresh, w.fingerprint, nil); status != http.StatusOK {
		t.Errorf("the new key is not good: %d %v", status, out)
	}
}

// The first pings of a start, in the agent's order: the second is the full one.
func TestANodeIsOnline(t *testing.T) {
	w := newWire(t, emulator.Options{})
	w.asNode("ssm", "AmazonSSM.UpdateInstanceInformation", struct {
		AgentName, AgentVersion, InstanceId, PlatformType string
	}{"amazon-ssm-agent", "3.3.0.0", w.node, "Linux"})
	w.asNode("ssm", "AmazonSSM.UpdateInstanceInformation", struct {
		AgentName, AgentStatus, AgentVersion, AvailabilityZone, AvailabilityZoneId, ComputerName, IPAddress, InstanceId,
		PlatformName, PlatformType, PlatformVersion, SSMConnectionChannel string
	}{"amazon-ssm-agent", "Active", "3.3.0.0", "", "", "vm", "10.0.0.7", w.node, "Debian GNU/Linux", "Linux", "12", ""})
	if out := w.asNode("ssm", "AmazonSSM.ListInstanceAssociations", struct {
		InstanceId string
		MaxResults int
	}{w.node, 20}); fmt.Sprint(out["Associations"]) != "[]" {
		t.Errorf("associations are %v", out)
	}
	_, out := w.call("ssm", "AmazonSSM.DescribeInstanceInformation", struct{}{}, operatorKeys)
	text := fmt.Sprint(out["InstanceInformationList"])
	for _, want := range []string{"PingStatus:Online", "AgentVersion:3.3.0.0", "ComputerName:vm", "PlatformVersion:12"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	now := float64(time.Now().Unix())
	for _, c := range []struct { // this account has nothing of what a node asks for; what it tells is taken
		target, want string
		in           map[string]any
	}{
		{"DescribeAssociation", "AssociationDoesNotExist", map[string]any{"InstanceId": w.node, "Name": "n"}},
		{"UpdateAssociationStatus", "AssociationDoesNotExist", map[string]any{
			"InstanceId": w.node, "Name": "n", "AssociationStatus": map[string]any{"Date": now, "Name": "Success", "Message": "m"},
		}},
		{"GetDocument", "InvalidDocument", map[string]any{"Name": "n"}},
		{"DescribeDocument", "InvalidDocument", map[string]any{"Name": "n"}},
		{"GetManifest", "InvalidDocument", map[string]any{"PackageName": "n", "PackageVersion": "1"}},
		{"GetParameter", "ParameterNotFound", map[string]any{"Name": "n"}},
		{"GetParameters", "", map[string]any{"Names": []string{"n"}}},
		{"ListAssociations", "", map[string]any{}},
		{"PutInventory", "", map[string]any{"InstanceId": w.node, "Items": []any{
			map[string]string{"TypeName": "AWS:Application", "SchemaVersion": "1.1", "CaptureTime": "2026-11-22T12:00:00Z"},
		}}},
		{"PutComplianceItems", "", map[string]any{
			"ResourceId": w.node, "ResourceType": "ManagedInstance", "ComplianceType": "Association",
			"ExecutionSummary": map[string]any{"ExecutionTime": now}, "Items": []any{},
		}},
		{"PutConfigurePackageResult", "", map[string]any{
			"PackageName": "n", "PackageVersion": "1", "Operation": "install", "OverallTiming": 1, "Result": 0,
		}},
		{"UpdateInstanceAssociationStatus", "", map[string]any{
			"InstanceId": w.node, "AssociationId": "a", "ExecutionResult": map[string]any{"Status": "Success"},
		}},
	} {
		if _, out := w.call("ssm", "AmazonSSM."+c.target, c.in, w.keys); code(out) != c.want {
			t.Errorf("%s: %v, want %q", c.target, out, c.want)
		}
	}
	for target, in := range map[string]any{
		"ListInstanceAssociations":  map[string]string{"InstanceId": "mi-0123456789abcdef0"},
		"UpdateInstanceInformation": map[string]string{"InstanceId": "mi-0123456789abcdef0"},
		"UpdateInstanceAssociationStatus": map[string]any{
			"InstanceId": "mi-0123456789abcdef0", "AssociationId": "a", "ExecutionResult": map[string]any{"Status": "Success"},
		},
	} {
		if _, out := w.call("ssm", "AmazonSSM."+target, in, w.keys); code(out) != "InvalidInstanceId" {
			t.Errorf("%s for another node: %v", target, out)
		}
	}
	if _, out := w.call("ssm", "AmazonSSM.DescribeInstanceInformation", struct{}{}, w.keys); code(out) != "AccessDeniedException" {
		t.Errorf("a node may look at nodes: %v", out)
	}
}

func TestCredentialsExpireAndAreRefreshed(t *testing.T) {
	w := newWire(t, emulator.Options{TokenLife: time.Hour})
	ping := map[string]string{"InstanceId": w.node, "AgentVersion": "3.3.0.0"}
	w.clock.pass(61 * time.Minute)
	if _, out := w.call("ssm", "AmazonSSM.UpdateInstanceInformation", ping, w.keys); code(out) != "ExpiredTokenException" {
		t.Errorf("keys of an hour ago: %v", out)
	}
	w.refresh()
	w.asNode("ssm", "AmazonSSM.UpdateInstanceInformation", ping)
	foreign := w.keys
	foreign.SessionToken = "stolen"
	if _, out := w.call("ssm", "AmazonSSM.UpdateInstanceInformation", ping, foreign); code(out) != "UnrecognizedClientException" {
		t.Errorf("the keys with another token: %v", out)
	}
}

// controlChannel is CreateControlChannel.
func (w *wire) controlChannel(node string, keys aws.Credentials) (int, string) {
	w.t.Helper()
	body := []byte(`{"MessageSchemaVersion":"1.0","RequestId":"6cf3eef3-8b9e-4b5c-9c5e-6b3a1d1f2a10"}`)
	r, err := http.NewRequest(http.MethodPost, w.url+"/v1/control-channel/"+node, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	w.sign(r, body, "ssmmessages", keys)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

// token reads the answer as the agent does: any root, two elements.
func (w *wire) token() string {
	w.t.Helper()
	status, text := w.controlChannel(w.node, w.keys)
	var out struct{ MessageSchemaVersion, TokenValue string }
	if err := xml.Unmarshal([]byte(text), &out); err != nil || status != http.StatusCreated || out.TokenValue == "" {
		w.t.Fatalf("CreateControlChannel: %d %q %v", status, text, err)
	}
	return out.TokenValue
}

func (w *wire) openChannel(token string) *websocket.Conn {
	w.t.Helper()
	conn := w.mustDial("ssmmessages", "/v1/control-channel/"+w.node+"?role=subscribe&stream=input")
	w.write(conn, struct {
		Cookie                                                                  any
		MessageSchemaVersion, RequestId, TokenValue, AgentVersion, PlatformType string
	}{nil, "1.0", "19ce6a72-5d0e-4c7c-8d0a-0a4d5f1f2a11", token, "3.3.0.0", "linux"})
	return conn
}

func (w *wire) connection() string {
	w.t.Helper()
	_, out := w.call("ssm", "AmazonSSM.GetConnectionStatus", map[string]string{"Target": w.node}, operatorKeys)
	status, _ := out["Status"].(string)
	return status
}

func TestTheControlChannel(t *testing.T) {
	w := newWire(t, emulator.Options{})
	token := w.token()
	conn := w.openChannel(token)
	eventually(t, "the channel counts as connected", func() bool { return w.connection() == "connected" })

	ctx := t.Context()
	read := make(chan []byte, 1)
	go func() { // the pong comes only while somebody reads
		_, data, _ := conn.Read(ctx)
		read <- data
	}()
	if err := conn.Ping(ctx); err != nil {
		t.Errorf("the agent's keepalive is not answered: %v", err)
	}
	const job = "aws.ssm.2fa4f3a0-0001-4000-8000-000000000001.mi-1"
	reply := agentFrame("agent_job_reply", "0f8fad5b-d9cb-469f-a165-70867728950e", `{"schemaVersion":1,"jobId":"`+job+`","content":"{}","topic":"aws.ssm.sendCommand"}`)
	if err := conn.Write(ctx, websocket.MessageBinary, reply); err != nil {
		t.Fatal(err)
	}
	ack := <-read
	if kind := strings.TrimSpace(string(ack[4:36])); kind != "agent_job_reply_ack" {
		t.Fatalf("the answer to a command is answered with %q", kind)
	}
	header := binary.BigEndian.Uint32(ack)
	var acked struct{ JobID, AcknowledgedMessageID string }
	if err := json.Unmarshal(ack[header+4:], &acked); err != nil || acked.JobID != job ||
		acked.AcknowledgedMessageID != "0f8fad5b-d9cb-469f-a165-70867728950e" {
		t.Errorf("acknowledged is %+v: %s", acked, ack[header+4:])
	}

	w.DeregisterNode(w.node)
	if _, _, err := conn.Read(ctx); err == nil {
		t.Error("the channel of a node that was deregistered stays open")
	}
	if got := w.connection(); got != "notconnected" {
		t.Errorf("its connection status is %q", got)
	}
	if status, text := w.controlChannel(w.node, w.keys); status != http.StatusBadRequest || !strings.Contains(text, "<InvalidInstanceId>") {
		t.Errorf("it gets a new one: %d %s", status, text)
	}
}

// agentFrame is session/contracts/agentmessage.go of SSM Agent.
func agentFrame(kind, id, payload string) []byte {
	frame := binary.BigEndian.AppendUint32(nil, 116)
	frame = append(frame, fmt.Sprintf("%-32s", kind)...)
	frame = binary.BigEndian.AppendUint32(frame, 1)
	frame = binary.BigEndian.AppendUint64(frame, 1795651210685)
	frame = binary.BigEndian.AppendUint64(frame, 0)
	frame = binary.BigEndian.AppendUint64(frame, 0)
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", "")) // a constant
	frame = append(append(frame, raw[8:]...), raw[:8]...)
	digest := sha256.Sum256([]byte(payload))
	frame = append(frame, digest[:]...)
	frame = binary.BigEndian.AppendUint32(frame, 0)
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(payload)))
	return append(frame, payload...)
}

func TestTheControlChannelIsTheNodesOwn(t *testing.T) {
	w := newWire(t, emulator.Options{})
	if status, text := w.controlChannel("mi-0123456789abcdef0", w.keys); status != http.StatusBadRequest ||
		!strings.Contains(text, "<AccessDeniedException>") { // what makes the agent fall back to ec2messages
		t.Errorf("another node's channel: %d %s", status, text)
	}
	if status, text := w.controlChannel(w.node, operatorKeys); status != http.StatusBadRequest ||
		!strings.Contains(text, "<AccessDeniedException>") {
		t.Errorf("an operator's channel: %d %s", status, text)
	}
	wrong := w.keys
	wrong.SecretAccessKey = "wrong"
	if status, text := w.controlChannel(w.node, wrong); status != http.StatusBadRequest ||
		!strings.Contains(text, "<InvalidSignatureException>") {
		t.Errorf("a wrong secret: %d %s", status, text)
	}
	if _, answer, err := w.dial("ssmmessages", "/v1/control-channel/"+w.node+"?role=subscribe&stream=input", wrong); err == nil ||
		answer.StatusCode != http.StatusBadRequest {
		t.Errorf("the WebSocket opens with a wrong secret: %v", err)
	}
	token := w.token()
	first := w.openChannel(token)
	eventually(t, "the channel counts as connected", func() bool { return w.connection() == "connected" })
	if _, _, err := w.openChannel(token).Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("a token is good twice: %v", err)
	}
	if _, _, err := w.openChannel("made-up").Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("a token that nobody gave out is good: %v", err)
	}
	if err := first.Write(t.Context(), websocket.MessageBinary, []byte("not a message")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a frame that is no message is in the log", func() bool {
		log := w.Requests()
		return log[len(log)-1].Error == "InvalidInputException" || log[len(log)-2].Error == "InvalidInputException"
	})
	if w.connection() != "connected" {
		t.Error("a frame that is no message ends the channel")
	}
}

func TestMessagesAreWaitedFor(t *testing.T) {
	w := newWire(t, emulator.Options{MessageWait: 50 * time.Millisecond})
	const service = "EC2WindowsMessageDeliveryService."
	in := struct {
		Destination, MessagesRequestId string
		VisibilityTimeoutInSeconds     int
	}{w.node, "8a6c9e5e-8e0c-4b6f-9a46-2d9b4c0c1a12", 10}
	before := time.Now()
	out := w.asNode("ec2messages", service+"GetMessages", in)
	if waited := time.Since(before); waited < 50*time.Millisecond || fmt.Sprint(out["Messages"]) != "[]" ||
		out["Destination"] != w.node || out["MessagesRequestId"] != in.MessagesRequestId {
		t.Errorf("after %v: %v", waited, out)
	}
	in.Destination = "mi-0123456789abcdef0"
	if _, out := w.call("ec2messages", service+"GetMessages", in, w.keys); code(out) != "AccessDeniedException" {
		t.Errorf("another node's messages: %v", out)
	}
	if out := w.asNode("ec2messages", service+"GetEndpoint", map[string]string{
		"Destination": w.node,
	}); !strings.Contains(fmt.Sprint(out["Endpoint"]), w.url) {
		t.Errorf("the endpoint is %v", out)
	}
	const id = "aws.ssm.1.mi-1"
	for about, in := range map[string]map[string]string{
		"AcknowledgeMessage": {"MessageId": id}, "DeleteMessage": {"MessageId": id},
		"FailMessage": {"MessageId": id, "FailureType": "InternalHandlerException"},
		"SendReply":   {"MessageId": id, "Payload": "{}", "ReplyId": "9f1b2c3d-0000-4000-a000-000000000000"},
	} {
		w.asNode("ec2messages", service+about, in)
	}
	w.DeregisterNode(w.node)
	in.Destination = w.node
	if _, out := w.call("ec2messages", service+"GetMessages", in, w.keys); code(out) != "InvalidInstanceId" {
		t.Errorf("a node that was deregistered: %v", out)
	}
}

func query(pairs ...string) string {
	q := url.Values{}
	for n := 0; n < len(pairs); n += 2 {
		q.Set(pairs[n], pairs[n+1])
	}
	return "/ws?" + q.Encode()
}
