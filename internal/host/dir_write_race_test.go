package host

import (
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestParallelWritesShareNewParents(t *testing.T) {
	d := NewDir(t.TempDir())
	var wait sync.WaitGroup
	for i := range 32 {
		wait.Go(func() {
			name := path.Join("/var/lib/new/parents", strconv.Itoa(i))
			if err := d.WriteFile(name, strings.NewReader("x"), 0o600, Owner{}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}
