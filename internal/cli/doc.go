// Package cli is the command line: one file a command, flags to a request, the request to a verb, its report to the
// renderer.
//
// It must not know how anything is done.
package cli
