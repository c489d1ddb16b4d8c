// Package partition is what differs between AWS's partitions and Regions: suffixes, endpoints, buckets.
//
// It must not talk to anything.
package partition
