package emulator

// updateManagedInstanceRole changes the role of a node, as an operator does.
func (e *Emulator) updateManagedInstanceRole(c *call) (any, *apiError) {
	var in struct{ InstanceId, IamRole string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if failed := e.usable(in.IamRole); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.nodes[in.InstanceId]
	if n == nil || n.gone {
		return nil, unknownNode(in.InstanceId)
	}
	n.Role = in.IamRole
	return struct{}{}, nil
}
