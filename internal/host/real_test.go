package host

import (
	"runtime"
	"testing"
)

func TestRealIsWired(t *testing.T) {
	h, err := Real()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "system", h.Self.GOOS+"/"+h.Self.GOARCH, runtime.GOOS+"/"+runtime.GOARCH)
	check(t, "local path", h.Disk.Local("/etc/../etc/ecs"), "/etc/ecs")
	if _, err := ReadOSRelease(h.Files); err != nil {
		t.Error(err)
	}
	if h.Kernel.Release() == "" || h.Dial == nil || h.Now().IsZero() || h.Runner == nil || h.Manager == nil {
		t.Errorf("a part is missing: %+v", h)
	}
	state, err := h.Packages.State()
	if err != nil {
		t.Error(err)
	}
	if dpkg, err := h.Packages.Package("dpkg"); err != nil || dpkg.Installed != (state.Family == "deb") {
		t.Errorf("%+v on %+v, %v", dpkg, state, err)
	}
}
