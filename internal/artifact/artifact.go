package artifact

import (
	"context"
	"net/http"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// Product is one of AWS's two packages, under the name that the package managers know it by.
type Product string

// The packages that make an external instance.
const (
	ECSInit  Product = "amazon-ecs-init"
	SSMAgent Product = "amazon-ssm-agent"
)

// Package families, as host.ManagerState.Family has them.
const (
	Deb = "deb"
	RPM = "rpm"
)

// Latest is the version that stands for the newest one; an empty version means the same.
const Latest = "latest"

// Ref names a package.
type Ref struct {
	Product Product
	Version string // empty or Latest is not yet resolved
	Family  string // Deb or RPM
	Arch    string // amd64 or arm64, Go's names
	Region  string // whose bucket it comes from
}

// Package is a verified package in the cache.
type Package struct {
	Ref
	Path           string // path of the host
	Size           int64  // bytes
	SHA256         string // hex
	KeyFingerprint string // of the primary key, upper-case hex
	SignedAt       time.Time
}

// Source fetches packages from AWS or a mirror into a cache. Its fields are set once, before its first use; then it
// may be used by several goroutines, but not for the same package at the same time.
type Source struct {
	// Base takes the place of AWS: an http or https URL, or an absolute folder of the host. What lies below it is laid out
	// as in AWS's buckets, the bucket's name first. Empty is AWS.
	Base     string
	IPv6     bool         // AWS is reached by the names that have IPv6
	HTTP     *http.Client // nil is http.DefaultClient
	Keys     *Keyring
	Disk     host.Disk
	Files    host.Files
	CacheDir string // /var/lib/anywhere/packages
	Now      func() time.Time
	// Backoff is how long to wait after the attempt-th failure in a row, counted from 1. nil is Backoff.
	Backoff func(attempt int) time.Duration
	// Stall is how long no byte may come before a connection counts as dead. Zero is DefaultStall.
	Stall time.Duration

	mirrors bool       // CacheDir is a mirror: see Mirror
	owner   host.Owner // of what is written
}

// DefaultStall is long enough for a satellite link and short enough for an operator who waits.
const DefaultStall = 30 * time.Second

type progressKey struct{}

// WithProgress returns a context under which Fetch reports the bytes that are there and the bytes that will be, zero
// while that is unknown. report is called from Fetch's goroutine and must not block.
func WithProgress(ctx context.Context, report func(done, total int64)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

func progress(ctx context.Context, done, total int64) {
	if report, ok := ctx.Value(progressKey{}).(func(done, total int64)); ok {
		report(done, total)
	}
}
