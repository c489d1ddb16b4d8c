//go:build root

package host

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

func TestWriteFileGivesAway(t *testing.T) {
	d, root := newDir(t)
	put(t, filepath.Join(root, "x"), "ours")
	theirs := Owner{UID: 1234, GID: 4321}
	if err := d.WriteFile("/x", strings.NewReader("theirs"), fs.ModeSetuid|0o711, theirs); err != nil {
		t.Fatal(err)
	}
	if owner, err := d.Owner("/x"); err != nil || owner != theirs {
		t.Errorf("owner %v, %v", owner, err)
	}
	info, err := d.Stat("/x") // a change of owner clears the set-user-ID bit, so it comes before the mode
	if err != nil || info.Mode() != fs.ModeSetuid|0o711 {
		t.Errorf("%v, %v", info, err)
	}
}
