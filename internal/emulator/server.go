package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// apiError is an error of AWS's, as it goes over the wire.
type apiError struct {
	status        int
	code, message string
}

// newError is a refusal: HTTP 400, as all JSON services answer.
func newError(code, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, code, fmt.Sprintf(format, args...)}
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// call is a request that passed authentication.
type call struct {
	*http.Request
	service, name string // "ssm", "RegisterManagedInstance"
	body          []byte
	sign          *signed // nil: anonymous
	key           *key    // nil: anonymous, or signed with a node's private key
}

// decode reads the JSON body, which was held to the model before.
func (c *call) decode(into any) *apiError {
	if err := json.Unmarshal(c.body, into); err != nil {
		return newError("SerializationException", "the request is not JSON: %v", err)
	}
	return nil
}

type operation func(*Emulator, *call) (any, *apiError)

// unsigned are the operations that do not go through [Emulator.authenticate]: one is anonymous, two are signed with the
// node's private key and verify that themselves.
var unsigned = map[string]bool{
	"RegisterManagedInstance": true, "RequestManagedInstanceRoleToken": true, "UpdateManagedInstancePublicKey": true,
}

var ssmOperations = map[string]operation{
	"RegisterManagedInstance":         (*Emulator).registerManagedInstance,
	"RequestManagedInstanceRoleToken": (*Emulator).requestRoleToken,
	"UpdateManagedInstancePublicKey":  (*Emulator).updatePublicKey,
	"UpdateInstanceInformation":       (*Emulator).updateInstanceInformation,
	"CreateActivation":                (*Emulator).createActivation,
	"DescribeActivations":             (*Emulator).describeActivations,
	"DeleteActivation":                (*Emulator).deleteActivation,
	"DeregisterManagedInstance":       (*Emulator).deregisterManagedInstance,
	"UpdateManagedInstanceRole":       (*Emulator).updateManagedInstanceRole,
	"DescribeInstanceInformation":     (*Emulator).describeInstanceInformation,
}

var ecsOperations = map[string]operation{
	"CreateCluster":                 (*Emulator).createCluster,
	"DescribeClusters":              (*Emulator).describeClusters,
	"RegisterContainerInstance":     (*Emulator).registerContainerInstance,
	"DiscoverPollEndpoint":          (*Emulator).discoverPollEndpoint,
	"ListContainerInstances":        (*Emulator).listContainerInstances,
	"DescribeContainerInstances":    (*Emulator).describeContainerInstances,
	"DeregisterContainerInstance":   (*Emulator).deregisterContainerInstance,
	"UpdateContainerInstancesState": (*Emulator).updateContainerInstancesState,
	"PutAttributes":                 (*Emulator).putAttributes,
	"TagResource":                   (*Emulator).tagResource,
	"ListTasks":                     (*Emulator).listTasks,
	"DescribeTasks":                 (*Emulator).describeTasks,
	"StopTask":                      (*Emulator).stopTask,
	"ListServices":                  (*Emulator).listServices,
	"DescribeServices":              (*Emulator).describeServices,
	"ListTaskDefinitions":           (*Emulator).listTaskDefinitions,
	"DescribeTaskDefinition":        (*Emulator).describeTaskDefinition,
	"ListClusters":                  (*Emulator).listClusters,
	"SubmitTaskStateChange":         (*Emulator).submitTaskStateChange,
	"SubmitContainerStateChange":    (*Emulator).submitContainerStateChange,
	"SubmitAttachmentStateChanges":  (*Emulator).submitAttachmentStateChanges,
	"RegisterTaskDefinition":        (*Emulator).registerTaskDefinition,
	"DeregisterTaskDefinition":      (*Emulator).deregisterTaskDefinition,
	"RunTask":                       (*Emulator).runTask,
	"StartTask":                     (*Emulator).startTask,
	"CreateService":                 (*Emulator).createService,
	"UpdateService":                 (*Emulator).updateService,
	"DeleteService":                 (*Emulator).deleteService,
}

// services are the prefixes of X-Amz-Target.
var services = map[string]struct {
	name       string
	operations map[string]operation
}{
	"AmazonSSM":                          {"ssm", ssmOperations},
	"AmazonEC2ContainerServiceV20141113": {"ecs", ecsOperations},
	"EC2WindowsMessageDeliveryService":   {"ec2messages", deliveryOperations},
}

