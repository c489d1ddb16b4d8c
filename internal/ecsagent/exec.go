package ecsagent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// What ECS Exec needs below ExecDir (agent/app/agent_capability.go and agent_capability_unix.go of 1.105.1). The agent takes
// the highest complete version, and offers nothing when a part of config and certs is missing.
const (
	execBin    = ExecDir + "/bin"
	execConfig = ExecDir + "/config" // the agent writes here; an empty folder is enough
	execCerts  = ExecDir + "/certs"
	// ExecBundle is the certificate authorities that ECS Exec trusts inside tasks.
	ExecBundle = execCerts + "/tls-ca-bundle.pem"
)

// ExecBinaries are the three programs of the SSM agent's package that ECS Exec uses.
var ExecBinaries = []string{"amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker"}

// CABundles are where systems keep the certificate authorities that they trust, one file: the first that exists is taken.
// Source: the packages ca-certificates of Debian 13, Fedora 42 and openSUSE Leap 15.6.
var CABundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL and rebuilds, Amazon Linux
	"/etc/pki/tls/certs/ca-bundle.crt",                  // the same, older
	"/var/lib/ca-certificates/ca-bundle.pem",            // SUSE
	"/etc/ssl/ca-bundle.pem",                            // SUSE, older
}

// versionFolder is a name that the agent takes for a version; it passes over all others.
var versionFolder = regexp.MustCompile(`^\d+(\.\d+)*$`)

// ExecFiles is what is there for ECS Exec.
type ExecFiles struct {
	Complete   []string // versions with all programs, oldest first
	Incomplete []string // versions that lack one, or have an empty file for it (which the agent would take for whole)
	ConfigDir  bool
	Certs      bool
}

// Has reports whether ECS Exec is complete in this version of the SSM agent (3.3.4108.0, or with a package's revision).
func (e ExecFiles) Has(version string) bool {
	return e.ConfigDir && e.Certs && slices.Contains(e.Complete, upstream(version))
}

// ExecFolder is where the programs of a version of the SSM agent are.
func ExecFolder(version string) string { return path.Join(execBin, upstream(version)) }

// ExecAside is where they can be put aside: under a name that the ECS agent passes over.
func ExecAside(version string) string { return path.Join(execBin, ".anywhere-old-"+upstream(version)) }

// Deadly reports whether the agent would die at its start, again and again and without a line in its log: versions are
// there and none is complete (agent/app/agent_capability.go of 1.105.1; seen with the real agent on 2026-11-22). It counts
// the config folder as there, since Docker makes it.
func (e ExecFiles) Deadly() bool {
	return e.Certs && len(e.Incomplete) > 0 && len(e.Complete) == 0
}

// ReadExec looks for ECS Exec's files.
func ReadExec(r host.Reader) (ExecFiles, error) {
	var e ExecFiles
	config, err := statOptional(r.Files, execConfig)
	if err != nil {
		return e, err
	}
	certs, err := statOptional(r.Files, ExecBundle)
	if err != nil {
		return e, err
	}
	e.ConfigDir = config != nil && config.IsDir()
	e.Certs = certs != nil && certs.Mode().IsRegular() && certs.Size() > 0
	entries, err := r.Files.ReadDir(execBin)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return e, failure.Wrap(failure.Internal, err, "could not list %s", execBin)
	}
	for _, entry := range entries {
		if !entry.IsDir() || !versionFolder.MatchString(entry.Name()) {
			continue
		}
		whole, err := execComplete(r.Files, entry.Name())
		if err != nil {
			return e, err
		}
		if whole {
			e.Complete = append(e.Complete, entry.Name())
		} else {
			e.Incomplete = append(e.Incomplete, entry.Name())
		}
	}
	slices.SortFunc(e.Complete, CompareVersions)
	slices.SortFunc(e.Incomplete, CompareVersions)
	return e, nil
}

func execComplete(files host.Files, version string) (bool, error) {
	for _, name := range ExecBinaries {
		info, err := statOptional(files, path.Join(execBin, version, name))
		if err != nil || info == nil || !info.Mode().IsRegular() || info.Size() == 0 {
			return false, err
		}
	}
	return true, nil
}

// InstallExec makes ECS Exec's files from the SSM agent's verified package: the programs appear under their version all
// at once, so that the agent never sees a part of them. Call it before the ECS agent's container is made, which looks
// only then. files is where the package lies.
func InstallExec(ctx context.Context, tx *engine.Tx, pkg artifact.Package, files host.Files) error {
	version, err := prepareExec(ctx, tx, pkg.Version)
	if err != nil {
		return err
	}
	return installExecPrograms(ctx, tx, version, func(folder string) error { return unpackExec(ctx, tx, pkg, files, folder) })
}

