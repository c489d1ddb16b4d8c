package lifecycle

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const (
	proxyStepID = "proxy"
	dockerUnit  = "docker.service"
	// riskDocker is the risk of ending containers by a restart of Docker.
	riskDocker = "docker-restart"
)

// proxying is how a proxy is to be told to everybody.
type proxying struct {
	files   []proxyFile
	restart bool // a Docker that runs without it is started anew
}

// proxyFile is one file as it should be; without content it goes, if it is anywhere's.
type proxyFile struct {
	path    string
	mode    fs.FileMode
	content []byte
	docker  bool // Docker reads it at its start
}

// settleProxy decides which files tell of the proxy, and whether Docker may be started anew for it or for an authority.
func (r *registration) settleProxy(ctx context.Context) error {
	wanted := r.req.Proxy
	if !wanted.Set() {
		return r.settleDockerRestart(ctx)
	}
	reader := r.deps.Host.Reader
	dropIn, env := wanted.Units()
	r.proxy.files = []proxyFile{{preflight.ProxyEnv, 0o600, env, true}}
	// On SUSE only the package, which starts it, will tell which of its names the ECS agent's unit has.
	units := append(r.ecsUnits(), ssmagent.UnitOf(reader))
	now, err := preflight.DaemonProxy(ctx, reader)
	if err != nil {
		return err
	}
	own := preflight.ProxyDropIn(dockerUnit)
	if _, err := reader.Files.Lstat(own); now != wanted || err == nil { // else somebody has told Docker the same
		r.proxy.files = append(r.proxy.files, proxyFile{own, 0o644, dropIn, true})
	}
	for _, unit := range units {
		r.proxy.files = append(r.proxy.files, proxyFile{preflight.ProxyDropIn(unit), 0o644, dropIn, false})
	}
	return r.settleDockerRestart(ctx)
}

// settleDockerRestart asks for the risk only where there is one: a Docker that was here before, that has not been told, and
// that runs containers besides the ECS agent's.
func (r *registration) settleDockerRestart(ctx context.Context) error {
	reader := r.deps.Host.Reader
	due, err := r.dockerUntold(ctx, reader)
	if err != nil || !due {
		return err
	}
	all, err := docker.Containers(ctx, reader, "")
	if err != nil { // the check docker.daemon says so
		return nil //nolint:nilerr // a daemon that does not answer is not touched
	}
	var running []string
	for _, c := range all {
		if c.Running() && !ecsagent.OwnImage(c.Image) {
			running = append(running, strings.TrimPrefix(first(strings.Join(c.Names, ","), c.ID), "/"))
		}
	}
	if r.proxy.restart = len(running) == 0 || r.accepts(riskDocker); r.proxy.restart {
		return nil
	}
	r.warnings = append(r.warnings, fmt.Sprintf("Docker runs on without the proxy or the certificate authority that it is told of, and may pull no image, because its restart would "+
		"end %s (%s): systemctl restart docker when it suits, or run the same command with --accept-risk %s",
		count(len(running), "container"), some(running), riskDocker))
	return nil
}

// dockerUntold reports whether a Docker that runs has read other settings than it should have, or will have by this run.
func (r *registration) dockerUntold(ctx context.Context, reader host.Reader) (bool, error) {
	unit, err := reader.Units.Unit(ctx, dockerUnit)
	if err != nil || !unit.Running() {
		return false, err
	}
	left, _, err := r.untrusted(reader)
	if err != nil || len(left) > 0 {
		return err == nil, err
	}
	var paths []string
	if len(r.req.Authorities) > 0 {
		paths = caFiles(reader)
	}
	told := slices.ContainsFunc(r.proxy.files, func(f proxyFile) bool { return f.path == preflight.ProxyDropIn(dockerUnit) })
	for _, f := range r.proxy.files {
		if !f.docker || !told { // without a drop-in of ours somebody has told it
			continue
		}
		if due, err := f.due(reader); err != nil || due && f.path != preflight.ProxyEnv || due && len(f.content) > 0 {
			return true, err
		}
		paths = append(paths, f.path)
	}
	newest, _ := newestOf(reader, paths)
	return newest.After(unit.ActiveSince), nil
}

// due reports whether the file is not as it should be.
func (f proxyFile) due(reader host.Reader) (bool, error) {
	text, err := reader.Files.ReadFile(f.path)
	switch {
	case missing(err):
		return len(f.content) > 0, nil
	case err != nil:
		return false, err
	case len(f.content) == 0:
		return bytes.HasPrefix(text, []byte("# Written by anywhere")), nil
	}
	return !bytes.Equal(text, f.content), nil
}

