package simagent

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"time"
)

// introspect serves the API that tells the container instance's ARN, until ctx ends. The real agent opens
// the port after registration only, and keeps answering with the same ARN whatever becomes of the instance in ECS.
func (a *ECSAgent) introspect(ctx context.Context, l net.Listener, c ecsConfig, arn string, tasks *taskList) {
	mux := http.NewServeMux()
	answer := func(path string, body func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body()) // the client has gone if it fails
		})
	}
	answer("/v1/metadata", func() any {
		return struct{ Cluster, ContainerInstanceArn, Version string }{c.cluster, arn, a.fullVersion()}
	})
	answer("/v1/tasks", func() any { return struct{ Tasks []taskAnswer }{tasks.answer()} })
	answer("/", func() any {
		return struct{ AvailableCommands []string }{[]string{"/v1/metadata", "/v1/tasks", "/license"}}
	})
	server := &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	_ = server.Serve(l) // it ends with ErrServerClosed
}
