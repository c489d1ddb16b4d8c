package emulator

import (
	"regexp"
	"sort"
	"strings"
	"time"
)

func (e *Emulator) createActivation(c *call) (any, *apiError) {
	var in struct {
		IamRole, DefaultInstanceName, Description string
		RegistrationLimit                         *int
		ExpirationDate                            float64
		Tags                                      []tag
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	limit := 1
	if in.RegistrationLimit != nil {
		limit = *in.RegistrationLimit
	}
	now := e.opts.Now()
	expires := now.Add(activationLife)
	if in.ExpirationDate != 0 {
		expires = time.UnixMilli(int64(in.ExpirationDate * 1000))
	}
	switch {
	case in.IamRole == "" || strings.HasPrefix(in.IamRole, "arn:"):
		return nil, newError("ValidationException", "Not existing role: %s", in.IamRole)
	case len(in.IamRole) > 64:
		return nil, invalid(in.IamRole, "iamRole", "Member must have length less than or equal to 64")
	case e.refusesRole():
		return nil, newError("ValidationException", "Nonexistent role or missing ssm service principal in trust policy: "+
			"arn:%s:iam::%s:role/%s", e.partition(), e.opts.Account, in.IamRole)
	case limit < 1:
		return nil, invalid(limit, "registrationLimit", "Member must have value greater than or equal to 1")
	case limit > 1000:
		return nil, invalid(limit, "registrationLimit", "Member must have value less than or equal to 1000")
	case !matches(label, in.DefaultInstanceName) || len([]rune(in.DefaultInstanceName)) > 256:
		return nil, invalid(in.DefaultInstanceName, "defaultInstanceName", "Member must satisfy regular expression pattern: "+
			label)
	case len([]rune(in.Description)) > 256:
		return nil, invalid(in.Description, "description", "Member must have length less than or equal to 256")
	case len(in.Tags) > 50:
		return nil, invalid(len(in.Tags), "tags", "Member must have length less than or equal to 50")
	case !expires.After(now):
		return nil, newError("InvalidParameters", "The expiration date must be in the future.")
	case expires.After(now.Add(activationMost + time.Minute)):
		return nil, newError("InvalidParameters", "The expiration date must be within 30 days.")
	}
	for _, t := range in.Tags {
		if t.Key == "" || len([]rune(t.Key)) > 128 || len([]rune(t.Value)) > 256 || !matches(label, t.Key+t.Value) {
			return nil, invalid(t.Key, "tags", "Member must satisfy the constraints of a tag")
		}
	}
	if failed := e.usable(in.IamRole); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.activate(in.IamRole[strings.LastIndex(in.IamRole, "/")+1:], limit, expires)
	a.name, a.description, a.tags = in.DefaultInstanceName, in.Description, in.Tags
	return map[string]string{"ActivationId": a.id, "ActivationCode": a.code}, nil
}

// Patterns of the API. They are compiled when they are used: every start of the program would pay for them. Source: SSM
// API model (ActivationId) and API reference (CreateActivation), read 2026-11-22.
const (
	activationID = `^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`
	label        = `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$` // a node's name, a tag's key and its value
)

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

// invalid has the words of AWS's own check of a request against the model.
func invalid(value any, member, constraint string) *apiError {
	return newError("ValidationException",
		"1 validation error detected: Value '%v' at '%s' failed to satisfy constraint: %s", value, member, constraint)
}

// RefuseRole makes the next n calls of CreateActivation find no role that Systems Manager may assume, as it is with a
// new role until IAM has told all of AWS about it.
func (e *Emulator) RefuseRole(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.roleLag = n
}

func (e *Emulator) refusesRole() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.roleLag > 0 {
		e.roleLag--
		return true
	}
	return false
}

func (e *Emulator) describeActivations(c *call) (any, *apiError) {
	var in struct {
		Filters    []filter
		MaxResults int
		NextToken  string
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*activation, 0, len(e.activations))
	for _, a := range e.activations {
		match := true
		for _, f := range in.Filters {
			value, ok := map[string]string{
				"ActivationIds": a.id, "DefaultInstanceName": a.name, "IamRole": a.role,
			}[f.key()]
			if !ok {
				return nil, newError("InvalidFilter", "The filter name %s is not valid.", f.key())
			}
			match = match && has(f.values(), value)
		}
		if match {
			all = append(all, a)
		}
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].created.Equal(all[j].created) {
			return all[i].id < all[j].id
		}
		return all[i].created.Before(all[j].created)
	})
	switch {
	case in.MaxResults == 0:
		in.MaxResults = 50
	case in.MaxResults < 1 || in.MaxResults > 50:
		return nil, invalid(in.MaxResults, "maxResults", "Member must have value less than or equal to 50")
	}
	rows, next, err := page(all, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, newError("InvalidNextToken", "The specified token isn't valid.")
	}
	list := []map[string]any{}
	for _, a := range rows {
		list = append(list, map[string]any{
			"ActivationId": a.id, "CreatedDate": seconds(a.created), "DefaultInstanceName": a.name,
			"Description": a.description, "ExpirationDate": seconds(a.expires), "Expired": !e.opts.Now().Before(a.expires),
			"IamRole": a.role, "RegistrationLimit": a.limit, "RegistrationsCount": a.used, "Tags": a.tags,
		})
	}
	return withToken(map[string]any{"ActivationList": list}, "NextToken", next), nil
}

func (e *Emulator) deleteActivation(c *call) (any, *apiError) {
	var in struct{ ActivationId string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !matches(activationID, in.ActivationId) {
		return nil, newError("InvalidActivationId", "The activation ID isn't valid.")
	}
	if e.activations[in.ActivationId] == nil {
		return nil, newError("InvalidActivation", "The activation isn't valid.")
	}
	delete(e.activations, in.ActivationId)
	return struct{}{}, nil
}
