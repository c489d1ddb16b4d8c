package simagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"strings"
	"time"
)

const ecsTarget = "AmazonEC2ContainerServiceV20141113."

// sdkError is the text that the SDK of the ECS agent (version 2) gives a failure.
type sdkError struct {
	operation string
	attempts  int // more than one: the SDK gave up
	refused   *awsError
	cause     error
}

// modelled are the exceptions of RegisterContainerInstance's model; the SDK names others "api error".
var modelled = map[string]bool{"ClientException": true, "InvalidParameterException": true, "ServerException": true}

func (e *sdkError) Error() string {
	text := "operation error ECS: " + e.operation + ", "
	if e.attempts > 1 {
		text += fmt.Sprintf("exceeded maximum number of attempts, %d, ", e.attempts)
	}
	if e.refused == nil {
		return text + "https response error StatusCode: 0, RequestID: , request send failed, " + e.cause.Error()
	}
	text += fmt.Sprintf("https response error StatusCode: %d, RequestID: %s, ", e.refused.Status, e.refused.RequestID)
	if !modelled[e.refused.Code] {
		text += "api error "
	}
	return text + e.refused.Code + ": " + e.refused.Message
}

func (e *sdkError) code() string {
	if e.refused == nil {
		return ""
	}
	return e.refused.Code
}

// ecsCall makes a call with the SDK's three attempts.
func (a *ECSAgent) ecsCall(ctx context.Context, c ecsConfig, operation string, in, out any, log logfmt) error {
	keys, err := a.credentials(c, log)
	if err != nil {
		log.error("Error getting ECS instance credentials from credentials chain: " + err.Error())
		return fmt.Errorf("operation error ECS: %s, get identity: get credentials: failed to refresh cached credentials, %w",
			operation, err)
	}
	agent := fmt.Sprintf("%s (linux; %s) (+http://aws.amazon.com/ecs/)", a.fullVersion(), a.Env["ECS_DETAILED_OS_FAMILY"])
	for attempt := 1; ; attempt++ {
		err := a.post(ctx, c.endpoint+"/", ecsTarget+operation, agent, in, out, a.signV4(keys, "ecs", c.region))
		if err == nil {
			return nil
		}
		var refused *awsError
		if errors.As(err, &refused) && !refused.retryable() {
			return &sdkError{operation, 1, refused, err}
		}
		if attempt == 3 || ctx.Err() != nil {
			var network *url.Error
			if refused == nil && !errors.As(err, &network) {
				return err
			}
			return &sdkError{operation, attempt, refused, err}
		}
		if err := a.pause(ctx, time.Second<<(attempt-1)); err != nil {
			return err
		}
	}
}

type ecsAttribute struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

type ecsTag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// attributes of a plain external host. The operator's own are sent with the first registration only.
func (a *ECSAgent) attributes(c ecsConfig, first bool) []ecsAttribute {
	arch := "x86_64"
	if runtime.GOARCH == "arm64" {
		arch = "arm64"
	}
	family := a.Env["ECS_DETAILED_OS_FAMILY"]
	if family == "" {
		family = "LINUX"
	}
	list := []ecsAttribute{
		{"ecs.os-type", "linux"}, {"ecs.os-family", "LINUX"}, {"ecs.os-type-detailed", family},
		{"ecs.cpu-architecture", arch},
		{Name: "ecs.capability.external"}, {Name: "ecs.capability.ipv6-only"}, {Name: "ecs.capability.task-iam-role"},
		{Name: "com.amazonaws.ecs.capability.docker-remote-api.1.25"},
	}
	if first {
		for name, value := range c.attributes {
			list = append(list, ecsAttribute{name, value})
		}
	}
	return list
}

type ecsResource struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	Integer   int      `json:"integerValue,omitempty"`
	StringSet []string `json:"stringSetValue,omitempty"`
}

// register is RegisterContainerInstance once, with the check of what the service echoes. Nothing in the request names
// the managed instance.
func (a *ECSAgent) register(ctx context.Context, c ecsConfig, arn string, log logfmt) (string, error) {
	attributes := a.attributes(c, arn == "")
	in := map[string]any{
		"cluster": c.cluster, "clientToken": newUUID(), "attributes": attributes,
		"instanceIdentityDocument": "", "instanceIdentityDocumentSignature": "",
		"totalResources": []ecsResource{
			{Name: "CPU", Type: "INTEGER", Integer: 1024 * runtime.NumCPU()},
			{Name: "MEMORY", Type: "INTEGER", Integer: 1954},
			{Name: "PORTS", Type: "STRINGSET", StringSet: []string{"22", "2375", "2376", "51678", "51679"}},
			{Name: "PORTS_UDP", Type: "STRINGSET", StringSet: []string{}},
		},
	}
	if c.cluster == "" {
		in["cluster"] = "default"
	}
	if arn != "" {
		in["containerInstanceArn"] = arn
	}
	tags := []ecsTag{}
	for k, v := range c.tags {
		tags = append(tags, ecsTag{k, v})
	}
	if len(tags) > 0 {
		in["tags"] = tags
	}
	var out struct {
		ContainerInstance struct {
			ContainerInstanceArn string
			Attributes           []ecsAttribute
		}
	}
	err := a.ecsCall(ctx, c, "RegisterContainerInstance", in, &out, log)
	var failed *sdkError
	if c.cluster == "" && errors.As(err, &failed) && strings.HasSuffix(err.Error(), "Cluster not found.") {
		// Only an empty ECS_CLUSTER makes the agent create the cluster "default".
		name := map[string]string{"clusterName": "default"}
		if err = a.ecsCall(ctx, c, "CreateCluster", name, &struct{}{}, log); err == nil {
			err = a.ecsCall(ctx, c, "RegisterContainerInstance", in, &out, log)
		}
	}
	if err != nil {
		return "", err
	}
	if missing := unconfirmed(attributes, out.ContainerInstance.Attributes); len(missing) > 0 {
		log.error("Error registering attributes", "missingAttributes", strings.Join(missing, ","))
		return "", errAttributes
	}
	return out.ContainerInstance.ContainerInstanceArn, nil
}

