package ssmagent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// snap makes the agent a snap of which two revisions are at hand.
func (m machine) snap(current string) {
	m.t.Helper()
	for revision, version := range map[string]string{"11797": "3.3.2299.0", "11891": "3.3.2746.0"} {
		m.write("/snap/amazon-ssm-agent/"+revision+"/meta/snap.yaml", "version: "+version+"\n")
		m.write("/snap/amazon-ssm-agent/"+revision+"/amazon-ssm-agent", "")
	}
	if current == "" {
		return
	}
	if err := os.Symlink(current, filepath.Join(m.root, "snap/amazon-ssm-agent/current")); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) deb() {
	m.write("/var/lib/dpkg/status", "Package: amazon-ssm-agent\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.3.4108.0-1\n")
}

// unitsThere are those units that exist.
type unitsThere []string

func (unitsThere) Available(context.Context) error { return nil }

func (u unitsThere) Unit(_ context.Context, name string) (host.Unit, error) {
	for _, there := range u {
		if there == name {
			return host.Unit{Name: name, Loaded: true}, nil
		}
	}
	return host.Unit{Name: name}, nil
}

func TestForms(t *testing.T) {
	for _, test := range []struct {
		name   string
		make   func(machine)
		units  unitsThere
		form   Form
		refuse string // what is said of it; empty is nothing
		remedy string
	}{
		{"nothing", func(machine) {}, nil, Packaged, "", ""},
		{"the package", machine.deb, unitsThere{UnitName}, Packaged, "", ""},
		{"the snap", func(m machine) { m.snap("11797") }, unitsThere{SnapUnit}, Form{true, SnapUnit, "/snap/amazon-ssm-agent/current"}, "", ""},
		{"the snap, without a service manager that knows", func(m machine) { m.snap("11797") }, nil,
			Form{true, SnapUnit, "/snap/amazon-ssm-agent/current"}, "", ""},
		{"both", func(m machine) { m.snap("11797"); m.deb() }, unitsThere{SnapUnit, UnitName}, Packaged,
			"there twice, as a snap and as the package amazon-ssm-agent 3.3.4108.0-1", "apt-get remove amazon-ssm-agent"},
		{"the package, and the unit of a snap", machine.deb, unitsThere{SnapUnit, UnitName}, Packaged, "there twice", "snap remove amazon-ssm-agent"},
		{"a snap that is disabled", func(m machine) { m.snap("") }, nil, Form{true, SnapUnit, "/snap/amazon-ssm-agent/current"},
			"is disabled", "snap enable amazon-ssm-agent"},
		{"a snap that is not mounted", func(m machine) { m.snap("11900") }, unitsThere{SnapUnit}, Form{true, SnapUnit, "/snap/amazon-ssm-agent/current"},
			"is broken", "snap install --classic amazon-ssm-agent"},
		{"a snap without its program", func(m machine) { m.snap("11797"); m.remove("/snap/amazon-ssm-agent/11797/amazon-ssm-agent") }, unitsThere{SnapUnit},
			Form{true, SnapUnit, "/snap/amazon-ssm-agent/current"}, "is broken", "snap changes"},
		{"only its unit", func(machine) {}, unitsThere{SnapUnit}, Packaged, "is broken", "snap list amazon-ssm-agent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			test.make(m)
			r := m.reader()
			r.Units = test.units
			form, err := FormOf(r)
			if err != nil || form != test.form || UnitOf(r) != test.form.Unit || !IsUnit(form.Unit) {
				t.Errorf("%+v, %v; want %+v", form, err, test.form)
			}
			err = RefuseSnap(t.Context(), r)
			if test.refuse == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f := failure.Of(err)
			if f == nil || f.Code != failure.SnapAgent || !strings.Contains(f.Message, test.refuse) || !strings.Contains(f.Advice(), test.remedy) || f.Evidence == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// The kernel does not tell that a snap was refreshed below its process: snapd keeps the files.
func TestProcessOfASnap(t *testing.T) {
	for program, replaced := range map[string]bool{
		"/snap/amazon-ssm-agent/11797/amazon-ssm-agent":   true,
		"/snap/amazon-ssm-agent/11891/amazon-ssm-agent":   false,
		"/snap/amazon-ssm-agent/current/amazon-ssm-agent": false,
		"/usr/bin/amazon-ssm-agent":                       false,
		"/usr/bin/amazon-ssm-agent (deleted)":             true,
	} {
		m := newMachine(t)
		m.snap("11891")
		m.write("/proc/77/stat", "")
		if err := os.Symlink(program, filepath.Join(m.root, "proc/77/exe")); err != nil {
			t.Fatal(err)
		}
		if p, err := ReadProcess(m.reader(), 77); err != nil || p.Replaced != replaced {
			t.Errorf("%s: %+v, %v", program, p, err)
		}
	}
}

// What people are told to type names the unit that is there.
func TestTyped(t *testing.T) {
	for remedy, want := range map[string]string{
		"systemctl restart amazon-ssm-agent, and check the clock":     "systemctl restart " + SnapUnit + ", and check the clock",
		"then systemctl restart amazon-ssm-agent.service; look again": "then systemctl restart " + SnapUnit + "; look again",
		"systemctl enable --now amazon-ssm-agent":                     "systemctl enable --now " + SnapUnit,
		"journalctl -u ecs -u amazon-ssm-agent -n 50 says why":        "journalctl -u ecs -u " + SnapUnit + " -n 50 says why",
		"snap enable amazon-ssm-agent":                                "snap enable amazon-ssm-agent",
		"systemctl restart " + SnapUnit:                               "systemctl restart " + SnapUnit,
	} {
		if got := Typed(SnapUnit, remedy); got != want {
			t.Errorf("%q; want %q", got, want)
		}
		if got := Typed(UnitName, remedy); got != remedy {
			t.Errorf("%q of %q, on a host with the package", got, remedy)
		}
	}
}

// The snap's own program registers.
func TestRegisterWithASnap(t *testing.T) {
	m := newMachine(t)
	m.snap("11797")
	a := &agentBinary{m: m, gives: ourID, running: true}
	id, _, err := a.apply(t.Context(), activation, engine.Options{})
	if err != nil || id != ourID || len(a.runs) != 1 || a.runs[0].Path != "/snap/amazon-ssm-agent/current/amazon-ssm-agent" || a.stopped != 1 {
		t.Errorf("%s, %v, stopped %d times, ran %+v", id, err, a.stopped, a.runs)
	}
}
