package e2e

import (
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
)

// The power fails in the middle of dpkg, once for each package, and in the middle of the registration.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	s := waiting(t)
	h := s.host(lab.Host{})
	// The registration's request may reach AWS although nobody waits for the answer any more: one slot more than needed.
	token := s.token(2)
	cut := func(r *running) {
		h.Kill()
		r.end()
		h.Boot()
		if len(journal(h)) == 0 {
			t.Fatal("there is no open journal after the power cut")
		}
	}

	before := stateOf(h)
	r := s.begin(h, s.register(token))
	r.at(ssmWaits)
	cut(r)
	stop := releaseAll(h)
	if d := s.read(h.Run(anywhere("rollback"))); d.RC != 0 || !d.Changed {
		t.Errorf("rollback: %+v %+v", d, d.Error)
	}
	stop()
	s.mustBeAsBefore(h, before, "after a power cut in dpkg and rollback")

	r = s.begin(h, s.register(token))
	r.at(ssmWaits)
	cut(r)
	if h.MustShell("dpkg --audit") == "" {
		t.Error("dpkg was interrupted, and does not say so")
	}

	r = s.begin(h, s.register(token))
	r.at(ssmWaits)() // dpkg --configure finishes the first package
	r.at(ecsWaits)
	cut(r)

	// The emulator holds every answer back once both packages are installed.
	r = s.begin(h, s.register(token))
	release := r.at(ecsWaits)
	if err := s.aws.Fault(emulator.FaultSlow); err != nil {
		t.Fatal(err)
	}
	release()
	stop = releaseAll(h)
	registering := r.until(line(`"is":"child"`, `!"pid":0`, "-register"))
	stop()
	if !registering {
		t.Fatalf("it ended before it registered: %v", r.end())
	}
	cut(r)
	s.aws.ClearFault(emulator.FaultSlow)

	stop = releaseAll(h)
	d := s.proceed(h, s.again(h, token))
	stop()
	if !d.Changed {
		t.Error("the run that finishes the registration is a change")
	}
	live := 0
	for _, i := range s.aws.Instances() {
		if i.Status == "ACTIVE" {
			live++
		}
	}
	if live != 1 {
		t.Errorf("one host has %d live instances: %+v", live, s.aws.Instances())
	}
	s.mustKeepSecrets(h, token)
	if again := s.mustRegister(h, s.register("")); again.Changed {
		t.Error("it had not finished")
	}
}
