package emulator

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// socket is an agent's open connection to ACS or TCS.
type socket struct {
	acs    bool
	cancel context.CancelFunc
}

// serveSocket is ACS (/acs/ws) and TCS (/tcs/ws). A refusal is the exception's name and text as the agent reads it from
// a handshake that is not answered with 101.
func (e *Emulator) serveSocket(w http.ResponseWriter, r *http.Request) {
	action, signer, i, failed := e.admit(r)
	if failed != nil {
		e.record(action, signer, failed.status, failed.code)
		w.WriteHeader(failed.status)
		_ = json.NewEncoder(w).Encode(map[string]string{failed.code: failed.message})
		return
	}
	// The log has the attempt before the handshake answers, so that a client which is connected finds its line.
	e.record(action, signer, http.StatusSwitchingProtocols, "")
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &socket{acs: action == "ecs:Poll", cancel: cancel}
	e.open(i, s, r)
	defer e.shut(i, s)
	defer cancel()
	go func() { // frames from the agent: acknowledgements and metrics, read so that pings and closing work
		defer cancel()
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				return
			}
		}
	}()
	e.heartbeat(ctx, conn)
	_ = conn.Close(websocket.StatusNormalClosure, "ConnectionExpired: Reconnect to continue")
}

// admit authenticates an agent and finds its container instance.
func (e *Emulator) admit(r *http.Request) (action, signer string, i *instance, failed *apiError) {
	q := r.URL.Query()
	action, arn := "ecs:Poll", q.Get("containerInstanceArn")
	if strings.HasPrefix(r.URL.Path, "/tcs") {
		action, arn = "ecs:StartTelemetrySession", q.Get("containerInstance")
	}
	if failed = e.upset("ecs"); failed != nil {
		return action, "", nil, failed
	}
	sign, failed := parseSignature(r)
	if failed != nil {
		return action, "", nil, failed
	}
	if sign != nil {
		signer = sign.keyID
	}
	k, failed := e.authenticate(r, sign, nil, "ecs")
	if failed != nil {
		return action, signer, nil, failed
	}
	if failed = e.authorize(k, action); failed != nil {
		return action, signer, nil, failed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	i = e.instance(arn)
	switch {
	case i == nil:
		return action, signer, nil, newError("InvalidInstanceException", "Unknown container instance %s", arn)
	case i.Status == "INACTIVE":
		return action, signer, nil, newError("InactiveInstanceException", "Container instance is inactive.")
	}
	return action, signer, i, nil
}

func (e *Emulator) open(i *instance, s *socket, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i.sockets[s] = true
	if q := r.URL.Query(); s.acs {
		i.AgentVersion, i.AgentHash, i.Docker = q.Get("agentVersion"), q.Get("agentHash"), q.Get("dockerVersion")
	}
}

func (e *Emulator) shut(i *instance, s *socket) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(i.sockets, s)
}

// heartbeat writes one message at once and then one a period, until the agent or the service ends the connection.
func (e *Emulator) heartbeat(ctx context.Context, conn *websocket.Conn) {
	ticker := time.NewTicker(e.opts.Heartbeat)
	defer ticker.Stop()
	for {
		text, _ := json.Marshal(map[string]any{ // strings and a bool always marshal
			"type": "HeartbeatMessage", "message": map[string]any{"messageId": uuid(), "healthy": true},
		})
		if conn.Write(ctx, websocket.MessageText, text) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
