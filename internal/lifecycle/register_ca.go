package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"path"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

// Authorities are certificate authorities that this host is to trust besides those that it does.
type Authorities []*x509.Certificate

// ParseAuthorities reads --ca-file.
func ParseAuthorities(text []byte) (all Authorities, err error) {
	wrong := func(format string, args ...any) (Authorities, error) {
		return nil, failure.New(failure.Usage, "--ca-file: "+format, args...).
			WithRemedy("give a file in PEM form with the certificate of the authority itself, and no key")
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return wrong("it has a block %q, and not only certificates", block.Type)
		}
		one, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return wrong("a certificate in it cannot be read: %v", err)
		case !one.IsCA:
			return wrong("the certificate of %s is not an authority's", one.Subject)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return wrong("there is no certificate in it")
	}
	return all, nil
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// key tells one set of authorities from another.
func (all Authorities) key() (key string) {
	for _, c := range all {
		sum := sha256.Sum256(c.Raw)
		key += hex.EncodeToString(sum[:8])
	}
	return key
}

// caStore is how a family of systems takes a further authority: a file in a folder, and a program that makes the bundle.
// Sources: update-ca-certificates(8) of Debian 12 (one certificate a file, its name ends in .crt); update-ca-trust(8) of
// Fedora 42 and Amazon Linux 2023; update-ca-certificates(8) of openSUSE Leap 15.6, whose hook for the bundle passes over one that it takes for new
// enough unless it is to start from scratch (github.com/openSUSE/ca-certificates, certbundle.run, read 2026-11-26).
type caStore struct {
	Folder string `json:"folder"`
	Ext    string `json:"ext"`
	Bundle string `json:"bundle"`
	Tool   string `json:"tool"`
	Arg    string `json:"arg,omitempty"`
	Fresh  string `json:"fresh,omitempty"` // instead of Arg after a removal: else links to what is gone stay in /etc/ssl/certs
	// Tries is how often the program is started: systemd starts SUSE's too as soon as something changes in the folder (ca-certificates.path), and two at
	// once take each other's temporary files away. 0 is once.
	Tries int `json:"tries,omitempty"`
}

var caStores = []caStore{
	{"/etc/pki/ca-trust/source/anchors", ".pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/usr/bin/update-ca-trust", "extract", "", 0},
	{"/etc/pki/trust/anchors", ".pem", "/var/lib/ca-certificates/ca-bundle.pem", "/usr/sbin/update-ca-certificates", "--fresh", "", 3},
	{"/usr/local/share/ca-certificates", ".crt", "/etc/ssl/certs/ca-certificates.crt", "/usr/sbin/update-ca-certificates", "", "--fresh", 0},
}

// caPrefix begins the names of anywhere's files in such a folder.
const caPrefix = "anywhere-"

// agentAuthorities is where the ECS agent's container finds them where the package does not mount the host's store: only
// Debian's and Amazon Linux's does, and /etc/ecs is mounted everywhere (facts: ecs-agent section 2.3).
const agentAuthorities = "/etc/ecs/anywhere-authorities.pem"

// findCAStore is the host's.
func findCAStore(r host.Reader) (caStore, error) {
	for i, store := range caStores {
		_, err := r.Files.Stat(store.Tool)
		if err == nil && i == 1 { // SUSE's program has the name of Debian's
			_, err = r.Files.Stat(path.Dir(store.Folder))
		}
		if err == nil {
			return store, nil
		}
		if !missing(err) {
			return caStore{}, err
		}
	}
	return caStore{}, failure.New(failure.TLSUntrusted, "this host has no store of certificate authorities that --ca-file could be put into").
		WithEvidence("neither %s nor %s is there", caStores[0].Tool, caStores[2].Tool).
		WithRemedy("install the package ca-certificates, then run the command again")
}

// trusts reports whether a bundle has a certificate.
func trusts(bundle []byte, c *x509.Certificate) bool {
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return false
		}
		if bytes.Equal(block.Bytes, c.Raw) {
			return true
		}
	}
}

// OwnedAuthorities are the authorities that anywhere has put into the host's store.
type OwnedAuthorities struct {
	Store caStore  `json:"store"`
	Files []string `json:"files"`
}

