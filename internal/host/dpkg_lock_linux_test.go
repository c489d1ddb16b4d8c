package host

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// lockInCopy is the file that the copy of the test binary is to lock: a process never sees its own lock.
const lockInCopy = "ANYWHERE_TEST_LOCK"

func TestMain(m *testing.M) {
	if name := os.Getenv(lockInCopy); name != "" {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
		if err == nil {
			err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		fmt.Println("locked", err)
		io.Copy(io.Discard, os.Stdin) // until the test closes it
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// lockedByCopy locks a file in another process, and returns how that is called.
func lockedByCopy(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command(self)
	other.Env = append(os.Environ(), lockInCopy+"="+name)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); other.Wait() })
	if said, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || said != "locked <nil>\n" {
		t.Fatalf("%q, %v", said, err)
	}
	return fmt.Sprintf("pid %d (%.15s)", other.Process.Pid, filepath.Base(self))
}

func TestStateNamesTheLocksHolder(t *testing.T) {
	for name, ofLists := range map[string]bool{dpkgDir + "/lock-frontend": false, dpkgDir + "/lock": false, aptLists + "/lock": true} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := NewDir(root, "/proc")
			d := NewDpkg(files, files, &fakeRunner{})
			put(t, filepath.Join(root, dpkgStatus), "")
			lock := filepath.Join(root, name)
			put(t, lock, "")
			if state, err := d.State(); err != nil || state.LockedBy != "" || state.ListsBy != "" {
				t.Fatalf("free: %+v, %v", state, err)
			}
			holder := lockedByCopy(t, lock)
			want := ManagerState{Family: "deb", Manager: "apt", LockedBy: holder}
			if ofLists {
				want = ManagerState{Family: "deb", Manager: "apt", ListsBy: holder}
			}
			if state, err := d.State(); err != nil || !reflect.DeepEqual(state, want) {
				t.Errorf("got %+v, %v, want %+v", state, err, want)
			}
		})
	}
}
