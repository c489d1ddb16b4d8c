package host

// Real is this machine.
func Real() (Host, error) { panic("not yet") }
