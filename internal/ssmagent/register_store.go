package ssmagent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// stored is the identity store before a registration, as the journal has it: paths, no secrets.
type stored struct {
	FormerID string       `json:"formerId"` // empty: the host was not registered
	Files    []storedFile `json:"files"`
	Made     []string     `json:"made,omitempty"` // folders that did not exist, inner ones first
}

// storedFile is one file of the store, and where its copy is; no copy means that there was no file.
type storedFile struct {
	Path string `json:"path"`
	Copy string `json:"copy,omitempty"`
}

// storeMode is the mode of every file of the store. Source: agent 3.3.987.0 run, 2026-11-22.
const storeMode fs.FileMode = 0o600

// storeFiles are the files that a registration writes. The key stands last: once it is back, all is back.
var storeFiles = []string{FingerprintPath, ManifestPath, RegistrationPath, KeyPath}

// replacedBy reports whether a registration has completed since.
func (s stored) replacedBy(now Identity) bool {
	return now.Registered() && now.InstanceID != s.FormerID
}

// keepStore copies the store. In a run that goes on after a crash the copies, and so the former id, are still those from
// before the operation: that is why the id is taken from the copy, not from a store that may be blanked by now.
func keepStore(tx *engine.Tx) (stored, error) {
	var before stored
	for _, path := range storeFiles {
		backup, err := tx.Backup(path)
		if err != nil {
			return stored{}, failure.Wrap(failure.Internal, err, "copying %s before the registration", path)
		}
		before.Files = append(before.Files, storedFile{path, backup})
		if path == KeyPath && backup != "" {
			if before.FormerID, err = idIn(tx.Reader().Files, backup); err != nil {
				return stored{}, err
			}
		}
	}
	for _, folder := range []string{StoreDir, VaultDir} {
		if _, err := tx.Reader().Files.Lstat(folder); errors.Is(err, fs.ErrNotExist) {
			before.Made = append(before.Made, folder)
		}
	}
	return before, nil
}

// idIn returns the instance id in a copy of KeyPath; a damaged file has none.
func idIn(files host.Files, path string) (string, error) {
	text, err := files.ReadFile(path)
	if err != nil {
		return "", unreadable(err, "reading the copy of %s", KeyPath)
	}
	var key registrationKey
	if json.Unmarshal(text, &key) != nil {
		return "", nil
	}
	return key.InstanceID, nil
}

// disk is what putting the store back takes: the engine's Tx while the operation runs, the host's Disk afterwards.
type disk struct {
	write  func(path string, content []byte) error
	remove func(path string) error
}

// restore makes the store what it was. It does nothing where that is so, and can be repeated.
func (s stored) restore(files host.Files, to disk) error {
	for _, f := range s.Files {
		if f.Copy == "" {
			if err := to.remove(f.Path); err != nil {
				return err
			}
			continue
		}
		content, err := files.ReadFile(f.Copy)
		if err != nil {
			return failure.Wrap(failure.Internal, err, "reading the copy of %s", f.Path)
		}
		if now, err := files.ReadFile(f.Path); err == nil && bytes.Equal(now, content) {
			continue
		}
		if err := to.write(f.Path, content); err != nil {
			return err
		}
	}
	return nil
}

// putBack restores the store within the operation, unless the registration did complete.
func putBack(ctx context.Context, tx *engine.Tx, before stored) error {
	r := tx.Reader()
	now, err := ReadIdentity(r)
	if err != nil || before.replacedBy(now) {
		return err
	}
	return before.restore(r.Files, disk{
		write: func(path string, content []byte) error {
			return tx.WriteFile(ctx, path, bytes.NewReader(content), storeMode)
		},
		remove: func(path string) error {
			if _, err := r.Files.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return tx.Remove(ctx, path)
		},
	})
}

// notPutBack is the failure of a registration after which the store could not be restored.
func notPutBack(cause, back error, before stored) error {
	out := *failure.Of(cause)
	out.Message += "; and the identity store could not be put back: " + back.Error()
	out.Err = errors.Join(cause, back)
	for _, f := range before.Files {
		if f.Path == KeyPath && before.FormerID != "" {
			out.Remedy = "copy " + f.Copy + " back to " + KeyPath + " to be " + before.FormerID + " again; or run: anywhere rollback"
		}
	}
	return &out
}

// undo restores the store after the operation. A key that was rotated since belongs to the same id and is left alone.
func undo(h host.Host, before stored) (kept []string, err error) {
	now, err := ReadIdentity(h.Reader)
	switch {
	case err != nil:
		return nil, err
	case before.replacedBy(now):
		return []string{"managed node " + now.InstanceID}, nil
	case now.Registered():
		return nil, nil // the key is put back last, so all of it is
	}
	err = before.restore(h.Files, disk{
		write: func(path string, content []byte) error {
			owner, err := h.Disk.Owner(path)
			if err != nil {
				owner = host.Owner{} // the file is gone; the agent gives its store to root
			}
			return h.Disk.WriteFile(path, bytes.NewReader(content), storeMode, owner)
		},
		remove: h.Disk.Remove,
	})
	if err != nil {
		return nil, err
	}
	for _, folder := range before.Made {
		if left, err := h.Files.ReadDir(folder); err == nil && len(left) == 0 {
			if err := h.Disk.Remove(folder); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}
