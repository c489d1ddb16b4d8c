package host

import (
	"io"
	"net"
	"testing"
)

// A connection of ours that has just ended at a port does not keep a program from listening there.
func TestDialLeavesPortsToListeners(t *testing.T) {
	peer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	go func() {
		for {
			c, err := peer.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	ended := func(d *net.Dialer) (port string) {
		c, err := d.DialContext(t.Context(), "tcp", peer.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		// Whoever ends it first has to remember it.
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return c.LocalAddr().String()
	}
	if l, err := net.Listen("tcp", ended(&net.Dialer{})); err == nil {
		_ = l.Close()
		t.Error("a plain connection does not keep the port either: this test shows nothing")
	}
	l, err := net.Listen("tcp", ended(neighbourly()))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
