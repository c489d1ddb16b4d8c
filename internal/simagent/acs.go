package simagent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// converse keeps the sockets to ACS and TCS open until ctx ends. Nothing that happens here ends the agent.
func (a *ECSAgent) converse(ctx context.Context, c ecsConfig, arn string, tasks *taskList, log logfmt) {
	if a.Fault == FaultDeaf {
		<-ctx.Done()
		return
	}
	var found struct{ Endpoint, TelemetryEndpoint string }
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := a.ecsCall(ctx, c, "DiscoverPollEndpoint", map[string]string{
			"cluster": c.cluster, "containerInstance": arn, "zoneId": "",
		}, &found, log)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		log.error("ACS: Unable to discover poll endpoint", "error", err.Error())
		if a.pause(ctx, wait) != nil {
			return
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		a.connected(ctx, c, tasks, log, "ACS", found.Endpoint, url.Values{
			"clusterArn": {c.cluster}, "containerInstanceArn": {arn}, "agentVersion": {a.version()}, "agentHash": {commit},
			"dockerVersion": {"DockerVersion: 27.3.1"}, "protocolVersion": {"2"}, "seqNum": {"1"}, "sendCredentials": {"true"},
		})
	})
	both.Go(func() {
		a.connected(ctx, c, nil, log, "TCS", found.TelemetryEndpoint, url.Values{
			"cluster": {c.cluster}, "containerInstance": {arn}, "agentVersion": {a.version()}, "agentHash": {commit},
			"dockerVersion": {"27.3.1"},
		})
	})
	both.Wait()
}

// connected connects again and again: at once after an orderly end, after an hour when the instance is deregistered,
// otherwise with a growing pause.
func (a *ECSAgent) connected(
	ctx context.Context, c ecsConfig, tasks *taskList, log logfmt, name, endpoint string, q url.Values,
) {
	wait := 250 * time.Millisecond
	for ctx.Err() == nil {
		conn, err := a.dial(ctx, c, strings.TrimSuffix(endpoint, "/")+"/ws?"+q.Encode(), log)
		switch {
		case err == nil:
			wait = 250 * time.Millisecond
			log.info("Connected to " + name + " endpoint")
			a.listen(ctx, conn, tasks, q)
			if ctx.Err() == nil {
				log.info(name + " WebSocket connection closed")
			}
		case ctx.Err() != nil:
		case strings.Contains(err.Error(), "InactiveInstanceException"):
			log.error("Failed to connect to "+name, "error", err.Error())
			log.info("Container instance is deregistered")
			log.info("Waiting before reconnecting to "+name, "reconnectDelay", "1h0m0s")
			_ = a.clock().Sleep(ctx, time.Hour) // its only error is the end of ctx
			continue
		default:
			log.error("Failed to connect to "+name, "error", err.Error())
		}
		_ = a.pause(ctx, wait)
		wait = min(wait*3/2, 2*time.Minute)
	}
}

func (a *ECSAgent) dial(ctx context.Context, c ecsConfig, target string, log logfmt) (*websocket.Conn, error) {
	keys, err := a.credentials(c, log)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	if err := a.signV4(keys, "ecs", c.region)(r, nil); err != nil {
		return nil, err
	}
	r.Header.Set("Anywhere-Simulated-Agent", "1") // the emulator plays its tasks; unsigned, as it is no part of the protocol
	conn, answer, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: a.HTTP, HTTPHeader: r.Header})
	if err != nil && answer != nil && answer.Body != nil {
		if named := handshakeError(answer.Body); named != nil {
			return nil, named
		}
	}
	return conn, err
}

// handshakeError reads a refusal: one exception's name with its text.
func handshakeError(body io.Reader) error {
	var shape map[string]string
	if json.NewDecoder(body).Decode(&shape) != nil {
		return nil
	}
	for name, text := range shape {
		return fmt.Errorf("%s: %s", name, text)
	}
	return nil
}

// listen acknowledges heartbeats and takes tasks until the socket or ctx ends.
func (a *ECSAgent) listen(ctx context.Context, conn *websocket.Conn, tasks *taskList, q url.Values) {
	defer conn.CloseNow()
	conn.SetReadLimit(-1) // a host's tasks are one message
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		var in struct {
			Type    string
			Message struct {
				MessageID string `json:"messageId"`
				Tasks     []taskMessage
			}
		}
		if json.Unmarshal(data, &in) != nil || !q.Has("clusterArn") {
			continue
		}
		if in.Type == "PayloadMessage" {
			tasks.take(in.Message.Tasks)
		}
		if in.Type != "HeartbeatMessage" {
			continue
		}
		ack, _ := json.Marshal(map[string]any{ // strings always marshal
			"type": "HeartbeatAckRequest", "message": map[string]string{"messageId": in.Message.MessageID},
		})
		if conn.Write(ctx, websocket.MessageText, ack) != nil {
			return
		}
	}
}
