// Package preflight looks whether a machine can become an external instance. A check is a value; the runner runs them
// concurrently under one time-out and changes nothing.
//
// It must not know verbs or how a result is shown. A check and a step that look at the same thing call the same reader.
package preflight
