package e2e

import (
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const (
	account = "123456789012"
	cluster = "prod"
	keyring = "/root/test-keys.asc"
)

// site is AWS as a host sees it: the emulator, buckets with both packages, and an activation.
type site struct {
	t      testing.TB
	aws    *emulator.Emulator
	mirror *packages.Mirror
	url    string
	code   string // the last activation's: it must appear nowhere
}

// newSite starts one. The options change the packages in its buckets.
func newSite(t testing.TB, ssm, ecs packages.Options) *site {
	t.Helper()
	return newSiteAt(t, lab.Address, ssm, ecs)
}

// newSiteAt does so at another address of the world's.
func newSiteAt(t testing.TB, address string, ssm, ecs packages.Options) *site {
	t.Helper()
	s := &site{t: t, mirror: packages.NewMirror(t, region)}
	for o, defaults := range map[*packages.Options]string{&ssm: ssmVersion, &ecs: ecsVersion} {
		if o.Version == "" {
			o.Version = defaults
		}
		o.Program = lab.Shared("simagent")
	}
	s.mirror.AddSSMAgent(ssm)
	s.mirror.AddECSInit(ecs)
	s.aws = emulator.New(emulator.Options{Account: account, Region: region, Artifacts: os.DirFS(s.mirror.Dir), TaskTime: time.Second})
	if err := s.aws.Start(net.JoinHostPort(address, "0")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.aws.Close() })
	s.url = s.aws.URL()
	s.aws.AddCluster(cluster)
	return s
}

// host boots a Debian 12 with Docker and the product on it.
func (s *site) host(h lab.Host) *lab.Machine {
	s.t.Helper()
	h.Docker = true
	m := lab.Start(s.t, h)
	m.CopyIn("/usr/local/bin/anywhere", lab.Shared("anywhere"), 0o755)
	m.WriteFile(keyring, s.mirror.Keyring(), 0o644)
	return m
}

// token is a fresh activation for so many hosts, as the line that joins them.
func (s *site) token(limit int) string {
	expires := time.Now().Add(time.Hour)
	id, code := s.aws.AddActivation(limit, expires)
	s.code = code
	return control.Token{
		Account: account, Region: region, Cluster: cluster, ActivationID: id, Code: secret.NewText(code), Expires: expires,
	}.Encode()
}

// flags point the real command at the site.
func (s *site) flags() []string {
	return []string{"--endpoint-url", s.url, "--agent-endpoint", s.url, "--artifacts", s.url, "--keyring", keyring}
}

// register is "anywhere register" with JSON output; a token, if there is one, comes on stdin.
func (s *site) register(token string, more ...string) lab.Cmd {
	args := append([]string{"anywhere", "register", "-o", "json"}, s.flags()...)
	if token != "" {
		args = append(args, "--token", "-")
	}
	return lab.Cmd{Args: append(args, more...), Stdin: token}
}

// document is what the tests look at in register's JSON.
type document struct {
	Changed, Failed bool
	RC              int
	DurationMs      int64
	Msg             string
	Warnings        []string
	Steps           []struct {
		ID, Status, Detail string
		DurationMs         int64
	}
	Result struct {
		ManagedInstanceID, ContainerInstanceARN, Verified, Cluster, Region, Account string
		ECSAgentVersion, SSMAgentVersion, DockerVersion                             string
		Owed                                                                        [2]string // an array, so that results can be compared
	}
	Error *struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// read parses a command's document, which must be all of its stdout.
func (s *site) read(res lab.Result) document {
	s.t.Helper()
	var d document
	if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil {
		s.t.Fatalf("stdout is not one JSON object: %v\n%v", err, res)
	}
	if err := contract.Check([]byte(res.Stdout)); err != nil {
		s.t.Error(err)
	}
	if d.RC != res.Exit {
		s.t.Errorf("rc is %d and the exit status %d", d.RC, res.Exit)
	}
	return d
}

// mustRegister registers the host, and checks that everybody agrees.
func (s *site) mustRegister(h *lab.Machine, cmd lab.Cmd) document {
	s.t.Helper()
	res := h.Run(cmd)
	d := s.read(res)
	if res.Exit != 0 || d.Failed || d.Result.Verified != "local" {
		s.t.Fatalf("register: %v", res)
	}
	s.agree(d)
	return d
}

// agree compares what the document says with what AWS has.
func (s *site) agree(d document) {
	s.t.Helper()
	for _, i := range s.aws.Instances() {
		if i.ARN != d.Result.ContainerInstanceARN {
			continue
		}
		if i.Status != "ACTIVE" || i.NodeID != d.Result.ManagedInstanceID || i.Cluster != cluster {
			s.t.Errorf("ECS has %+v; the document says %+v", i, d.Result)
		}
		await(s.t, "the agent is connected", func() bool { // a moment after it has registered
			return slices.ContainsFunc(s.aws.Instances(), func(now emulator.Instance) bool { return now.ARN == i.ARN && now.Connected })
		})
		return
	}
	s.t.Errorf("ECS has no %s: %+v", d.Result.ContainerInstanceARN, s.aws.Instances())
}

// asked counts the requests to AWS whose operation begins like this.
func (s *site) asked(operation string) (n int) {
	for _, r := range s.aws.Requests() {
		if strings.HasPrefix(r.Operation, operation) {
			n++
		}
	}
	return n
}
