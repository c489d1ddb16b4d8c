package emulator

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// gatewayPath is where the message gateway (ssmmessages) has its control channels, by managed node.
const gatewayPath = "/v1/control-channel/"

// channel is an agent's open control channel.
type channel struct{ cancel context.CancelFunc }

// serveGateway is CreateControlChannel: JSON in, XML out, and 201 is the only status that the agent takes for success
// (amazon-ssm-agent 3.3, session/service).
func (e *Emulator) serveGateway(w http.ResponseWriter, r *http.Request) {
	const action = "ssmmessages:CreateControlChannel"
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		return // there is nobody to answer
	}
	id, signer, failed := e.enterGateway(r, body, action)
	var in struct{ MessageSchemaVersion, RequestId string }
	if failed == nil && (json.Unmarshal(body, &in) != nil || in.RequestId == "") {
		failed = newError("InvalidInputException", "the request has no RequestId")
	}
	if failed != nil {
		e.record(action, signer, failed.status, failed.code)
		refuseXML(w, failed)
		return
	}
	token := hexID(32)
	e.mu.Lock()
	e.tokens[token] = id
	e.mu.Unlock()
	e.record(action, signer, http.StatusCreated, "")
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(http.StatusCreated)
	_ = xml.NewEncoder(w).Encode(struct { // the client has gone if it fails
		XMLName              xml.Name `xml:"CreateControlChannelResponse"`
		MessageSchemaVersion string
		TokenValue           string
	}{MessageSchemaVersion: "1.0", TokenValue: token})
}

// refuseXML has the name of the exception as its root: the agent looks for "<AccessDeniedException>" in the text.
func refuseXML(w http.ResponseWriter, failed *apiError) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(failed.status)
	_, _ = io.WriteString(w, "<"+failed.code+">\n  <Message>"+escapeXML(failed.message)+"</Message>\n</"+failed.code+">\n")
}

// enterGateway authenticates a node that wants a channel of its own.
func (e *Emulator) enterGateway(r *http.Request, body []byte, action string) (id, signer string, failed *apiError) {
	id = strings.TrimPrefix(r.URL.Path, gatewayPath)
	if failed = e.upset("ssmmessages"); failed != nil {
		return id, "", failed
	}
	sign, failed := parseSignature(r)
	if failed != nil {
		return id, "", failed
	}
	if sign != nil {
		signer = sign.keyID
	}
	k, failed := e.authenticate(r, sign, body, "ssmmessages")
	if failed != nil {
		return id, signer, failed
	}
	if failed = e.authorize(k, action); failed != nil {
		return id, signer, failed
	}
	if k.node != id {
		return id, signer, e.accessDenied(k, action)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.nodes[id]; n == nil || n.gone {
		return id, signer, unknownNode(id)
	}
	return id, signer, nil
}

// serveControlChannel is OpenControlChannel: a WebSocket whose first frame has to show the token. The agent's pings keep
// it open; the WebSocket's reader answers them.
func (e *Emulator) serveControlChannel(w http.ResponseWriter, r *http.Request) {
	const action = "ssmmessages:OpenControlChannel"
	id, signer, failed := e.enterGateway(r, nil, action)
	if failed != nil {
		e.record(action, signer, failed.status, failed.code)
		refuseXML(w, failed)
		return
	}
	e.record(action, signer, http.StatusSwitchingProtocols, "")
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := e.greet(ctx, conn, id)
	if n == nil {
		_ = conn.Close(websocket.StatusPolicyViolation, "the token is not valid")
		return
	}
	c := &channel{cancel}
	e.mu.Lock()
	n.channels[c] = true
	e.mu.Unlock()
	go e.lookAfter(ctx, conn, cancel)
	e.converse(ctx, conn, signer)
	e.mu.Lock()
	delete(n.channels, c)
	e.mu.Unlock()
}

// lookAfter ends a channel whose agent is not there any more.
func (e *Emulator) lookAfter(ctx context.Context, conn *websocket.Conn, cancel context.CancelFunc) {
	defer cancel()
	ticker := time.NewTicker(e.opts.Heartbeat)
	defer ticker.Stop()
	for e.answers(ctx, conn) {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// greet reads the agent's first frame, OpenControlChannelInput, and finds the node; nil refuses it. A token is good once.
func (e *Emulator) greet(ctx context.Context, conn *websocket.Conn, id string) *node {
	ctx, cancel := context.WithTimeout(ctx, e.opts.PongWait)
	defer cancel()
	kind, data, err := conn.Read(ctx)
	if err != nil || kind != websocket.MessageText {
		return nil
	}
	var in struct{ MessageSchemaVersion, RequestId, TokenValue, AgentVersion, PlatformType string }
	if json.Unmarshal(data, &in) != nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	owner, ok := e.tokens[in.TokenValue]
	delete(e.tokens, in.TokenValue)
	n := e.nodes[id]
	if !ok || owner != id || n == nil || n.gone {
		return nil
	}
	return n
}

// converse takes the agent's messages until one of both ends the channel, and acknowledges the answers to commands: an
// agent sends those again until it is told that they have arrived.
func (e *Emulator) converse(ctx context.Context, conn *websocket.Conn, signer string) {
	for {
		kind, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageBinary {
			continue
		}
		m, err := parseAgentMessage(data)
		if err != nil {
			e.record("ssmmessages:message", signer, http.StatusBadRequest, "InvalidInputException")
			continue
		}
		e.record("ssmmessages:"+m.kind, signer, http.StatusOK, "")
		if m.kind != "agent_job_reply" {
			continue
		}
		var reply struct {
			JobID string `json:"jobId"`
		}
		_ = json.Unmarshal(m.payload, &reply) // an empty id acknowledges nothing
		payload, _ := json.Marshal(map[string]string{"jobId": reply.JobID, "acknowledgedMessageId": m.id})
		answer := agentMessage{kind: "agent_job_reply_ack", id: uuid(), payload: payload, created: e.opts.Now()}
		if conn.Write(ctx, websocket.MessageBinary, answer.bytes()) != nil {
			return
		}
	}
}

// hangUp ends a node's channels.
func (n *node) hangUp() {
	for c := range n.channels {
		c.cancel()
	}
}

// getConnectionStatus tells an operator whether a node's control channel is open.
func (e *Emulator) getConnectionStatus(c *call) (any, *apiError) {
	var in struct{ Target string }
	if failed := c.decode(&in); failed != nil {
		return nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	status := "notconnected"
	if n := e.nodes[in.Target]; n != nil && !n.gone && len(n.channels) > 0 {
		status = "connected"
	}
	return map[string]string{"Target": in.Target, "Status": status}, nil
}
