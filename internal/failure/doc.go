// Package failure is the one error type that users see: a stable code, what was tried, the evidence, the remedy, and
// through the code's row in [Catalogue] an exit status.
//
// It must not know any other room, nor how an error is printed.
package failure
