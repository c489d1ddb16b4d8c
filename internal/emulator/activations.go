package emulator

import (
	"sort"
	"strings"
	"time"
)

func (e *Emulator) createActivation(c *call) (any, *apiError) {
	var in struct {
		IamRole, DefaultInstanceName, Description string
		RegistrationLimit                         int
		ExpirationDate                            float64
		Tags                                      []tag
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	now := e.opts.Now()
	expires := now.Add(activationLife)
	if in.ExpirationDate != 0 {
		expires = time.UnixMilli(int64(in.ExpirationDate * 1000))
	}
	switch {
	case in.IamRole == "" || len(in.IamRole) > 64 || strings.HasPrefix(in.IamRole, "arn:"):
		return nil, newError("ValidationException", "Not existing role: %s", in.IamRole)
	case in.RegistrationLimit < 0 || in.RegistrationLimit > 1000:
		return nil, newError("ValidationException", "1 validation error detected: Value '%d' at 'registrationLimit' "+
			"failed to satisfy constraint: Member must have value less than or equal to 1000", in.RegistrationLimit)
	case !expires.After(now):
		return nil, newError("InvalidParameters", "The expiration date must be in the future.")
	case expires.After(now.Add(30*24*time.Hour + time.Minute)):
		return nil, newError("InvalidParameters", "The expiration date must be within 30 days.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.activate(in.IamRole[strings.LastIndex(in.IamRole, "/")+1:], max(in.RegistrationLimit, 1), expires)
	a.name, a.description, a.tags = in.DefaultInstanceName, in.Description, in.Tags
	return map[string]string{"ActivationId": a.id, "ActivationCode": a.code}, nil
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
	if in.MaxResults == 0 {
		in.MaxResults = 50
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
	if e.activations[in.ActivationId] == nil {
		return nil, newError("InvalidActivation", "The activation isn't valid.")
	}
	delete(e.activations, in.ActivationId)
	return struct{}{}, nil
}
