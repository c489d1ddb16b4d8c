package emulator

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// settleTime is how long changes are collected before the state is written: a host that registers makes ten calls.
const settleTime = 200 * time.Millisecond

// Keeper keeps an emulator's state in a file that only its owner reads, until Close.
type Keeper struct {
	path    string
	lock    *flock.Flock
	written []byte // what the file holds

	mu    sync.Mutex // of writing
	stop  chan struct{}
	ended chan struct{}
	e     *Emulator
}

// OpenKeeper takes a file of state for itself and reads it; nil data is a file that is not there yet.
func OpenKeeper(path string) (k *Keeper, data []byte, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, nil, fmt.Errorf("finding the emulator's state: %w", err)
	}
	k = &Keeper{path: path, lock: flock.New(path + ".lock"), stop: make(chan struct{}), ended: make(chan struct{})}
	held, err := k.lock.TryLock()
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("locking the emulator's state: %w", err)
	case !held:
		return nil, nil, ErrStateInUse
	}
	data, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil, nil
	}
	if err != nil {
		k.unlock()
		return nil, nil, fmt.Errorf("reading the emulator's state: %w", err)
	}
	k.written = data
	return k, data, nil
}

// ErrStateInUse says that another emulator has the file of state.
var ErrStateInUse = errors.New("another emulator keeps its state there")

// Keep writes e's state now, and from now on a moment after each change. tell gets every failure to write; the next change
// tries again.
func (k *Keeper) Keep(e *Emulator, tell func(error)) error {
	k.e = e
	if err := k.write(); err != nil {
		return err
	}
	go k.watch(e.changes, tell)
	return nil
}

func (k *Keeper) watch(changes <-chan struct{}, tell func(error)) {
	defer close(k.ended)
	for {
		select {
		case <-k.stop:
			return
		case <-changes:
		}
		select {
		case <-k.stop:
			return
		case <-time.After(settleTime):
		}
		if err := k.write(); err != nil {
			tell(err)
		}
	}
}

// write puts the state into the file, if it is another one.
func (k *Keeper) write() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var text bytes.Buffer
	if err := k.e.Save(&text); err != nil {
		return err
	}
	if bytes.Equal(text.Bytes(), k.written) {
		return nil
	}
	if err := replace(k.path, text.Bytes()); err != nil {
		return fmt.Errorf("writing the emulator's state: %w", err)
	}
	k.written = text.Bytes()
	return nil
}

// Close writes the last state and gives the file up.
func (k *Keeper) Close() error {
	defer k.unlock()
	if k.e == nil { // it was never kept
		return nil
	}
	close(k.stop)
	<-k.ended
	return k.write()
}

// unlock leaves the lock's file behind: whoever removed it could remove another's.
func (k *Keeper) unlock() { _ = k.lock.Unlock() }

// replace puts a whole file, readable by its owner only, in the place of another, so that a power cut leaves one of the two.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// changed tells the keeper, if there is one, that an operation may have changed the state.
func (e *Emulator) changed(operation string) {
	_, name, _ := strings.Cut(operation, ":")
	for _, reads := range []string{"Describe", "List", "Get", "Head"} {
		if strings.HasPrefix(name, reads) {
			return
		}
	}
	select {
	case e.changes <- struct{}{}:
	default: // it knows
	}
}
