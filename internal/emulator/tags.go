package emulator

// tagResource sets tags of a container instance, the only resource that has tags here. Limits and errors: ECS API
// reference, TagResource, read 2026-11-25.
func (e *Emulator) tagResource(c *call) (any, *apiError) {
	var in struct {
		ResourceARN string `json:"resourceArn"`
		Tags        []struct{ Key, Value string }
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if n := len(in.Tags); n == 0 || n > 50 {
		return nil, newError("InvalidParameterException", "Tags must be between 1 and 50.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.instance(in.ResourceARN)
	if i == nil || i.Status == "INACTIVE" {
		return nil, newError("InvalidParameterException", "The specified resource %s was not found or is inactive.", in.ResourceARN)
	}
	for _, t := range in.Tags {
		i.tags = setAttribute(i.tags, attribute{t.Key, t.Value})
	}
	return map[string]any{}, nil
}

// Tags are those of a container instance, by key; nil for an unknown one.
func (e *Emulator) Tags(arn string) map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.instance(arn)
	if i == nil {
		return nil
	}
	values := map[string]string{}
	for _, t := range i.tags {
		values[t.Name] = t.Value
	}
	return values
}

// Mark puts attributes and tags on a container instance, as people do with the API. An unknown ARN is passed over.
func (e *Emulator) Mark(arn string, attributes, tags map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := e.instance(arn)
	if i == nil {
		return
	}
	for name, value := range attributes {
		i.attributes = setAttribute(i.attributes, attribute{name, value})
	}
	for key, value := range tags {
		i.tags = setAttribute(i.tags, attribute{key, value})
	}
}
