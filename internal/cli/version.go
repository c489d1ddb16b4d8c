package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

// expiryNotice is how long before its end a pinned key is warned of.
const expiryNotice = 60 * 24 * time.Hour

// versionResult is the "result" of version's document.
type versionResult struct {
	Version string      `json:"version"`
	Commit  string      `json:"commit"` // empty when unknown
	Date    string      `json:"date"`   // of the commit, RFC 3339; empty when unknown
	Go      string      `json:"go"`
	Keys    []pinnedKey `json:"keys"` // whose signatures count
}

type pinnedKey struct {
	Fingerprint string `json:"fingerprint"`
	Product     string `json:"product"` // what it signs
	UserID      string `json:"userId"`
	Expires     string `json:"expires"` // RFC 3339; empty is never
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version [flags]",
		Short: "Print the version, and with -o json the pinned keys",
		Long: long(`
Prints the version. With -o json or -v also the commit, the Go version and the OpenPGP keys that are pinned in this
binary, with fingerprints and expiry. A key that expires within 60 days is warned of.`),
		Example: `  anywhere version
  anywhere version -o json`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.runVersion() },
	}
}

func (a *app) runVersion() error {
	b := a.env.Build
	result := versionResult{Version: b.Version, Commit: b.Commit, Date: b.Date, Go: b.Go}
	if a.global.output == outputJSON || a.global.verbose { // reading the keys costs more than all the rest
		keyring, err := artifact.Embedded()
		if err != nil {
			return err
		}
		for _, key := range append(keyring.List(), artifact.DockerKeys()...) {
			expires := ""
			if !key.Expires.IsZero() {
				expires = report.Timestamp(key.Expires)
			}
			result.Keys = append(result.Keys, pinnedKey{key.Fingerprint, string(key.Product), key.UserID, expires})
		}
		a.warnOfExpiry(keyring.List())
	}
	a.outcome.report.Message = "anywhere " + b.Version
	a.outcome.report.Result = result
	a.outcome.text = func(w io.Writer, _ report.Style, rep lifecycle.Report, _ error) {
		fmt.Fprintln(w, rep.Message)
		if !a.global.verbose {
			return
		}
		fmt.Fprintf(w, "commit %s of %s, %s\n", b.Commit, b.Date, b.Go)
		for _, key := range result.Keys {
			until := "never expires"
			if key.Expires != "" {
				until = "expires " + key.Expires
			}
			fmt.Fprintf(w, "key %s, %s, %s\n", key.Fingerprint, key.UserID, until)
		}
	}
	return nil
}

// warnOfExpiry looks at the key of each product that lasts longest. Older ones are there for what they signed in their
// time, and their end is no news.
func (a *app) warnOfExpiry(keys []artifact.Key) {
	last := map[artifact.Product]artifact.Key{}
	for _, key := range keys {
		known, found := last[key.Product]
		if !found || key.Expires.IsZero() || !known.Expires.IsZero() && key.Expires.After(known.Expires) {
			last[key.Product] = key
		}
	}
	for _, product := range slices.Sorted(maps.Keys(last)) {
		key := last[product]
		if left := key.Expires.Sub(a.env.Now()); key.Expires.IsZero() || left >= expiryNotice {
			continue
		}
		a.warn("the last pinned key for %s ends on %s: what is signed after that is refused; a newer anywhere may bring its "+
			"successor, register --keyring adds it (%s)", product, key.Expires.Format(time.DateOnly), key.Fingerprint)
	}
}
