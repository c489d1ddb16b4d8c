// Package platform is the table of operating systems and what is known of each.
//
// It must not look at the machine: the caller brings os-release.
package platform
