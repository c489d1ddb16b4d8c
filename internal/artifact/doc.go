// Package artifact is where AWS's packages come from: locations, download, verification against pinned keys, the cache.
//
// It must not know what the packages do or how they are installed.
package artifact
