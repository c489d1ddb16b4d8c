package emulator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/textproto"

	"github.com/coder/websocket"
)

// telemetryAnswers are the acknowledgements of what an agent publishes, by its message.
var telemetryAnswers = map[string]string{
	"PublishMetricsRequest": "AckPublishMetric", "PublishHealthRequest": "AckPublishHealth",
	"PublishInstanceStatusRequest": "AckPublishInstanceStatus",
}

// telemetry takes an agent's metrics until one of both ends the socket. Each frame is signed like a request of its own,
// whose header stands before the message (amazon-ecs-agent 1.105.1, ecs-agent/tcs/client).
func (e *Emulator) telemetry(ctx context.Context, cancel context.CancelFunc, conn *websocket.Conn, r *http.Request) {
	defer cancel()
	arn := r.URL.Query().Get("containerInstance") // admit has found it
	for {
		_, data, err := conn.Read(ctx)
		if err != nil {
			return
		}
		kind, body, signer, failed := e.published(r, data)
		if failed != nil {
			e.record("ecs:StartTelemetrySession", signer, failed.status, failed.code)
			continue
		}
		if kind == "PublishHealthRequest" {
			e.healthy(arn, body)
		}
		answer, ok := telemetryAnswers[kind]
		if !ok {
			continue
		}
		text, _ := json.Marshal(map[string]any{ // strings always marshal
			"type": answer, "message": map[string]string{"message": "ACK"},
		})
		if conn.Write(ctx, websocket.MessageText, text) != nil {
			return
		}
	}
}

// published takes a frame apart and verifies it.
func (e *Emulator) published(handshake *http.Request, frame []byte) (kind string, body []byte, signer string, failed *apiError) {
	header, body, found := bytes.Cut(frame, []byte("\r\n\r\n"))
	if !found {
		return "", nil, "", newError("BadRequestException", "the message has no header")
	}
	fields, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(header, "\r\n\r\n"...)))).ReadMIMEHeader()
	if err != nil {
		return "", nil, "", newError("BadRequestException", "the message's header is not one of HTTP")
	}
	r := &http.Request{
		Method: http.MethodGet, URL: handshake.URL, Header: http.Header(fields), Host: fields.Get("Host"),
		ContentLength: int64(len(body)),
	}
	sign, failed := parseSignature(r)
	if failed != nil {
		return "", nil, "", failed
	}
	if sign != nil {
		signer = sign.keyID
	}
	k, failed := e.authenticate(r, sign, body, "ecs")
	if failed == nil {
		failed = e.authorize(k, "ecs:StartTelemetrySession")
	}
	var message struct{ Type string }
	if failed == nil && json.Unmarshal(body, &message) != nil {
		failed = newError("BadRequestException", "the message is not JSON")
	}
	return message.Type, body, signer, failed
}

// healthy keeps what an agent publishes of the health of its instance's containers.
func (e *Emulator) healthy(arn string, body []byte) {
	var in struct {
		Message struct {
			Tasks []struct {
				TaskARN    string `json:"taskArn"`
				Containers []struct {
					ContainerName string `json:"containerName"`
					HealthStatus  string `json:"healthStatus"`
				} `json:"containers"`
			} `json:"tasks"`
		} `json:"message"`
	}
	if json.Unmarshal(body, &in) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, reported := range in.Message.Tasks {
		t := e.task(reported.TaskARN)
		if t == nil || t.Instance != arn {
			continue
		}
		for _, c := range reported.Containers {
			for n := range t.Containers {
				if t.Containers[n].Name == c.ContainerName {
					t.Containers[n].Health = c.HealthStatus
				}
			}
		}
	}
}
