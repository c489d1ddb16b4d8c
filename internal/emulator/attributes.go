package emulator

// putAttributes sets attributes of container instances. Limits and errors: ECS API reference, PutAttributes, read
// 2026-11-25.
func (e *Emulator) putAttributes(c *call) (any, *apiError) {
	var in struct {
		Cluster    string `json:"cluster"`
		Attributes []struct {
			Name       string `json:"name"`
			Value      string `json:"value,omitempty"`
			TargetType string `json:"targetType,omitempty"`
			TargetID   string `json:"targetId"`
		} `json:"attributes"`
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if n := len(in.Attributes); n == 0 || n > 10 {
		return nil, newError("InvalidParameterException", "Attributes must be between 1 and 10.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.find(in.Cluster)
	if cl == nil {
		return nil, errNoCluster
	}
	for _, a := range in.Attributes { // all or none
		if i := cl.instance(a.TargetID); i == nil || i.Status == "INACTIVE" {
			return nil, newError("TargetNotFoundException", "The specified target %s was not found.", a.TargetID)
		}
	}
	for _, a := range in.Attributes {
		i := cl.instance(a.TargetID)
		i.attributes = setAttribute(i.attributes, attribute{a.Name, a.Value})
	}
	return map[string]any{"attributes": in.Attributes}, nil
}

// Attributes are those of a container instance, by name; nil for an unknown one.
func (e *Emulator) Attributes(arn string) map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.instance(arn)
	if i == nil {
		return nil
	}
	values := map[string]string{}
	for _, a := range i.attributes {
		values[a.Name] = a.Value
	}
	return values
}
