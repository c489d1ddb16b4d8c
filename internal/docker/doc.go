// Package docker is what is known of Docker: presence, flavour, versions, over its socket.
//
// Of the ECS agent it knows only which API versions it speaks, and nothing of what it is for.
package docker
