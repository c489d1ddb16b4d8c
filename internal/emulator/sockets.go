package emulator

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
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
	conn.SetReadLimit(16 << 20) // an agent's metrics of a host full of tasks
	ctx, cancel := context.WithCancel(context.Background())
	s := &socket{acs: action == "ecs:Poll", cancel: cancel}
	e.open(i, s, r)
	defer cancel()
	switch {
	case s.acs && simulated(r):
		go swallow(ctx, cancel, conn)
		go e.payloads(ctx, conn, i)
	case s.acs:
		d := &direction{e: e, i: i, conn: conn, signer: signer, waiting: map[string][]delivery{}}
		go d.listen(ctx, cancel)
		go d.direct(ctx, r.URL.Query().Get("sendCredentials") == "true")
	case simulated(r):
		go swallow(ctx, cancel, conn)
	default:
		go e.telemetry(ctx, cancel, conn, r)
	}
	e.heartbeat(ctx, conn)
	e.shut(i, s) // at once: an agent that is gone keeps Close waiting
	_ = conn.Close(websocket.StatusNormalClosure, "ConnectionExpired: Reconnect to continue")
}

// simulated tells the agents that play their tasks' life by what the emulator says of it. All others run them, and
// report.
func simulated(r *http.Request) bool { return r.Header.Get("Anywhere-Simulated-Agent") != "" }

// swallow reads an agent's frames and drops them, so that pings and closing work.
func swallow(ctx context.Context, cancel context.CancelFunc, conn *websocket.Conn) {
	defer cancel()
	for {
		if _, _, err := conn.Read(ctx); err != nil {
			return
		}
	}
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
	if e.faulty(FaultAgentNeverConnects) {
		return action, "", nil, &apiError{http.StatusInternalServerError, "ServerException", "An internal error occurred."}
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
		i.Runs = !simulated(r)
		for _, t := range e.on(i.ARN) {
			t.Runs = i.Runs
		}
	}
}

func (e *Emulator) shut(i *instance, s *socket) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(i.sockets, s)
}

// payloads writes the instance's tasks when the socket opens and whenever they have changed. The message is ECS's
// PayloadMessage with one field that is ours: the containers run nowhere, so "simulatedStatus" plays what an agent would
// find out about them itself.
func (e *Emulator) payloads(ctx context.Context, conn *websocket.Conn, i *instance) {
	ticker := time.NewTicker(min(max(e.opts.TaskTime/8, 20*time.Millisecond), time.Second))
	defer ticker.Stop()
	told := ""
	for {
		if text := e.payload(i); text != told {
			told = text
			message, _ := json.Marshal(map[string]any{ // what was marshalled before, and strings
				"type": "PayloadMessage", "message": map[string]any{
					"messageId": uuid(), "containerInstanceArn": i.ARN, "tasks": json.RawMessage(text),
				},
			})
			if conn.Write(ctx, websocket.MessageText, message) != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// payload is the instance's tasks as JSON, stopped ones too.
func (e *Emulator) payload(i *instance) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settle()
	tasks := []any{}
	for _, t := range e.tasks {
		if t.Instance != i.ARN {
			continue
		}
		containers := []any{}
		for _, c := range t.Containers {
			containers = append(containers, map[string]string{"name": c.Name, "image": c.Image, "simulatedId": c.DockerID})
		}
		tasks = append(tasks, map[string]any{
			"arn": t.ARN, "family": t.Family, "version": strconv.Itoa(t.Revision), "desiredStatus": t.Desired,
			"containers": containers, "simulatedStatus": t.Last,
		})
	}
	text, _ := json.Marshal(tasks) // strings always marshal
	return string(text)
}

// heartbeat writes one message at once and then one a period, until the agent or the service ends the connection, or the
// agent is not there any more.
func (e *Emulator) heartbeat(ctx context.Context, conn *websocket.Conn) {
	ticker := time.NewTicker(e.opts.Heartbeat)
	defer ticker.Stop()
	for {
		text, _ := json.Marshal(map[string]any{ // strings and a bool always marshal
			"type": "HeartbeatMessage", "message": map[string]any{"messageId": uuid(), "healthy": true},
		})
		if conn.Write(ctx, websocket.MessageText, text) != nil || !e.answers(ctx, conn) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// answers reports whether the other end is there: what is written to a machine that lost its power vanishes without an
// error. Somebody has to read from conn meanwhile.
func (e *Emulator) answers(ctx context.Context, conn *websocket.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, e.opts.PongWait)
	defer cancel()
	return conn.Ping(ctx) == nil
}

// pollBase is where the agent finds its sockets. It verifies their certificate against "host:port", which no certificate
// can be for, so that only port 443, which it leaves out, can have TLS (amazon-ecs-agent 1.105.1, wsclient). On another
// port it is sent to plain HTTP, if the emulator has that there.
func (e *Emulator) pollBase(r *http.Request) string {
	_, port, err := net.SplitHostPort(r.Host)
	switch {
	case err == nil && port == "443":
		return scheme(r) + strings.TrimSuffix(r.Host, ":443")
	case err == nil && e.opts.Authority != nil:
		return "http://" + r.Host
	}
	return scheme(r) + r.Host
}
