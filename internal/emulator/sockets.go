package emulator

import "context"

// socket is an agent's open connection to ACS or TCS.
type socket struct {
	acs    bool
	cancel context.CancelFunc
}
