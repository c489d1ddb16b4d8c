// Package report turns events and reports into text for people and JSON for programs.
//
// It must not decide anything: no exit statuses, no verdicts.
package report
