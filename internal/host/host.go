package host

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"time"
)

// Reader is the machine to look at.
type Reader struct {
	Files    Files
	Packages PackageReader
	Units    UnitReader
	Kernel   Kernel
	Dial     func(ctx context.Context, network, address string) (net.Conn, error) // Docker's socket, introspection
	Network  Network
	Now      func() time.Time
	Self     Self
}

// Network is the way out of the machine, as its agents have it.
type Network struct {
	// Lookup resolves a name by the machine's own resolver.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)
	// Dial connects to "IP:port".
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Roots are the certificate authorities that are trusted; nil are the system's.
	Roots *x509.CertPool
}

// Host is the machine to change.
type Host struct {
	Reader
	Disk     Disk
	Packager Packager
	Manager  Manager
	Runner   Runner
	// Snaps is nil on a host that is never asked for a snap.
	Snaps Snaps
	// Repositories is nil on a host that is never asked for a package which is not at hand.
	Repositories Repositories
}

// Self is what is known about this process and the machine it was built for.
type Self struct {
	EUID   int
	GOOS   string // linux or windows
	GOARCH string // amd64 or arm64; anything else is refused
}

// Files reads absolute paths of the machine. In a test or rehearsal they are rooted in a folder.
type Files interface {
	// ReadFile reads a file of at most 16 MiB; a larger one is an error.
	ReadFile(path string) ([]byte, error)
	Open(path string) (fs.File, error)
	Stat(path string) (fs.FileInfo, error)
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
	Readlink(path string) (string, error)
	// Space tells the bytes that root may still write on the file system that holds path, or its nearest existing parent.
	// One that is mounted read-only is an error, failure.ReadOnly.
	Space(path string) (free uint64, err error)
}

// Owner of a file; on Windows it is zero.
type Owner struct{ UID, GID int }

// Disk changes files. Every write is whole or not at all, and on the disk when it returns: a temporary file in the same
// folder, fsync, rename, fsync of the folder.
type Disk interface {
	// WriteFile makes or replaces the file that path finally names (a symbolic link is followed, not replaced), with this
	// mode and owner. Missing parents are made with mode 0755.
	WriteFile(path string, data io.Reader, mode fs.FileMode, owner Owner) error
	// Rename moves a file or folder within one file system. The target must not exist.
	Rename(from, to string) error
	// Mkdir makes a folder; an existing one is left as it is.
	Mkdir(path string, mode fs.FileMode, owner Owner) error
	// Symlink makes or atomically replaces the symbolic link at path.
	Symlink(target, path string) error
	// Remove removes one file, symbolic link or empty folder. A missing one is no error.
	Remove(path string) error
	// RemoveAll removes a tree without following symbolic links. It refuses, before anything is removed, when a mount
	// point lies at or below path or when a parent of path is a symbolic link.
	RemoveAll(path string) error
	// Removable is the error with which RemoveAll would refuse path; it changes nothing. Something mounted on a file counts too.
	Removable(path string) error
	// Append opens path for appending, made with mode 0600 when missing; Sync of the result reaches the disk.
	Append(path string) (AppendFile, error)
	// Owner tells who owns path, without following a symbolic link.
	Owner(path string) (Owner, error)
	// Local is the path that a child process or a library uses for path: below the root in a rehearsal.
	Local(path string) string
}

// AppendFile is an open journal or log.
type AppendFile interface {
	io.WriteCloser
	Sync() error
}

// Cmd is a child process to run. Its environment is an allow-list: PATH, LANG=C.UTF-8, HOME=/root when unset, TERM=dumb,
// proxy variables, plus Env.
type Cmd struct {
	Path   string
	Args   []string // without the program's name
	Env    []string
	Stdin  io.Reader
	Secret []string // arguments that logs and errors must not show
	// Disposable is a child that only fills a cache: unlike any other it is ended when ctx ends.
	Disposable bool
}

// Result is how a child ended.
type Result struct {
	ExitCode int    // -1 when a signal ended it
	Output   string // stdout and stderr together, the last 64 KiB
}

// Child is a process that a change started. PID with Started (clock ticks since boot, as in /proc/PID/stat) names it for
// good, so that a later run can wait for one that outlived its parent. PID 0 is a child that is about to start: a parent
// that is killed just then leaves one whose pid nobody has written down.
type Child struct {
	PID     int      `json:"pid"`
	Started uint64   `json:"started"`
	Argv    []string `json:"argv"` // secrets masked
}

// Runner runs children: each in its own process group, so that Ctrl-C in the terminal does not reach them, and never
// killed when ctx ends. Run returns an error only when the child could not be started; an exit status is in the Result.
type Runner interface {
	Run(ctx context.Context, cmd Cmd) (Result, error)
	// Wait returns when the child is gone, or ctx ends. A child that is not running any more, or whose pid now belongs to
	// another process, is gone. One with PID 0 is looked for by its arguments.
	Wait(ctx context.Context, child Child) error
}

type childHook struct{}

// WithChildHook returns a context under which a Runner calls hook with each child: just before it starts, then with PID 0,
// and once it has started.
func WithChildHook(ctx context.Context, hook func(Child)) context.Context {
	return context.WithValue(ctx, childHook{}, hook)
}

// ChildHook is the hook in ctx; it is never nil.
func ChildHook(ctx context.Context) func(Child) {
	if hook, ok := ctx.Value(childHook{}).(func(Child)); ok {
		return hook
	}
	return func(Child) {}
}

