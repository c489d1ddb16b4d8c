package emulator

// nodeSSM are the calls of SSM Agent for features that this account does not use: it has no associations, asks for no
// inventory and has no documents of its own. What a node sends is taken; what it asks for is not there.
var nodeSSM = map[string]operation{
	"ListInstanceAssociations":        (*Emulator).noAssociations, // not in the public API; the agent alone calls it
	"ListAssociations":                (*Emulator).noAssociations,
	"DescribeAssociation":             (*Emulator).noAssociation,
	"UpdateAssociationStatus":         (*Emulator).noAssociation,
	"UpdateInstanceAssociationStatus": (*Emulator).updateInstanceAssociationStatus,
	"PutInventory":                    (*Emulator).takeNote,
	"PutComplianceItems":              (*Emulator).takeNote,
	"PutConfigurePackageResult":       (*Emulator).takeNote,
	"GetDocument":                     (*Emulator).noDocument,
	"DescribeDocument":                (*Emulator).noDocument,
	"GetManifest":                     (*Emulator).noDocument,
	"GetParameter":                    (*Emulator).noParameter,
	"GetParameters":                   (*Emulator).noParameters,
	"GetConnectionStatus":             (*Emulator).getConnectionStatus,
}

func (e *Emulator) noAssociations(c *call) (any, *apiError) {
	var in struct{ InstanceId string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if in.InstanceId != "" {
		if failed := e.itself(c, in.InstanceId); failed != nil {
			return nil, failed
		}
	}
	return map[string]any{"Associations": []any{}}, nil
}

// itself refuses a node that speaks for another, or that is deregistered.
func (e *Emulator) itself(c *call, id string) *apiError {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.nodes[id]; n == nil || n.gone || c.key.node != "" && c.key.node != id {
		return unknownNode(id)
	}
	return nil
}

func (e *Emulator) noAssociation(*call) (any, *apiError) {
	return nil, newError("AssociationDoesNotExist", "The specified association does not exist.")
}

// updateInstanceAssociationStatus echoes the ids as the model has it; there is no association that they could be of.
func (e *Emulator) updateInstanceAssociationStatus(c *call) (any, *apiError) {
	var in struct{ AssociationId, InstanceId string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if failed := e.itself(c, in.InstanceId); failed != nil {
		return nil, failed
	}
	return struct{}{}, nil
}

func (e *Emulator) takeNote(c *call) (any, *apiError) {
	var in map[string]any
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	return struct{}{}, nil
}

func (e *Emulator) noDocument(*call) (any, *apiError) {
	return nil, newError("InvalidDocument", "The specified document does not exist.")
}

func (e *Emulator) noParameter(*call) (any, *apiError) { return nil, newError("ParameterNotFound", "") }

func (e *Emulator) noParameters(c *call) (any, *apiError) {
	var in struct{ Names []string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	return map[string]any{"Parameters": []any{}, "InvalidParameters": in.Names}, nil
}
