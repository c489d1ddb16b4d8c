package emulator

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// role is an IAM role. The emulator keeps its policies and does not judge by them: what a node may do is fixed, and what an
// operator may is said with the operator's key.
type role struct {
	Name        string    `json:"name"`
	Path        string    `json:"path"` // "/", "/service-role/"
	ID          string    `json:"id"`
	Created     time.Time `json:"created"`
	Trust       string    `json:"trust"` // JSON
	Description string    `json:"description,omitempty"`
	Policies    []string  `json:"policies,omitempty"` // ARNs
}

// systemsManagerTrust is the trust policy of a role that managed nodes can have.
const systemsManagerTrust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ssm.amazonaws.com"},` +
	`"Action":"sts:AssumeRole"}]}`

// AddRole makes a role that Systems Manager may assume; name can have a path, "service-role/edge".
func (e *Emulator) AddRole(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := strings.LastIndex(name, "/")
	e.roles[name[at+1:]] = &role{
		Name: name[at+1:], Path: "/" + strings.TrimPrefix(name[:at+1], "/"), ID: roleID(), Trust: systemsManagerTrust,
		Policies: []string{e.policyARN("AmazonSSMManagedInstanceCore"), e.policyARN("service-role/AmazonEC2ContainerServiceforEC2Role")},
	}
}

func roleID() string { return "AROA" + strings.ToUpper(hexID(9))[:17] }

func (e *Emulator) policyARN(name string) string {
	return fmt.Sprintf("arn:%s:iam::aws:policy/%s", e.partition(), name)
}

func (e *Emulator) roleARN(r *role) string {
	return fmt.Sprintf("arn:%s:iam::%s:role%s%s", e.partition(), e.opts.Account, r.Path, r.Name)
}

// usable refuses what CreateActivation cannot give to nodes, where roles are looked at. In the words of the service:
// aws.md A7 of the project's facts, from its API reference and Terraform's list of errors to retry, 2026-11-22.
func (e *Emulator) usable(name string) *apiError {
	if !e.opts.Roles {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.roles[lastPart(name)]
	if r == nil || "/"+name != r.Path+r.Name && name != r.Name || e.opts.Now().Sub(r.Created) < e.opts.Lag || !r.trusts("ssm.amazonaws.com") {
		return newError("ValidationException", "Nonexistent role or missing ssm service principal in trust policy: "+
			"arn:%s:iam::%s:role/%s", e.partition(), e.opts.Account, name)
	}
	return nil
}

// trusts reports whether a statement of the trust policy lets a service assume the role.
func (r *role) trusts(service string) bool {
	var policy struct {
		Statement []struct {
			Effect    string
			Action    oneOrMore
			Principal struct{ Service oneOrMore }
		}
	}
	if json.Unmarshal([]byte(r.Trust), &policy) != nil {
		return false
	}
	for _, s := range policy.Statement {
		if s.Effect == "Allow" && slices.Contains(s.Action, "sts:AssumeRole") && slices.Contains(s.Principal.Service, service) {
			return true
		}
	}
	return false
}

// oneOrMore is a word or a list of words, as policies have it.
type oneOrMore []string

// UnmarshalJSON reads either.
func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(o))
}

type iamOperation func(*Emulator, url.Values) (any, *apiError)

// iamOperations are what a role for nodes is made with. Names, limits and errors: IAM API reference, read 2026-11-25.
var iamOperations = map[string]iamOperation{
	"CreateRole": (*Emulator).createRole, "GetRole": (*Emulator).getRole, "DeleteRole": (*Emulator).deleteRole,
	"ListRoles": (*Emulator).listRoles, "AttachRolePolicy": (*Emulator).attachRolePolicy,
	"DetachRolePolicy": (*Emulator).detachRolePolicy, "ListAttachedRolePolicies": (*Emulator).listAttachedRolePolicies,
}

