package emulator

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// controlPath is where faults are armed and disarmed while the emulator serves. AWS has nothing there, and no fault hits it:
//
//	GET    /_anywhere/faults           {"faults":[…]}: those in force
//	PUT    /_anywhere/faults/NAME?calls=N   arms one, for the next N requests or, without, until it is disarmed
//	DELETE /_anywhere/faults/NAME      disarms it; without a name all
//	GET    /_anywhere/expired-key.asc  the key that artifact-expired-key signs with
const controlPath = "/_anywhere/"

// serveControl answers below [controlPath].
func (e *Emulator) serveControl(w http.ResponseWriter, r *http.Request) {
	rest := strings.TrimPrefix(r.URL.Path, controlPath)
	what, name, _ := strings.Cut(rest, "/")
	switch {
	case what == "expired-key.asc" && name == "" && r.Method == http.MethodGet:
		key, err := e.ExpiredKey()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(key) // the client has gone if it fails
	case what != "faults":
		http.NotFound(w, r)
	case r.Method == http.MethodGet && name == "":
		e.writeArmed(w)
	case r.Method == http.MethodPut && name != "":
		if calls := r.URL.Query().Get("calls"); calls != "" {
			if _, err := strconv.Atoi(calls); err != nil {
				http.Error(w, "calls: expected a number", http.StatusBadRequest)
				return
			}
			name += "*" + calls
		}
		if err := e.Fault(name); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		e.writeArmed(w)
	case r.Method == http.MethodDelete:
		for _, f := range e.Armed() {
			if name == "" || f.Name == name {
				e.ClearFault(f.Name)
			}
		}
		e.writeArmed(w)
	default:
		w.Header().Set("Allow", "GET, PUT, DELETE")
		http.Error(w, "GET /_anywhere/faults, PUT or DELETE /_anywhere/faults/NAME", http.StatusMethodNotAllowed)
	}
}

func (e *Emulator) writeArmed(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(struct { // the client has gone if it fails
		Faults []ArmedFault `json:"faults"`
	}{e.Armed()})
}

// reset ends a connection as a broken network or a firewall does: with a TCP reset, and without an answer.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp := bare(conn); tcp != nil {
			_ = tcp.SetLinger(0) // what is sent instead of the orderly end is a reset
			_ = tcp.Close()
		}
		_ = conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// bare is the TCP connection below TLS, and below what has looked for that; nil when there is none.
func bare(conn net.Conn) *net.TCPConn {
	switch c := conn.(type) {
	case *net.TCPConn:
		return c
	case *tls.Conn:
		return bare(c.NetConn())
	case *peeked:
		return bare(c.Conn)
	}
	return nil
}