const (
	caStepID = "ca.store"
	caKind   = "ca.store"
)

// caUpdated makes the bundle anew once an undo has brought the files back.
func caUpdated() engine.Kind {
	return engine.Kind{Undo: func(ctx context.Context, h host.Host, data []byte) ([]string, error) {
		var store caStore
		if err := json.Unmarshal(data, &store); err != nil {
			return nil, failure.Wrap(failure.JournalUnreadable, err, "reading what was recorded of the certificate authorities")
		}
		return nil, store.update(ctx, h.Runner.Run, first(store.Fresh, store.Arg))
	}}
}

// update makes the bundle of what is in the folders.
func (s caStore) update(ctx context.Context, run func(context.Context, host.Cmd) (host.Result, error), arg string) error {
	cmd := host.Cmd{Path: s.Tool, Stdin: strings.NewReader("")}
	if arg != "" {
		cmd.Args = []string{arg}
	}
	result, err := run(ctx, cmd)
	for try := 1; err == nil && result.ExitCode != 0 && try < s.Tries; try++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
		cmd.Stdin = strings.NewReader("")
		result, err = run(ctx, cmd)
	}
	switch {
	case err != nil:
		return failure.Wrap(failure.TLSUntrusted, err, "starting %s", s.Tool)
	case result.ExitCode != 0:
		return failure.New(failure.TLSUntrusted, "%s ended with exit status %d", s.Tool, result.ExitCode).
			WithEvidence("%s", strings.TrimSpace(result.Output)).
			WithRemedy("run %s yourself and see what it says, then run the command again", s.Tool)
	}
	return nil
}

func (s caStore) file(c *x509.Certificate) string {
	return path.Join(s.Folder, caPrefix+Authorities{c}.key()+s.Ext)
}

// caFiles are anywhere's own files in the host's store, and for the ECS agent: what the agents have read at their start.
func caFiles(r host.Reader) (files []string) {
	for _, store := range caStores {
		entries, err := r.Files.ReadDir(store.Folder)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), caPrefix) {
				files = append(files, path.Join(store.Folder, e.Name()))
			}
		}
	}
	return files
}

// settleAuthorities finds the host's store.
func (r *registration) settleAuthorities() (err error) {
	if len(r.req.Authorities) > 0 {
		r.caStore, err = findCAStore(r.deps.Host.Reader)
	}
	return err
}

// untrusted are the authorities that the host, or what ECS Exec's programs are given of it, does not know.
func (r *registration) untrusted(reader host.Reader) (left Authorities, exec bool, err error) {
	if len(r.req.Authorities) == 0 {
		return nil, false, nil
	}
	bundle, err := reader.Files.ReadFile(r.caStore.Bundle)
	if err != nil && !missing(err) {
		return nil, false, err
	}
	given, err := reader.Files.ReadFile(ecsagent.ExecBundle)
	if err != nil && !missing(err) {
		return nil, false, err
	}
	there := err == nil
	for _, c := range r.req.Authorities {
		if !trusts(bundle, c) {
			left = append(left, c)
		}
		exec = exec || there && !trusts(given, c)
	}
	return left, exec, nil
}

// caStep puts the authorities into the host's own store, of which the SSM agent, Docker, this command, and on Debian the ECS
// agent too read what they trust. It comes before all that goes out to the network.
func (r *registration) caStep() engine.Step {
	return engine.Step{
		ID: caStepID, Title: "Trust the certificate authorities of --ca-file",
		Observe: func(_ context.Context, reader host.Reader) (engine.Obs, error) {
			left, exec, err := r.untrusted(reader)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case len(left) > 0:
				return engine.Obs{State: engine.Pending, Detail: "add " + left[0].Subject.String() + " to " + r.caStore.Bundle}, nil
			case exec:
				return engine.Obs{State: engine.Pending, Detail: "bring " + ecsagent.ExecBundle + " up to date"}, nil
			}
			return engine.Obs{State: engine.OK, Detail: r.caStore.Bundle}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			left, _, err := r.untrusted(tx.Reader())
			if err != nil {
				return err
			}
			if len(left) > 0 {
				if err := r.addAuthorities(ctx, tx, left); err != nil {
					return err
				}
			}
			_, exec, err := r.untrusted(tx.Reader())
			if err != nil || !exec {
				return err
			}
			bundle, err := tx.Reader().Files.ReadFile(r.caStore.Bundle)
			if err != nil {
				return err
			}
			return tx.WriteFile(ctx, ecsagent.ExecBundle, bytes.NewReader(bundle), 0o400)
		},
	}
}