// proxyStep tells Docker, ecs-init and the SSM agent of the proxy, before any of them is installed: the packages start them
// at once. The ECS agent itself reads its own configuration.
func (r *registration) proxyStep() engine.Step {
	return engine.Step{
		ID: proxyStepID, Title: "Tell Docker and the agents of the way out",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			var write []string
			for _, f := range r.proxy.files {
				due, err := f.due(reader)
				if err != nil {
					return engine.Obs{}, err
				}
				if due {
					write = append(write, f.path)
				}
			}
			if len(write) > 0 {
				return engine.Obs{State: engine.Pending, Detail: "write " + strings.Join(write, ", ")}, nil
			}
			for _, f := range r.proxy.files { // killed before systemd read them
				unit, is := strings.CutSuffix(path.Base(path.Dir(f.path)), ".d")
				if state, err := reader.Units.Unit(ctx, unit); is && (err != nil || state.Loaded && !slices.Contains(state.DropIns, f.path)) {
					return engine.Obs{State: engine.Pending, Detail: "make " + f.path + " count"}, err
				}
			}
			if untold, err := r.dockerUntold(ctx, reader); err != nil || untold && r.proxy.restart {
				return engine.Obs{State: engine.Pending, Detail: "restart Docker, which has not read what it is told"}, err
			}
			return engine.Obs{State: engine.OK, Detail: "they have read it"}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			if err := r.own(ctx, tx, func(record *Record) {
				for _, f := range r.proxy.files {
					if len(f.content) > 0 {
						record.addFile(f.path, tx.Reader())
						record.addFolders(tx.Reader(), path.Dir(f.path))
					}
				}
			}); err != nil {
				return err
			}
			for _, f := range r.proxy.files {
				if err := f.make(ctx, tx); err != nil {
					return err
				}
			}
			if err := tx.ReloadUnits(ctx); err != nil {
				return err
			}
			untold, err := r.dockerUntold(ctx, tx.Reader())
			if err != nil || !untold || !r.proxy.restart {
				return err
			}
			tx.Note("restarts Docker, which reads proxies and certificate authorities at its start only")
			if err := tx.Unit(ctx, dockerUnit, engine.UnitWant{Restart: true}); err != nil {
				return err
			}
			return awaitDocker(ctx, tx)
		},
	}
}

// make brings the file to what it should be.
func (f proxyFile) make(ctx context.Context, tx *engine.Tx) error {
	due, err := f.due(tx.Reader())
	switch {
	case err != nil || !due:
		return err
	case len(f.content) == 0:
		return tx.Remove(ctx, f.path)
	}
	return tx.WriteFile(ctx, f.path, bytes.NewReader(f.content), f.mode)
}

// proxySettings are the ECS agent's.
func (r *registration) proxySettings() []Pair {
	p := r.req.Proxy
	if !p.Set() {
		return nil
	}
	return []Pair{{"HTTP_PROXY", p.HTTP}, {"HTTPS_PROXY", p.HTTPS}, {"NO_PROXY", p.None}}
}

// outwardInputs are the files of a unit's proxy, and of authorities, that are there: those that are not must not change the digest of a host that
// never had any.
func outwardInputs(reader host.Reader, unit string) (there []string) {
	for _, name := range []string{preflight.ProxyDropIn(unit), preflight.ProxyEnv} {
		if _, err := reader.Files.Lstat(name); err == nil {
			there = append(there, name)
		}
	}
	return append(there, caFiles(reader)...)
}

// openSecret reports whether others may read a file that holds, or will hold, a secret that this command was given.
func (r *registration) openSecret(reader host.Reader, file string) (bool, error) {
	isSecret := func(p Pair) bool { return remembered(p.Key, p.Value) != p.Value }
	if !slices.ContainsFunc(append(r.proxySettings(), r.req.Settings...), isSecret) {
		return false, nil
	}
	info, err := reader.Files.Stat(file)
	if missing(err) {
		return false, nil
	}
	return err == nil && info.Mode().Perm()&0o077 != 0, err
}

// closeSecret keeps others from reading it. The record knows how they could.
func (r *registration) closeSecret(ctx context.Context, tx *engine.Tx, file string) error {
	open, err := r.openSecret(tx.Reader(), file)
	if err != nil || !open {
		return err
	}
	info, err := tx.Reader().Files.Stat(file)
	if err != nil {
		return err
	}
	if err := r.own(ctx, tx, func(record *Record) { record.addMode(file, info.Mode().Perm()) }); err != nil {
		return err
	}
	return changeMode(ctx, tx, r.deps.Host, file, secretMode)
}

// addMode notes the mode of somebody's file that is about to be closed.
func (record *Record) addMode(file string, mode fs.FileMode) {
	if slices.Contains(record.Files, file) {
		return
	}
	if record.Modes == nil {
		record.Modes = map[string]fs.FileMode{}
	}
	record.Modes[file] = mode
}
