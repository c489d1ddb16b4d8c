// Package rehearsal is a throw-away host on emulator and simagent, on which the real commands run.
package rehearsal
