// Package docker is what is known of Docker: presence, flavour, versions, over its socket.
//
// It must not know the agents.
package docker