var errAttributes = errors.New("attribute validation failed")

// unconfirmed are the attributes with a value that the service did not echo as they were sent.
func unconfirmed(sent, echoed []ecsAttribute) []string {
	known := map[string]string{}
	for _, e := range echoed {
		known[e.Name] = e.Value
	}
	missing := []string{}
	for _, s := range sent {
		if s.Value != "" && known[s.Name] != s.Value {
			missing = append(missing, s.Name)
		}
	}
	return missing
}

// enroll registers until it works, or returns the exit status of the class of failure (agent/app/agent.go 874-959).
func (a *ECSAgent) enroll(ctx context.Context, c ecsConfig, arn string, log logfmt) (string, int) {
	kind, verb := "registration", "registering"
	if arn != "" {
		kind, verb = "re-registration", "re-registering"
	}
	for wait := 3 * time.Second; ; wait = min(2*wait, 192*time.Second) {
		got, err := a.register(ctx, c, arn, log)
		if err == nil {
			return got, exitOK
		}
		if ctx.Err() != nil {
			return "", exitKilled // it does not react to SIGTERM here
		}
		log.error("Error "+verb+" container instance", "error", err.Error())
		var failed *sdkError
		errors.As(err, &failed)
		attempt := ""
		switch {
		case errors.Is(err, errAttributes):
			attempt = "with invalid attribute(s)"
		case failed == nil: // no credentials, or no answer that could be read
		case failed.code() == "ClientException":
			attempt = "with client performing invalid action"
		case failed.code() == "InvalidParameterException":
			attempt = "with an invalid parameter"
		case failed.code() == "ThrottlingException" || failed.code() == "ServerException" ||
			failed.code() == "LimitExceededException":
			log.warn("Received non-terminal error from RegisterContainerInstance call, retrying with exponential backoff",
				"error", err.Error())
			if a.pause(ctx, wait) != nil {
				return "", exitKilled
			}
			continue
		}
		if attempt != "" {
			log.critical("Instance "+kind+" attempt "+attempt, "error", err.Error())
			log.critical("Agent will terminally exit, unable to register container instance:", "error", err.Error())
			return "", exitTerminal
		}
		log.error("Received terminal error from RegisterContainerInstance call, exiting", "error", err.Error())
		return "", exitError
	}
}

// session registers, opens introspection and keeps the connection with ACS until ctx ends.
func (a *ECSAgent) session(ctx context.Context, c ecsConfig, state ecsState, log logfmt) int {
	if _, err := a.credentials(c, log); err != nil {
		log.error("Error getting valid credentials: " + err.Error())
	}
	arn, code := a.enroll(ctx, c, state.ARN, log)
	if code != exitOK {
		return code
	}
	if state.ARN != "" {
		log.info("Restored from checkpoint file", "containerInstanceArn", arn, "cluster", c.cluster)
	} else {
		log.info("Registered container instance with cluster!", "cluster", c.cluster)
		log.info("Instance registration completed successfully", "instanceArn", arn, "cluster", c.cluster)
	}
	if c.cluster == "" {
		c.cluster = "default"
	}
	state = ecsState{a.version(), c.cluster, arn}
	if err := a.save(c, state); err != nil {
		log.critical("Error saving metadata", "error", err.Error())
		return exitError
	}
	tasks := &taskList{}
	listen := a.Listen
	if listen == nil {
		listen = func() (net.Listener, error) { return net.Listen("tcp", ":51678") }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// As often as it takes, for the port may be somebody's (agent/handlers/introspection_server_setup.go).
		for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, time.Minute) {
			listener, err := listen()
			if err == nil {
				a.introspect(ctx, listener, c, arn, tasks)
				return
			}
			log.error("Error running introspection endpoint", "error", err.Error())
			_ = a.pause(ctx, wait)
		}
	}()
	a.converse(ctx, c, arn, tasks, log)
	<-done
	log.info("Agent received termination signal")
	if err := a.save(c, state); err != nil {
		log.error("Error saving state before final shutdown", "error", err.Error())
		return exitError
	}
	return exitOK
}