func (r *registration) addAuthorities(ctx context.Context, tx *engine.Tx, left Authorities) error {
	store := r.caStore
	if err := r.own(ctx, tx, func(record *Record) {
		if record.Authorities == nil {
			record.Authorities = &OwnedAuthorities{Store: store}
		}
		known := strings.Join(record.Authorities.Files, "\n") + "\n"
		for _, c := range left {
			if _, err := tx.Reader().Files.Lstat(store.file(c)); missing(err) && !strings.Contains(known, store.file(c)+"\n") {
				record.Authorities.Files = append(record.Authorities.Files, store.file(c))
			}
		}
		record.addFolders(tx.Reader(), store.Folder)
	}); err != nil {
		return err
	}
	// Recorded before the files are: an undo takes them away first, and makes the bundle anew then.
	if err := tx.Effect(ctx, caKind, store, func(context.Context) error { return nil }); err != nil {
		return err
	}
	for _, c := range left {
		if err := tx.WriteFile(ctx, store.file(c), bytes.NewReader(pemOf(c)), 0o644); err != nil {
			return err
		}
	}
	return tx.Effect(ctx, caKind, store, func(ctx context.Context) error { return store.update(ctx, tx.Run, store.Arg) })
}

// agentCA gives the ECS agent the authorities where its container does not see the host's.
func (r *registration) agentCA() engine.Step {
	return r.fileStep(fileStep{
		id: "ecs.authorities", title: "Give the ECS agent the certificate authorities", path: agentAuthorities, mode: 0o644,
		claims: []string{"/etc/ecs"},
		wanted: func(_ host.Reader, old []byte) ([]byte, error) {
			text := old
			for _, c := range r.req.Authorities {
				if !trusts(text, c) {
					text = append(text[:len(text):len(text)], pemOf(c)...)
				}
			}
			return text, nil
		},
	})
}

// needsAgentCA reports whether the ECS agent's package leaves the host's store out of its container.
func (r *registration) needsAgentCA() bool {
	return len(r.req.Authorities) > 0 && r.row.Family == platform.RPM
}

// authorities takes anywhere's certificate authorities out of the host's store again. The record says that they are there
// until the bundle is made anew.
func (f *farewell) authorities() engine.Step {
	return engine.Step{
		ID: caStepID, Title: "Take anywhere's certificate authorities out of the host's store",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			record, err := readRecord(r)
			if f.ruined || err == nil && (record.Authorities == nil || !f.ssm) {
				return engine.Obs{State: engine.OK, Detail: "none is to go"}, nil
			}
			if err != nil {
				return engine.Obs{}, err
			}
			return engine.Obs{State: engine.Pending, Detail: "remove " + strings.Join(record.Authorities.Files, ", ")}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			record, err := readRecord(tx.Reader())
			if err != nil {
				return err
			}
			owned := *record.Authorities
			if err := tx.Effect(ctx, caKind, owned.Store, func(context.Context) error { return nil }); err != nil {
				return err
			}
			for _, file := range owned.Files {
				if err := tx.Remove(ctx, file); err != nil {
					return err
				}
			}
			if _, err := tx.Reader().Files.Stat(owned.Store.Tool); err == nil { // else there is no bundle to be made
				if err := tx.Effect(ctx, caKind, owned.Store, func(ctx context.Context) error {
					return owned.Store.update(ctx, tx.Run, first(owned.Store.Fresh, owned.Store.Arg))
				}); err != nil {
					return err
				}
			}
			return updateRecord(ctx, tx, f.deps.Version, func(record *Record) { record.Authorities = nil })
		},
	}
}
