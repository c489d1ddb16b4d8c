package ecsagent

import (
	"strings"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	ordered := []string{"", "1.9.5", "1.10.0-1", "1.99.1-1", "1.100.0", "1.100.0-1", "1.105.1-1", "1.105.1-2", "1.105.1-10"}
	for i, a := range ordered {
		for j, b := range ordered {
			got := CompareVersions(a, b)
			if want := i - j; got < 0 != (want < 0) || got > 0 != (want > 0) {
				t.Errorf("CompareVersions(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func TestFlaws(t *testing.T) {
	tests := []struct {
		version      string
		bad, install bool // refused
		reason       string
	}{
		{"1.105.1-1", false, false, ""},
		{"1.100.0", false, false, ""},
		{"1.99.1-1", false, true, "EC2 role"},
		{"1.86.1-1", false, true, "EC2 role"},
		{"1.86.0-1", true, true, "leaves ecs stopped"},
		{"v1.85.0", true, true, "leaves ecs stopped"},
		{"1.84.0-1", false, true, "EC2 role"},
		{"1.51.0-1", true, true, "external instances"},
		{"", false, false, ""},
	}
	for _, tt := range tests {
		_, bad := KnownBad(tt.version)
		reason, install := NotToInstall(tt.version)
		if bad != tt.bad || install != tt.install || !strings.Contains(reason, tt.reason) {
			t.Errorf("%s: known bad %v, not to install %v (%s)", tt.version, bad, install, reason)
		}
	}
	if got := FlawsOf("1.78.0-1"); len(got) != 5 || got[1].Verdict != Warn || !strings.Contains(got[1].Reason, "AppArmor profile") {
		t.Errorf("FlawsOf(1.78.0) = %+v", got)
	}
	for _, f := range Flaws {
		if f.Source == "" || f.Reason == "" || (f.Through == "") == (f.Before == "") {
			t.Errorf("%+v is not whole", f)
		}
	}
}
