package preflight

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

func metadataChecks() []Check {
	return []Check{{ID: "metadata.endpoint", Title: "Instance metadata", Network: true, Run: metadataEndpoint}}
}

// metadataTime is enough for what is a link-local address away.
const metadataTime = time.Second

const (
	metadataAddress = instanceMetadata + ":80"
	identityPath    = "/latest/dynamic/instance-identity/document"
	tokenPath       = "/latest/api/token"
)

// credentialOrder is the ECS agent that takes the managed node's credentials before an EC2 role. Source:
// https://github.com/aws/amazon-ecs-agent/pull/4788; before it, the registration of an EC2 instance is refused
// (https://github.com/aws/amazon-ecs-agent/issues/3604).
const credentialOrder = "1.100.0"

// metadataEndpoint looks for EC2's instance metadata, and for what answers like it: other clouds, and appliances that
// answer everything. Both agents would ask it. Never through a proxy.
func metadataEndpoint(ctx context.Context, s Subject) Result {
	ended := make(chan Result, 1)
	ctx, cancel := context.WithTimeout(ctx, metadataTime)
	defer cancel()
	go func() { ended <- askMetadata(ctx, s) }()
	select {
	case r := <-ended:
		return r
	case <-ctx.Done():
		return nothingThere(s)
	}
}

// The firmware of an EC2 instance on Nitro names its maker; anybody may read that. Source:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html and the SSM agent's ec2detector, read
// 2026-11-26.
const (
	firmwareVendor = "/sys/class/dmi/id/sys_vendor"
	ec2Vendor      = "Amazon EC2"
)

// nothingThere also looks at the firmware: an instance can have its metadata service switched off.
func nothingThere(s Subject) Result {
	if text, err := s.Host.Files.ReadFile(firmwareVendor); err == nil && strings.TrimSpace(string(text)) == ec2Vendor {
		return warn(fmt.Sprintf("this is an EC2 instance (%s: %s) whose metadata service does not answer", firmwareVendor, ec2Vendor),
			"anywhere register keeps both agents from asking for it (AWS_EC2_METADATA_DISABLED, ConsumptionOrder OnPrem); "+
				"EC2 instances can join a cluster without ECS Anywhere").
			with("answers", false).with("ec2", true).with("vendor", ec2Vendor)
	}
	return pass("nothing answers at %s: not an EC2 instance", instanceMetadata).with("answers", false)
}

func askMetadata(ctx context.Context, s Subject) Result {
	conn, err := s.Host.Network.Dial(ctx, "tcp", metadataAddress)
	if err != nil {
		return nothingThere(s)
	}
	_ = conn.Close()
	// One for each question: an appliance may end them as it likes.
	lifetime := http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}}
	token, _ := metadata(ctx, s.Host, http.MethodPut, tokenPath, lifetime) // version 1 has none
	header := http.Header{}
	version := "1"
	if token.status == http.StatusOK && token.body != "" {
		header.Set("X-Aws-Ec2-Metadata-Token", strings.TrimSpace(token.body))
		version = "2"
	}
	answer, err := metadata(ctx, s.Host, http.MethodGet, identityPath, header)
	if err != nil {
		return stranger("something takes connections there and does not answer as HTTP")
	}
	var document struct{ InstanceID, Region string }
	isDocument := answer.status == http.StatusOK && json.Unmarshal([]byte(answer.body), &document) == nil
	if isDocument && strings.HasPrefix(document.InstanceID, "i-") {
		return onEC2(s, document.InstanceID, document.Region).with("imds", version)
	}
	what := fmt.Sprintf("HTTP %d", answer.status)
	if name := cloud(answer); name != "" {
		what = name + ", " + what
	} else if answer.server != "" {
		what += ", server " + answer.server
	}
	return stranger("what answers there is not EC2 ("+what+")").
		with("httpStatus", answer.status).with("server", answer.server)
}

// stranger is something else than EC2 at EC2's address.
func stranger(what string) Result {
	detail := fmt.Sprintf("%s: %s; agents that ask it lose time, or take themselves for EC2 instances", instanceMetadata, what)
	const remedy = "anywhere register keeps both agents from asking (AWS_EC2_METADATA_DISABLED, ConsumptionOrder OnPrem); " +
		"where nothing else needs that address: ip route add blackhole " + instanceMetadata
	return warn(detail, remedy).with("answers", true).with("ec2", false)
}

func onEC2(s Subject, id, region string) Result {
	detail := fmt.Sprintf("this is EC2 instance %s in %s", id, region)
	remedy := "anywhere register sets AWS_EC2_METADATA_DISABLED=true, so that the ECS agent does not take the instance's " +
		"role; EC2 instances can join a cluster without ECS Anywhere"
	installed, err := s.Host.Packages.Package(ecsagent.Package)
	switch {
	case err == nil && installed.Installed && ecsagent.CompareVersions(installed.Version, credentialOrder) < 0:
		detail += fmt.Sprintf(": the ECS agent %s would register with the instance's role and be refused; %s or later is "+
			"needed", installed.Version, credentialOrder)
		remedy = "give --ecs-agent-version latest to anywhere register"
	default:
		detail += fmt.Sprintf(": as an external instance it needs an ECS agent of %s or later", credentialOrder)
	}
	return warn(detail, remedy).with("answers", true).with("ec2", true).with("instanceId", id).with("region", region)
}

type metadataAnswer struct {
	status       int
	server, body string
	flavour      string // of Google's
}

// maxMetadata is more than any document there has.
const maxMetadata = 64 << 10

func metadata(ctx context.Context, h host.Reader, method, path string, header http.Header) (metadataAnswer, error) {
	conn, err := h.Network.Dial(ctx, "tcp", metadataAddress)
	if err != nil {
		return metadataAnswer{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	header.Set("Connection", "close")
	header.Set("User-Agent", agentName)
	req := &http.Request{
		Method: method, URL: &url.URL{Scheme: "http", Host: instanceMetadata, Path: path}, Host: instanceMetadata,
		Header: header,
	}
	if err := req.Write(conn); err != nil {
		return metadataAnswer{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxMetadata)), req)
	if err != nil {
		return metadataAnswer{}, err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // what was cut off is not a document
	return metadataAnswer{
		resp.StatusCode, resp.Header.Get("Server"), string(body), resp.Header.Get("Metadata-Flavor"),
	}, nil
}

// cloud names another cloud by how its metadata service answers. Google's says so in a header of every answer, by which
// its own clients know it: https://github.com/googleapis/google-auth-library-java, ComputeEngineCredentials.
func cloud(a metadataAnswer) string {
	if a.flavour == "Google" {
		return "Google Cloud"
	}
	return ""
}
