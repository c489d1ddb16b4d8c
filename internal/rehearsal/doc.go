// Package rehearsal is a throw-away host on emulator and simagent, on which the real commands run: no AWS account, no
// root. Files lie below a temporary folder, packages are real Debian archives or rpms signed by a throw-away key, units start
// goroutines, and Docker is a socket that knows as much as the agents ask of it.
//
// It must not do any of the product's work itself: every line that it shows is a command line that was executed.
package rehearsal