// iamParameters are what each operation takes, and whether it has to be there. Source: as above.
var iamParameters = map[string]map[string]bool{
	"CreateRole": {
		"RoleName": true, "AssumeRolePolicyDocument": true, "Path": false, "Description": false, "MaxSessionDuration": false,
	},
	"GetRole": {"RoleName": true}, "DeleteRole": {"RoleName": true},
	"ListRoles":                {"PathPrefix": false, "Marker": false, "MaxItems": false},
	"AttachRolePolicy":         {"RoleName": true, "PolicyArn": true},
	"DetachRolePolicy":         {"RoleName": true, "PolicyArn": true},
	"ListAttachedRolePolicies": {"RoleName": true, "PathPrefix": false, "Marker": false, "MaxItems": false},
}

// iam checks a form and does the operation.
func (e *Emulator) iam(action string, form url.Values) (any, *apiError) {
	run, known := iamOperations[action]
	if !known {
		return nil, newError("InvalidAction", "Could not find operation %s for version 2010-05-08", action)
	}
	for name := range form {
		if _, takes := iamParameters[action][name]; !takes && name != "Action" && name != "Version" {
			return nil, newError("ValidationError", "the emulator's %s takes no %s", action, name)
		}
	}
	for _, name := range sortedNames(iamParameters[action]) {
		if iamParameters[action][name] && form.Get(name) == "" {
			return nil, invalidForm("null", name, "Member must not be null")
		}
	}
	if name := form.Get("RoleName"); name != "" && !matches(`^[\w+=,.@-]{1,64}$`, name) {
		return nil, invalidForm(name, "RoleName", "Member must satisfy regular expression pattern: [\\w+=,.@-]+")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return run(e, form)
}

func invalidForm(value, name, constraint string) *apiError {
	if value != "null" {
		value = "'" + value + "'"
	}
	return newError("ValidationError", "1 validation error detected: Value %s at '%s' failed to satisfy constraint: %s",
		value, strings.ToLower(name[:1])+name[1:], constraint)
}

func missingRole(name string) *apiError {
	return &apiError{http.StatusNotFound, "NoSuchEntity", fmt.Sprintf("The role with name %s cannot be found.", name)}
}

type roleXML struct {
	Path, RoleName, RoleId, Arn string
	CreateDate                  string
	AssumeRolePolicyDocument    string
	Description                 string `xml:",omitempty"`
	MaxSessionDuration          int
}

func (e *Emulator) roleXML(r *role) roleXML {
	return roleXML{
		Path: r.Path, RoleName: r.Name, RoleId: r.ID, Arn: e.roleARN(r), CreateDate: r.Created.UTC().Format(time.RFC3339),
		AssumeRolePolicyDocument: escape(r.Trust), Description: r.Description, MaxSessionDuration: 3600,
	}
}

type roleAnswer struct{ Role roleXML }

func (e *Emulator) createRole(form url.Values) (any, *apiError) {
	name, path := form.Get("RoleName"), or(form.Get("Path"), "/")
	switch {
	case e.roles[name] != nil:
		return nil, &apiError{http.StatusConflict, "EntityAlreadyExists", fmt.Sprintf("Role with name %s already exists.", name)}
	case !json.Valid([]byte(form.Get("AssumeRolePolicyDocument"))):
		return nil, newError("MalformedPolicyDocument", "This policy contains invalid Json")
	case !matches(`^/([!-.0-~]+/)?$`, path) || len(path) > 512:
		return nil, newError("ValidationError", "The specified value for path is invalid. It must begin and end with / and contain "+
			"only alphanumeric characters and/or / characters.")
	}
	r := &role{
		Name: name, Path: path, ID: roleID(), Created: e.opts.Now(), Trust: form.Get("AssumeRolePolicyDocument"),
		Description: form.Get("Description"),
	}
	e.roles[name] = r
	return roleAnswer{e.roleXML(r)}, nil
}

func (e *Emulator) getRole(form url.Values) (any, *apiError) {
	r := e.roles[form.Get("RoleName")]
	if r == nil {
		return nil, missingRole(form.Get("RoleName"))
	}
	return roleAnswer{e.roleXML(r)}, nil
}

func (e *Emulator) deleteRole(form url.Values) (any, *apiError) {
	r := e.roles[form.Get("RoleName")]
	switch {
	case r == nil:
		return nil, missingRole(form.Get("RoleName"))
	case len(r.Policies) > 0:
		return nil, &apiError{http.StatusConflict, "DeleteConflict", "Cannot delete entity, must detach all policies first."}
	}
	delete(e.roles, r.Name)
	return nil, nil
}

func (e *Emulator) listRoles(form url.Values) (any, *apiError) {
	var all []roleXML
	for _, name := range sortedNames(e.roles) {
		if r := e.roles[name]; strings.HasPrefix(r.Path, or(form.Get("PathPrefix"), "/")) {
			all = append(all, e.roleXML(r))
		}
	}
	rows, next, failed := markedPage(all, form)
	return struct {
		Roles       []roleXML `xml:"Roles>member"`
		IsTruncated bool
		Marker      string `xml:",omitempty"`
	}{rows, next != "", next}, failed
}

// markedPage cuts one of IAM's pages: Marker and MaxItems, 1 to 1000 and 100 where none is named.
func markedPage[T any](all []T, form url.Values) ([]T, string, *apiError) {
	size := 100
	if text := form.Get("MaxItems"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1000 {
			return nil, "", invalidForm(text, "MaxItems", "Member must have value less than or equal to 1000")
		}
		size = n
	}
	rows, next, err := page(all, form.Get("Marker"), size)
	if err != nil {
		return nil, "", newError("ValidationError", "Invalid Marker.")
	}
	return rows, next, nil
}

func (e *Emulator) attachRolePolicy(form url.Values) (any, *apiError) {
	r, policy := e.roles[form.Get("RoleName")], form.Get("PolicyArn")
	switch {
	case r == nil:
		return nil, missingRole(form.Get("RoleName"))
	case !strings.HasPrefix(policy, "arn:"+e.partition()+":iam::"):
		return nil, newError("InvalidInput", "ARN %s is not valid.", policy)
	case len(r.Policies) >= 10 && !slices.Contains(r.Policies, policy):
		return nil, &apiError{http.StatusConflict, "LimitExceeded", "Cannot exceed quota for PoliciesPerRole: 10"}
	}
	if !slices.Contains(r.Policies, policy) {
		r.Policies = append(r.Policies, policy)
	}
	return nil, nil
}

func (e *Emulator) detachRolePolicy(form url.Values) (any, *apiError) {
	r, policy := e.roles[form.Get("RoleName")], form.Get("PolicyArn")
	if r == nil {
		return nil, missingRole(form.Get("RoleName"))
	}
	at := slices.Index(r.Policies, policy)
	if at < 0 {
		return nil, &apiError{http.StatusNotFound, "NoSuchEntity", fmt.Sprintf("Policy %s was not found.", policy)}
	}
	r.Policies = slices.Delete(r.Policies, at, at+1)
	return nil, nil
}

type policyXML struct{ PolicyName, PolicyArn string }

func (e *Emulator) listAttachedRolePolicies(form url.Values) (any, *apiError) {
	r := e.roles[form.Get("RoleName")]
	if r == nil {
		return nil, missingRole(form.Get("RoleName"))
	}
	var all []policyXML
	for _, arn := range r.Policies {
		all = append(all, policyXML{lastPart(arn), arn})
	}
	rows, next, failed := markedPage(all, form)
	return struct {
		AttachedPolicies []policyXML `xml:"AttachedPolicies>member"`
		IsTruncated      bool
		Marker           string `xml:",omitempty"`
	}{rows, next != "", next}, failed
}

// queryAnswer is an answer of the query protocol.
func queryAnswer(namespace, action string, result any) string {
	var inner writer
	if result != nil {
		encoder := xml.NewEncoder(&inner)
		_ = encoder.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: action + "Result"}}) // strings always encode
	}
	return fmt.Sprintf("<%[1]sResponse xmlns=\"%[2]s\">%[3]s<ResponseMetadata><RequestId>%[4]s</RequestId></ResponseMetadata>"+
		"</%[1]sResponse>", action, namespace, inner, uuid())
}
