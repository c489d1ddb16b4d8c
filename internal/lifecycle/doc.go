// Package lifecycle has one file a verb. Each turns a request and the observed host into a plan for the engine, and reads
// like the runbook that it replaces.
//
// It must not know flags, terminals or JSON text; it returns a Report.
package lifecycle
