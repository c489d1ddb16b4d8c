package lifecycle

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

// recordPath is where this host's record is.
const recordPath = DataDir + "/record.json"

// recordSchema grows when an older program could no longer read the record rightly.
const recordSchema = 1

// Record says what on this host is anywhere's own. It claims a thing before the thing is made, so that no interruption
// leaves something behind that nobody owns; an undo takes the claim back.
type Record struct {
	Schema   int                     `json:"schema"`
	Program  string                  `json:"program"` // the version that wrote it last
	Packages map[string]OwnedPackage `json:"packages"`
	Files    []string                `json:"files"` // made by anywhere, to be removed with the registration
	// Folders were not there before anywhere installed the agents. They go with the registration when nothing is in them
	// any more; the outer ones stand first.
	Folders []string `json:"folders,omitempty"`
	// Settings are those that anywhere has added to files of somebody, by file and key: they go with the registration, and
	// the rest of the file stays.
	Settings map[string]map[string]string `json:"settings,omitempty"`
	// Modes are those that such files had before anywhere kept others from reading a secret that it has added.
	Modes map[string]fs.FileMode `json:"modes,omitempty"`
	// Docker is nil unless anywhere installed it. It is not among Packages: nothing removes it with the registration.
	Docker *OwnedDocker `json:"docker,omitempty"`
	// Authorities are nil unless anywhere has put some into the host's store.
	Authorities *OwnedAuthorities `json:"authorities,omitempty"`
	// Registration is the managed node and its cluster; nil while anywhere has not registered the host.
	Registration *OwnedRegistration `json:"registration,omitempty"`
	// Adopted is a registration that was here before anywhere was, and that it looks after since; nil when there is none.
	// Nothing of it is anywhere's own: not its managed node, not its packages, not its files.
	Adopted *AdoptedRegistration `json:"adopted,omitempty"`
	// Upgrades has, for each package that anywhere has upgraded, the last time: what "anywhere rollback" goes back to.
	Upgrades map[string]Upgraded `json:"upgrades,omitempty"`
	// Started has, for each unit, the digest of what it read when it was last started (see inputs).
	Started map[string]string `json:"started"`
}

// OwnedPackage is a package that anywhere installed.
type OwnedPackage struct {
	Version string `json:"version"`
	SHA256  string `json:"sha256"`
	Key     string `json:"key"` // fingerprint that signed it
	// Of a snap, which snapd has verified: its revision, and the channel that it followed.
	Snap    string `json:"snapRevision,omitempty"`
	Channel string `json:"snapChannel,omitempty"`
}

// Upgraded is what an upgrade has replaced a package by. Both files are in PackageDir.
type Upgraded struct {
	From OwnedPackage `json:"from"`
	To   OwnedPackage `json:"to"`
}

// OwnedRegistration is a registration that anywhere made.
type OwnedRegistration struct {
	ManagedInstanceID string `json:"managedInstanceId"`
	ActivationID      string `json:"activationId"`
	Region            string `json:"region"`
	Account           string `json:"account"`
	Cluster           string `json:"cluster"`
	Deleted           string `json:"activationDeletedBy,omitempty"` // the run that made the activation and deleted it
}

// AdoptedRegistration is a registration that somebody else made, as it was found.
type AdoptedRegistration struct {
	ManagedInstanceID    string            `json:"managedInstanceId"`
	ContainerInstanceARN string            `json:"containerInstanceArn"`
	Region               string            `json:"region"`
	Account              string            `json:"account"`
	Cluster              string            `json:"cluster"`
	Packages             map[string]string `json:"packages"` // the agents' versions then, by the packages' names
	Files                []string          `json:"files"`    // the agents' configuration that was there
	At                   string            `json:"at"`       // RFC 3339, UTC
	Run                  string            `json:"run"`
}

// readRecord returns an empty record when there is none.
func readRecord(r host.Reader) (Record, error) {
	record := Record{
		Schema: recordSchema, Packages: map[string]OwnedPackage{}, Files: []string{}, Started: map[string]string{},
	}
	text, err := r.Files.ReadFile(recordPath)
	if errors.Is(err, fs.ErrNotExist) {
		return record, nil
	}
	if err != nil {
		return record, failure.Wrap(failure.Internal, err, "could not read the record")
	}
	var head struct {
		Schema  int
		Program string
	}
	if err := json.Unmarshal(text, &head); err == nil && head.Schema > recordSchema {
		f := failure.New(failure.NewerRecord, "%s has schema %d; this anywhere knows %d", recordPath, head.Schema, recordSchema)
		if head.Program != "" {
			f.Evidence = "it was written by anywhere " + head.Program
			f.Remedy = "use anywhere " + head.Program + " or a newer one"
		}
		return record, f
	}
	read := Record{}
	err = json.Unmarshal(text, &read)
	if err == nil && read.Schema < 1 {
		err = errors.New("it has no schema")
	}
	if err != nil {
		return record, failure.New(failure.RecordUnreadable, "%s is not readable: %v", recordPath, err).
			WithEvidence("%d bytes", len(text))
	}
	if read.Packages == nil { // null, or left out
		read.Packages = record.Packages
	}
	if read.Started == nil {
		read.Started = record.Started
	}
	if read.Files == nil {
		read.Files = record.Files
	}
	return read, nil
}

// accountOf is the account of a managed node; empty when the record does not know.
func (record Record) accountOf(node string) string {
	switch own, adopted := record.Registration, record.Adopted; {
	case own != nil && own.ManagedInstanceID == node:
		return own.Account
	case adopted != nil && adopted.ManagedInstanceID == node:
		return adopted.Account
	}
	return ""
}

// updateRecord changes the record through tx. The same record again writes nothing.
func updateRecord(ctx context.Context, tx *engine.Tx, program string, change func(*Record)) error {
	record, err := readRecord(tx.Reader())
	if err != nil {
		return err
	}
	change(&record)
	record.Schema, record.Program = recordSchema, program
	text, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return err
	}
	return tx.WriteFile(ctx, recordPath, bytes.NewReader(append(text, '\n')), 0o600)
}