// ServeHTTP answers every service: AWS JSON 1.1 by X-Amz-Target, STS's query protocol, the agents' sockets and the
// buckets.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPath) {
		e.serveControl(w, r)
		return
	}
	e.hold(r.Context())
	if e.faulty(FaultConnectionReset) {
		e.record("reset:"+r.Method+" "+r.URL.Path, "", 0, "reset")
		reset(w)
	}
	w.Header().Set("X-Amzn-Requestid", uuid())
	w.Header().Set("Date", e.opts.Now().UTC().Format(http.TimeFormat)) // clients measure their clock against it
	target := r.Header.Get("X-Amz-Target")
	switch {
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket") && strings.HasPrefix(r.URL.Path, gatewayPath):
		e.serveControlChannel(w, r)
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		e.serveSocket(w, r)
	case strings.HasPrefix(r.URL.Path, gatewayPath) && r.Method == http.MethodPost:
		e.serveGateway(w, r)
	case target != "":
		e.serveJSON(w, r, target)
	case r.Method == http.MethodPost:
		e.serveQuery(w, r)
	case strings.Count(r.URL.Path, "/") > 1:
		e.serveBucket(w, r)
	default: // what a browser sees at an endpoint of SSM's; it proves that the way there is open
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<UnknownOperationException/>\n")
	}
}

