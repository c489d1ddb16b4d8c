package host

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A child that only fills a cache ends with the context, with what it has started itself; any other does not.
func TestADisposableChildEndsWithTheContext(t *testing.T) {
	for _, disposable := range []bool{true, false} {
		ended := errors.New("that is enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cmd := shell("sleep 300 & wait")
		if !disposable {
			cmd = shell("exit 3")
		}
		cmd.Disposable = disposable
		started := make(chan struct{}, 2)
		ctx = WithChildHook(ctx, func(c Child) {
			if c.PID != 0 {
				started <- struct{}{}
			}
		})
		go func() { <-started; cancel(ended) }()
		done := make(chan struct{})
		var result Result
		var err error
		go func() {
			defer close(done)
			result, err = newTestRunner(nil).Run(ctx, cmd)
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("it runs on")
		}
		if disposable && !errors.Is(err, ended) || !disposable && (err != nil || result.ExitCode != 3) {
			t.Errorf("disposable %v: %+v, %v", disposable, result, err)
		}
	}
}
