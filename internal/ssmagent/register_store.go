package ssmagent

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

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

// StoreFiles are the files of the identity store.
func StoreFiles() []string { return slices.Clone(storeFiles) }

// MendManifest is a manifest that leads to the identity and the fingerprint that lie in their usual places. What else
// stands in the present one stays, if it can be read. Form: agent 3.3.987.0 run, 2026-11-22.
func MendManifest(r host.Reader) ([]byte, error) {
	manifest := map[string]string{}
	text, err := r.Files.ReadFile(ManifestPath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, unreadable(err, "reading the SSM agent's %s", ManifestPath)
	}
	if json.Unmarshal(text, &manifest) != nil || manifest == nil {
		manifest = map[string]string{}
	}
	for entry, file := range map[string]string{keyEntry: KeyPath, fingerprintEntry: FingerprintPath} {
		if _, err := r.Files.Lstat(file); err == nil {
			manifest[entry] = file
		}
	}
	return json.Marshal(manifest)
}

// replacedBy reports whether a registration has completed since.
func (s stored) replacedBy(now Identity) bool {
	return now.Registered() && now.InstanceID != s.FormerID
}

// keepStore copies the store. In a run that goes on after a crash the copies, and so the former id, are still those
// from before the operation: that is why the id is taken from the copy, not from a store that may be blanked by now.
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

// restore makes the store what it was. It changes nothing where that is so, and can be repeated.
func (s stored) restore(h host.Host) error {
	for _, f := range s.Files {
		if f.Copy == "" {
			if err := h.Disk.Remove(f.Path); err != nil {
				return err
			}
			continue
		}
		content, err := h.Files.ReadFile(f.Copy)
		if err != nil {
			return failure.Wrap(failure.Internal, err, "reading the copy of %s", f.Path)
		}
		if now, err := h.Files.ReadFile(f.Path); err == nil && bytes.Equal(now, content) {
			continue
		}
		owner, err := h.Disk.Owner(f.Path)
		if err != nil {
			owner = host.Owner{} // the file is gone; the agent gives its store to root
		}
		if err := h.Disk.WriteFile(f.Path, bytes.NewReader(content), storeMode, owner); err != nil {
			return err
		}
	}
	for _, folder := range s.Made {
		if left, err := h.Files.ReadDir(folder); err == nil && len(left) == 0 {
			if err := h.Disk.Remove(folder); err != nil {
				return err
			}
		}
	}
	return nil
}

// undo restores the store unless a new identity is in it. A key that was rotated since belongs to the same id and is
// left alone.
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
	return nil, before.restore(h)
}

// notPutBack is the failure of a registration after which the store could not be restored.
func notPutBack(cause, back error, before stored) error {
	out := *failure.Of(cause)
	out.Message += "; and the identity store could not be put back: " + back.Error()
	out.Err = errors.Join(cause, back)
	for _, f := range before.Files {
		if f.Path == KeyPath && before.FormerID != "" {
			out.Remedy = "anywhere rollback; or, to be " + before.FormerID + " again, copy " + f.Copy + " to " + KeyPath
		}
	}
	return &out
}