func (e *Emulator) serveJSON(w http.ResponseWriter, r *http.Request, target string) {
	c := &call{Request: r, service: "unknown", name: target}
	out, failed := e.dispatch(c, target)
	signer := ""
	if c.sign != nil {
		signer = c.sign.keyID
	}
	status, code := http.StatusOK, ""
	if failed != nil {
		status, code = failed.status, failed.code
		out = map[string]string{"__type": failed.code, "message": failed.message}
		w.Header().Set("X-Amzn-Errortype", failed.code)
	}
	e.record(c.service+":"+c.name, signer, status, code) // before the answer, so that a client that has it finds the line
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	if parts, ok := out.(encoded); ok {
		for _, part := range parts {
			_, _ = w.Write(part) // the client has gone if it fails, here and below
		}
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

// dispatch finds the operation, authenticates the caller and runs it.
func (e *Emulator) dispatch(c *call, target string) (any, *apiError) {
	prefix, name, _ := strings.Cut(target, ".")
	service, ok := services[prefix]
	if !ok {
		return nil, newError("UnknownOperationException", "")
	}
	c.service, c.name = service.name, name
	run, ok := service.operations[name]
	if !ok && c.service == "ssm" {
		run, ok = nodeSSM[name]
	}
	if !ok {
		return nil, newError("UnknownOperationException", "the emulator has no %s:%s", service.name, name)
	}
	var err error
	if c.body, err = io.ReadAll(http.MaxBytesReader(nil, c.Body, 1<<20)); err != nil {
		return nil, newError("SerializationException", "the request's body broke off: %v", err)
	}
	if failed := e.upset(c.service); failed != nil {
		return nil, failed
	}
	var failed *apiError
	if c.sign, failed = parseSignature(c.Request); failed != nil {
		return nil, failed
	}
	if !unsigned[name] {
		if c.key, failed = e.authenticate(c.Request, c.sign, c.body, c.service); failed != nil {
			return nil, failed
		}
		if failed = e.authorize(c.key, c.service+":"+name); failed != nil {
			return nil, failed
		}
	}
	if failed = e.throttle(c.service, name); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	e.settle()
	e.mu.Unlock()
	return e.perform(run, c)
}

// perform does an operation, and holds what it takes and answers to AWS's model.
func (e *Emulator) perform(run operation, c *call) (any, *apiError) {
	m := modelOf(c.service + ":" + c.name)
	if m == nil {
		return run(e, c)
	}
	if failed := c.checkInput(m); failed != nil {
		return nil, failed
	}
	out, failed := run(e, c)
	if failed != nil {
		return nil, failed
	}
	return out, c.checkOutput(m, out)
}

// upset are the faults that hit every call of a service.
func (e *Emulator) upset(service string) *apiError {
	if e.faulty(FaultThrottled) {
		return newError("ThrottlingException", "Rate exceeded")
	}
	if e.faulty(FaultServerError) {
		code := "InternalServerError"
		if service == "ecs" {
			code = "ServerException"
		}
		return &apiError{http.StatusInternalServerError, code, "An internal error occurred."}
	}
	return nil
}

var errMissingToken = newError("MissingAuthenticationTokenException", "Missing Authentication Token")

// authenticate finds the key that signed a request and verifies the signature.
func (e *Emulator) authenticate(r *http.Request, s *signed, body []byte, service string) (*key, *apiError) {
	if s == nil {
		return nil, errMissingToken
	}
	now := e.opts.Now()
	skewed := now
	if e.faulty(FaultClockSkew) {
		skewed = now.Add(2 * maxSkew)
	}
	if failed := s.checkTime(skewed); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	k := e.keys[s.keyID]
	if k == nil {
		k = e.taskKeys[s.keyID]
	}
	e.mu.Unlock()
	if k == nil || k.Token.Reveal() != r.Header.Get("X-Amz-Security-Token") {
		return nil, newError("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	if failed := s.checkScope(e.scopeRegion(service), service); failed != nil {
		return nil, failed
	}
	if failed := s.checkHMAC(r, body, k.Secret.Reveal()); failed != nil {
		return nil, failed
	}
	expired := !k.expires.IsZero() && now.After(k.expires)
	if expired || k.node != "" && e.faulty(FaultCredentialsExpired) {
		return nil, newError("ExpiredTokenException", "The security token included in the request is expired")
	}
	return k, nil
}

// scopeRegion is the Region that a service's signatures are for: IAM has one for each partition. Source: General Reference,
// "IAM endpoints and quotas", read 2026-11-25.
func (e *Emulator) scopeRegion(service string) string {
	if service != "iam" {
		return e.opts.Region
	}
	return or(map[string]string{
		"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1", "aws-eusc": "eusc-de-east-1",
	}[e.partition()], "us-east-1")
}

// nodeActions are what a node's role may do: AmazonSSMManagedInstanceCore and AmazonEC2ContainerServiceforEC2Role as
// far as there are such operations here. It can drain and deregister its container instance, and cannot describe it.
var nodeActions = map[string]bool{
	"ssm:UpdateInstanceInformation": true, "ssm:DescribeAssociation": true, "ssm:DescribeDocument": true,
	"ssm:GetDocument": true, "ssm:GetManifest": true, "ssm:GetParameter": true, "ssm:GetParameters": true,
	"ssm:ListAssociations": true, "ssm:ListInstanceAssociations": true, "ssm:PutComplianceItems": true,
	"ssm:PutConfigurePackageResult": true, "ssm:PutInventory": true, "ssm:UpdateAssociationStatus": true,
	"ssm:UpdateInstanceAssociationStatus": true,

	"ssmmessages:CreateControlChannel": true, "ssmmessages:OpenControlChannel": true,

	"ec2messages:AcknowledgeMessage": true, "ec2messages:DeleteMessage": true, "ec2messages:FailMessage": true,
	"ec2messages:GetEndpoint": true, "ec2messages:GetMessages": true, "ec2messages:SendReply": true,

	"ecs:CreateCluster": true, "ecs:DeregisterContainerInstance": true, "ecs:DiscoverPollEndpoint": true,
	"ecs:Poll": true, "ecs:RegisterContainerInstance": true, "ecs:StartTelemetrySession": true,
	"ecs:SubmitAttachmentStateChanges": true, "ecs:SubmitContainerStateChange": true,
	"ecs:SubmitTaskStateChange": true, "ecs:UpdateContainerInstancesState": true,

	"sts:GetCallerIdentity": true,
}

func (e *Emulator) authorize(k *key, action string) *apiError {
	denied := k.node != "" && !nodeActions[action] || k.role != "" && action != "sts:GetCallerIdentity"
	service, _, _ := strings.Cut(action, ":")
	for _, d := range k.Deny {
		denied = denied || d == action || d == service+":*" || d == "*"
	}
	denied = denied || e.faulty(FaultAccessDenied+"="+action)
	if denied {
		return e.accessDenied(k, action)
	}
	return nil
}

func (e *Emulator) accessDenied(k *key, action string) *apiError {
	service, _, _ := strings.Cut(action, ":")
	return newError("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: arn:%s:%s:%s:%s:* "+
		"because no identity-based policy allows the %s action", e.callerARN(k), action, e.partition(), service,
		e.opts.Region, e.opts.Account, action)
}

func (e *Emulator) callerARN(k *key) string {
	switch {
	case k.role != "":
		return k.role
	case k.node == "":
		return fmt.Sprintf("arn:%s:iam::%s:user/operator", e.partition(), e.opts.Account)
	}
	e.mu.Lock()
	role := e.nodes[k.node].Role
	e.mu.Unlock()
	return fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", e.partition(), e.opts.Account, role, k.node)
}

// seconds is a time as AWS's JSON has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// page cuts one page out of a list; the token is the index of its first element.
func page[T any](all []T, token string, size int) ([]T, string, error) {
	from := 0
	if token != "" {
		if _, err := fmt.Sscanf(token, "page-%d", &from); err != nil || from < 0 || from > len(all) {
			return nil, "", errors.New("invalid token")
		}
	}
	if to := from + size; size > 0 && to < len(all) {
		return all[from:to], fmt.Sprintf("page-%d", to), nil
	}
	return all[from:], "", nil
}
