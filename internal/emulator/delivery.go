package emulator

import (
	"net/http"
	"time"
)

// deliveryOperations are ec2messages, which SSM Agent asks until its control channel is up. No message waits here.
var deliveryOperations = map[string]operation{
	"GetMessages":        (*Emulator).getMessages,
	"GetEndpoint":        (*Emulator).getMessageEndpoint,
	"AcknowledgeMessage": (*Emulator).aboutMessage,
	"DeleteMessage":      (*Emulator).aboutMessage,
	"FailMessage":        (*Emulator).aboutMessage,
	"SendReply":          (*Emulator).aboutMessage,
}

func (e *Emulator) getMessages(c *call) (any, *apiError) {
	var in struct {
		Destination, MessagesRequestId string
		VisibilityTimeoutInSeconds     int
	}
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if failed := e.destination(c, in.Destination); failed != nil {
		return nil, failed
	}
	select {
	case <-c.Context().Done():
	case <-time.After(e.opts.MessageWait):
	}
	return map[string]any{
		"Destination": in.Destination, "Messages": []any{}, "MessagesRequestId": in.MessagesRequestId,
	}, nil
}

// destination refuses a node that asks for another's messages, or that is deregistered.
func (e *Emulator) destination(c *call, id string) *apiError {
	if c.key.node != id {
		return e.accessDenied(c.key, "ec2messages:"+c.name)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.nodes[id]; n == nil || n.gone {
		return unknownNode(id)
	}
	return nil
}

func (e *Emulator) getMessageEndpoint(c *call) (any, *apiError) {
	var in struct{ Destination string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	if failed := e.destination(c, in.Destination); failed != nil {
		return nil, failed
	}
	return map[string]any{"Endpoint": scheme(c.Request) + c.Host}, nil
}

// aboutMessage takes what an agent says about a message.
func (e *Emulator) aboutMessage(c *call) (any, *apiError) {
	var in struct{ MessageId string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	return struct{}{}, nil
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https://"
	}
	return "http://"
}
