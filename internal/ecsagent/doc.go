// Package ecsagent is what is known of the ECS agent: its packages, configuration, state, introspection, exec
// files and failures.
//
// It must not know SSM registration.
package ecsagent
