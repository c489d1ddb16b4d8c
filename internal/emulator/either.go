package emulator

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// either tells TLS from plain HTTP on one port: SSM Agent speaks TLS to the message gateway whatever its configuration
// says, and the ECS agent verifies a WebSocket's certificate against "host:port", so that it needs plain HTTP on every
// port but 443 (amazon-ssm-agent 3.3, session/config; amazon-ecs-agent 1.105.1, wsclient).
type either struct {
	net.Listener
	plain, secured chan net.Conn
	done           chan struct{}
	once           sync.Once
	closed         error // of the port
}

// handshakeRecord is the first byte of every TLS connection. No HTTP method begins with it.
const handshakeRecord = 0x16

// sortOut accepts l's connections. The second listener's are *tls.Conn, which net/http recognises.
func sortOut(l net.Listener, config *tls.Config) (plain, secured net.Listener) {
	e := &either{Listener: l, plain: make(chan net.Conn), secured: make(chan net.Conn), done: make(chan struct{})}
	go func() {
		for {
			conn, err := l.Accept()
			switch {
			case err == nil:
				go e.sort(conn, config)
			case errors.Is(err, net.ErrClosed):
				_ = e.Close()
				return
			default: // no descriptors are left, say; net/http waits as well
				time.Sleep(5 * time.Millisecond)
			}
		}
	}()
	return &half{e, e.plain}, &half{e, e.secured}
}

func (e *either) sort(conn net.Conn, config *tls.Config) {
	c := &peeked{Conn: conn, r: bufio.NewReaderSize(conn, 16)}
	known := make(chan struct{})
	go func() { // a client that says nothing is cut off when the port is closed
		select {
		case <-known:
		case <-e.done:
			_ = conn.Close()
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	first, err := c.r.Peek(1)
	_ = conn.SetReadDeadline(time.Time{})
	close(known)
	if err != nil {
		_ = conn.Close()
		return
	}
	to, sorted := e.plain, net.Conn(c)
	if first[0] == handshakeRecord {
		to, sorted = e.secured, tls.Server(c, config)
	}
	select {
	case to <- sorted:
	case <-e.done:
		_ = conn.Close()
	}
}

// Close ends both halves; each of them is closed by the server.
func (e *either) Close() error {
	e.once.Do(func() {
		e.closed = e.Listener.Close()
		close(e.done)
	})
	return e.closed
}

// half is one kind of connections of a port.
type half struct {
	*either
	conns chan net.Conn
}

func (h *half) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// peeked is a connection whose first byte was looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }
