// Package secret keeps secrets out of what people read: a string that does not print itself, and a redactor that every
// log line, event, journal entry and document passes through.
//
// It must not know what the secrets are for.
package secret
