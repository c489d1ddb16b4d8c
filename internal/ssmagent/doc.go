// Package ssmagent is what is known of the SSM agent: its packages, identity store, credentials, configuration and
// failures.
//
// It must not know ECS.
package ssmagent
