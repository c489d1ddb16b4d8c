package host

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"
)

// Real is this machine. Where something is not built for its platform, the part's own methods say so
// (failure.NotBuilt, failure.NoSystemd) when they are used.
func Real() (Host, error) {
	files := NewDir("/")
	runner := NewRunner()
	packages := NewPackageManager(files, files, runner)
	units := NewSystemd()
	reader := Reader{
		Files:    files,
		Packages: WithSnaps(packages, files),
		Units:    units,
		Kernel:   NewKernel(files),
		Dial:     neighbourly().DialContext,
		Network: Network{
			Lookup: func(ctx context.Context, name string) ([]netip.Addr, error) {
				return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
			},
			Dial: (&net.Dialer{}).DialContext,
		},
		Now:  time.Now,
		Self: Self{EUID: os.Geteuid(), GOOS: runtime.GOOS, GOARCH: runtime.GOARCH},
	}
	return Host{
		Reader: reader, Disk: files, Packager: packages, Manager: units, Runner: runner,
		Snaps: NewSnapd(files, runner), Repositories: packages,
	}, nil
}
