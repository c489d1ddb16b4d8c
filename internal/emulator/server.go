package emulator

import "net/http"

// ServeHTTP answers every service: AWS JSON 1.1 by X-Amz-Target, STS's query protocol, the agents' sockets, the buckets.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "not yet", http.StatusNotImplemented)
}
