package emulator

import (
	"strings"
)

func (e *Emulator) listContainerInstances(c *call) (any, *apiError) {
	var in struct {
		Cluster    string `json:"cluster"`
		Filter     string `json:"filter"`
		Status     string `json:"status"`
		NextToken  string `json:"nextToken"`
		MaxResults *int   `json:"maxResults"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errNoCluster
	}
	arns := make([]string, 0, len(cl.instances))
	for _, i := range cl.instances {
		if in.Status == "" && i.Status == "INACTIVE" || in.Status != "" && in.Status != i.Status {
			continue
		}
		match, failed := i.matches(in.Filter)
		if failed != nil {
			return nil, failed
		}
		if match {
			arns = append(arns, i.ARN)
		}
	}
	return listing(arns, in.NextToken, in.MaxResults, 100, "containerInstanceArns")
}

// matches understands the part of the cluster query language that finds external instances: equality and existence,
// joined by "and".
func (i *instance) matches(expression string) (bool, *apiError) {
	if strings.TrimSpace(expression) == "" {
		return true, nil
	}
	for _, term := range strings.Split(strings.ReplaceAll(expression, " and ", " && "), "&&") {
		match, failed := i.matchesTerm(strings.TrimSpace(term))
		if failed != nil || !match {
			return false, failed
		}
	}
	return true, nil
}

func (i *instance) matchesTerm(term string) (bool, *apiError) {
	if subject, ok := strings.CutSuffix(term, " !exists"); ok {
		_, exists := i.subject(subject)
		return !exists, nil
	}
	if subject, ok := strings.CutSuffix(term, " exists"); ok {
		_, exists := i.subject(subject)
		return exists, nil
	}
	for _, op := range []string{"==", "!="} {
		if subject, want, ok := strings.Cut(term, op); ok {
			value, _ := i.subject(strings.TrimSpace(subject))
			return (value == strings.Trim(strings.TrimSpace(want), `"'`)) == (op == "=="), nil
		}
	}
	return false, newError("InvalidParameterException", "Invalid filter expression: %s", term)
}

// subject is what a term of the query language looks at, and whether the instance has it.
func (i *instance) subject(name string) (string, bool) {
	name = strings.TrimSpace(name)
	if attr, ok := strings.CutPrefix(name, "attribute:"); ok {
		for _, a := range i.attributes {
			if a.Name == attr {
				return a.Value, true
			}
		}
		return "", false
	}
	v := i.view()
	value, ok := map[string]string{
		"ec2InstanceId": v.NodeID, "agentVersion": v.AgentVersion,
		"agentConnected": map[bool]string{true: "true", false: "false"}[v.Connected],
	}[name]
	return value, ok
}