// InstallExecOf does so with the programs that are in a folder: those of the agent that is installed.
func InstallExecOf(ctx context.Context, tx *engine.Tx, version, dir string) error {
	version, err := prepareExec(ctx, tx, version)
	if err != nil {
		return err
	}
	return installExecPrograms(ctx, tx, version, func(folder string) error { return copyExec(ctx, tx, dir, folder) })
}

// prepareExec makes what stands beside the programs, and returns the version as the agent knows it.
func prepareExec(ctx context.Context, tx *engine.Tx, full string) (version string, err error) {
	version = upstream(full)
	if !versionFolder.MatchString(version) {
		return "", failure.New(failure.Internal, "%q is no version that the ECS agent would recognise", full)
	}
	for _, folder := range []string{path.Dir(ExecDir), ExecDir, execBin, execConfig, execCerts} {
		if err := tx.Mkdir(ctx, folder, 0o755); err != nil {
			return "", err
		}
	}
	bundle, err := readCABundle(tx.Reader().Files)
	if err != nil {
		return "", err
	}
	return version, tx.WriteFile(ctx, ExecBundle, bytes.NewReader(bundle), 0o400)
}

// copyExec copies the programs into folder.
func copyExec(ctx context.Context, tx *engine.Tx, from, folder string) error {
	for _, name := range ExecBinaries {
		source := path.Join(from, name)
		file, err := tx.Reader().Files.Open(source)
		if err != nil {
			return failure.Wrap(failure.Internal, err, "could not read ECS Exec's program %s", source)
		}
		info, err := file.Stat()
		if err == nil {
			err = writeProgram(ctx, tx, path.Join(folder, name), sized{file, int(info.Size())})
		}
		_ = file.Close() // it was read
		if err != nil {
			return err
		}
	}
	return nil
}

func installExecPrograms(ctx context.Context, tx *engine.Tx, version string, unpack func(folder string) error) error {
	target := path.Join(execBin, version)
	whole, err := execComplete(tx.Reader().Files, version)
	if err != nil || whole {
		return err
	}
	there, err := statOptional(tx.Reader().Files, target)
	if err != nil {
		return err
	}
	if there != nil { // somebody's half: each file that is put there only makes it better
		return unpack(target)
	}
	stage := path.Join(execBin, ".anywhere-"+version) // the agent passes over a name that is no version
	if err := tx.Mkdir(ctx, stage, 0o755); err != nil {
		return err
	}
	if err := unpack(stage); err != nil {
		return err
	}
	return tx.Rename(ctx, stage, target)
}

// unpackExec streams the programs out of the package into folder.
func unpackExec(ctx context.Context, tx *engine.Tx, pkg artifact.Package, files host.Files, folder string) error {
	missing := slices.Clone(ExecBinaries)
	err := artifact.Extract(ctx, files, pkg.Path, func(file artifact.File) error {
		name := path.Base(file.Name)
		if path.Dir(file.Name) != "usr/bin" || !slices.Contains(missing, name) {
			return nil
		}
		if err := writeProgram(ctx, tx, path.Join(folder, name), sized{file.Body, int(file.Size)}); err != nil {
			return err
		}
		missing = slices.DeleteFunc(missing, func(m string) bool { return m == name })
		if len(missing) == 0 {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return failure.Wrap(failure.Internal, err, "could not unpack ECS Exec's programs from %s", pkg.Path)
	}
	if len(missing) > 0 {
		return failure.New(failure.ArtifactCorrupt, "%s has no usr/bin/%s, which ECS Exec needs", pkg.Path, missing[0]).
			WithRemedy("leave ECS Exec out with --no-exec, or choose another --ssm-agent-version")
	}
	return nil
}

// sized is a reader that tells engine.Tx how much it has.
type sized struct {
	io.Reader
	size int
}

func (s sized) Len() int { return s.size }

// writeProgram writes an executable file; one that is there and is not executable goes first, for a file keeps its mode.
func writeProgram(ctx context.Context, tx *engine.Tx, target string, body io.Reader) error {
	there, err := statOptional(tx.Reader().Files, target)
	if err != nil {
		return err
	}
	if there != nil && there.Mode().Perm() != 0o755 {
		if err := tx.Remove(ctx, target); err != nil {
			return err
		}
	}
	return tx.WriteFile(ctx, target, body, 0o755)
}

func readCABundle(files host.Files) ([]byte, error) {
	for _, candidate := range CABundles {
		data, err := files.ReadFile(candidate)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, failure.Wrap(failure.TLSUntrusted, err, "could not read the trusted certificate authorities")
		case len(bytes.TrimSpace(data)) > 0:
			return data, nil
		}
	}
	return nil, failure.New(failure.TLSUntrusted, "this host has no certificate authorities, which ECS Exec needs").
		WithEvidence("looked for %s and %d more", CABundles[0], len(CABundles)-1).
		WithRemedy("install the package ca-certificates, or leave ECS Exec out with --no-exec")
}
