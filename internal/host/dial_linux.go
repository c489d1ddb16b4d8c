package host

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// neighbourly dials the machine's own ports without ever being in their way. A connection takes any free port for
// itself, and may happen to take the one that a program on this machine is about to listen on: the ECS agent's 51678 is
// among them, and who asks there before anybody listens can even be connected with itself. For a minute after its end
// (TIME_WAIT) such a connection keeps the port from a listener, unless both allow it to be used again.
func neighbourly() *net.Dialer {
	return &net.Dialer{Control: func(network, _ string, conn syscall.RawConn) error {
		if network == "unix" {
			return nil
		}
		var failed error
		err := conn.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		})
		if err != nil {
			return err
		}
		return failed
	}}
}