// Package is what the package manager knows of one package.
type Package struct {
	Name      string
	Version   string // the manager's own form, like 1.105.1-1; empty when not installed
	Installed bool   // completely: unpacked and configured
	Residual  bool   // removed, but for its configuration files
	Partial   bool   // interrupted: unpacked, half-configured, half-installed
	Held      bool
	// Snap says that it is no package of the package manager's but a snap of that name; Beside, that such a snap stands beside
	// the package.
	Snap   bool `json:",omitempty"`
	Beside bool `json:",omitempty"`
}

// ManagerState is the package manager's own health.
type ManagerState struct {
	Family      string // deb, rpm; empty when there is none that is known
	Manager     string // apt, yum, dnf, dnf5, zypper: what gets packages out of repositories
	LockedBy    string // "pid 123 (apt-get)" or "another process"; empty when free
	ListsBy     string // who brings the lists of packages up to date, in the same words: only what needs them waits
	Interrupted bool   // must be repaired before it does anything else
	Unfinished  []UnfinishedPackage
	Databases   []string // folders in which it may keep its database, besides the usual ones
}

// UnfinishedPackage is one in which the package manager was interrupted.
type UnfinishedPackage struct {
	Name, State string // the state in the package manager's own word
	Reinstall   bool   // only its package file can repair it; others can be configured
}

// PackageReader asks the package manager's database. It changes nothing; dpkg's database it reads itself, rpm it has to ask.
type PackageReader interface {
	Package(name string) (Package, error)
	State() (ManagerState, error)
}

// Packager changes packages. Children are run by the host's Runner.
type Packager interface {
	// Install installs a package file, older or newer than the installed one, without asking anything and keeping changed
	// configuration files. file is a path of the host (see Disk).
	Install(ctx context.Context, file string) error
	// Remove removes a package; with purge its configuration files too. Nothing else is removed with it.
	Remove(ctx context.Context, name string, purge bool) error
	// Repair finishes what was interrupted.
	Repair(ctx context.Context) error
}

// PackageSet is packages to install with all that they depend on.
type PackageSet struct {
	Names  []string
	Dir    string // a folder of our own for lists and packages
	Source string // a repository besides the host's own, as sources.list(5) or a .repo file has it; may be empty
	Key    string // a file with the key that signs what comes from Source, or from the host's own list of it; where neither names it
	Enable string // one of the host's own repositories that is off; may be empty
	Again  bool   // what an earlier Fetch has brought will do, if it is all there
}

// PlannedPackage is one that installing a set installs or replaces.
type PlannedPackage struct {
	Name    string
	Before  string // the version that is installed; empty when none is
	Version string
}

// Repositories installs packages with what they depend on, out of package repositories.
type Repositories interface {
	// Fetch downloads all that installing the set needs, verified by the package manager, and changes nothing outside
	// set.Dir. It returns what installing would do; a set for which an installed package would have to go is refused.
	Fetch(ctx context.Context, set PackageSet) ([]PlannedPackage, error)
	// Planned tells the same anew, from what was fetched.
	Planned(ctx context.Context, set PackageSet) ([]PlannedPackage, error)
	// InstallSet installs what was fetched, after finishing what was interrupted. It needs no network.
	InstallSet(ctx context.Context, set PackageSet) error
	// Purge removes the set's packages, calls between, and then removes their configuration. It is ErrNeeded, and nothing
	// is removed, when a package that is not named depends on one. Those that are not there do not matter.
	Purge(ctx context.Context, set PackageSet, between func() error) error
}

// ErrNeeded says that a package cannot go because another depends on it.
var ErrNeeded = errors.New("another package depends on it")

// Unit is what the service manager knows of one unit.
type Unit struct {
	Name        string
	Loaded      bool   // a unit file exists
	Active      string // active, inactive, failed, activating, deactivating, reloading
	Sub         string // running, dead, auto-restart, …
	Enabled     string // enabled, disabled, static, masked, …; empty when not loaded
	Result      string // success, exit-code, signal, start-limit-hit, …
	MainPID     int
	Restarts    int // NRestarts; only grows when systemd itself restarted the unit
	ExitStatus  int // ExecMainStatus
	ActiveSince time.Time
	DropIns     []string // paths
	FragmentAt  string   // the unit file's path
}

// Running reports whether the unit is up; it says nothing about health.
func (u Unit) Running() bool { return u.Active == "active" && u.Sub == "running" }

// IsEnabled reports whether the unit starts at boot.
func (u Unit) IsEnabled() bool { return u.Enabled == "enabled" || u.Enabled == "enabled-runtime" }

// UnitReader asks the service manager.
type UnitReader interface {
	// Unit returns a Unit with Loaded false for one that does not exist.
	Unit(ctx context.Context, name string) (Unit, error)
	// Available reports an error when no service manager answers.
	Available(ctx context.Context) error
}

// Manager changes units. A job counts as done only when the manager says so.
type Manager interface {
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string) error
	Restart(ctx context.Context, name string) error
	Enable(ctx context.Context, name string) error
	Disable(ctx context.Context, name string) error
	Reload(ctx context.Context) error // daemon-reload
}

// CgroupMode is how the control groups are mounted.
type CgroupMode string

// Cgroup modes; hybrid counts as v1 for the ECS agent.
const (
	CgroupV1      CgroupMode = "v1"
	CgroupHybrid  CgroupMode = "hybrid"
	CgroupV2      CgroupMode = "v2"
	CgroupUnknown CgroupMode = "unknown"
)

// Kernel is what the running kernel says.
type Kernel interface {
	Cgroup() CgroupMode
	// SELinux is disabled, permissive or enforcing.
	SELinux() string
	AppArmor() bool
	// Container is the container manager's name (docker, systemd-nspawn, lxc, …) or empty. It is a fact, not a verdict.
	Container() string
	Release() string
}
