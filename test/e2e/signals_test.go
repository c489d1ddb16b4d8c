package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// waiting is a site whose packages hold their installation until the test lets them go on.
func waiting(t *testing.T) *site {
	return newSite(t, packages.Options{PostinstWaits: true}, packages.Options{PostinstWaits: true})
}

// at waits until a postinst holds the run, and returns what lets it go on.
func (r *running) at(marker string) (release func()) {
	r.t.Helper()
	await(r.t, marker+" is there", func() bool { return r.h.Exists(marker) || r.over() })
	if r.over() {
		r.t.Fatalf("it ended before %s: %v", marker, r.res)
	}
	return func() {
		if err := r.h.RemoveFile(marker); err != nil {
			r.t.Error(err)
		}
	}
}

// logged waits until the runs' log has a text.
func (s *site) logged(h *lab.Machine, text string) {
	s.t.Helper()
	await(s.t, "the log has "+text, func() bool {
		log, _ := h.ReadFile(runLog)
		return strings.Contains(string(log), text)
	})
}

func TestInterruptedBeforeThePointOfNoReturn(t *testing.T) {
	t.Parallel()
	s := waiting(t)
	h := s.host(lab.Host{})
	token := s.token(1)
	before := stateOf(h)

	for _, c := range []struct {
		what string
		stop func(r *running)
		exit int
		code string
	}{
		{"SIGINT", func(r *running) { r.signal(syscall.SIGINT) }, 130, "interrupted"},
		{"SIGTERM", func(r *running) { r.signal(syscall.SIGTERM) }, 143, "terminated"},
	} {
		r := s.begin(h, s.register(token))
		release := r.at(ssmWaits)
		c.stop(r)
		if r.over() {
			t.Errorf("%s: it did not wait for dpkg: %v", c.what, r.res)
		}
		release()
		d := s.read(r.end())
		if d.RC != c.exit || d.Error == nil || d.Error.Code != c.code || !d.Error.RolledBack || d.Changed {
			t.Errorf("%s: %+v %+v; want exit %d, %s, rolled back", c.what, d, d.Error, c.exit, c.code)
		}
		s.mustBeAsBefore(h, before, "after "+c.what)
	}

	// Within that time it comes to dpkg, or on a very busy machine not so far: the host is as before in any case.
	r := s.begin(h, s.register(token, "--timeout", "6s"))
	await(t, "it is in dpkg, or over", func() bool { return h.Exists(ssmWaits) || r.over() })
	inDpkg := !r.over()
	time.Sleep(6500 * time.Millisecond)
	if inDpkg && r.over() {
		t.Errorf("--timeout: it did not wait for dpkg: %v", r.res)
	}
	_ = h.RemoveFile(ssmWaits)
	if d := s.read(r.end()); d.RC != 130 || d.Error.Code != "timeout" || d.Error.RolledBack != inDpkg || d.Changed {
		t.Errorf("--timeout: %+v %+v", d, d.Error)
	}
	s.mustBeAsBefore(h, before, "after --timeout")

	// The second Ctrl-C exits at once: dpkg goes on without us, and the next run waits for it.
	r = s.begin(h, s.register(token))
	release := r.at(ssmWaits)
	r.signal(syscall.SIGINT)
	time.Sleep(200 * time.Millisecond) // two signals at once are one
	r.signal(syscall.SIGINT)
	if res := r.end(); res.Exit != 130 {
		t.Errorf("after the second SIGINT: %v", res)
	}
	if len(journal(h)) == 0 || len(h.Pids("dpkg")) == 0 {
		t.Errorf("no journal, or dpkg was hit too: %v, %v", journal(h), h.Pids("dpkg"))
	}
	r = s.begin(h, s.register(token, "-v"))
	s.logged(h, "waits until /usr/bin/dpkg")
	if r.over() || len(h.Pids("dpkg")) != 1 {
		t.Fatalf("it did not wait for dpkg %v: %v", h.Pids("dpkg"), r.res)
	}
	release()

	// The same with SIGKILL, in the other package.
	release = r.at(ecsWaits)
	r.killed()
	lines := len(journal(h))
	r = s.begin(h, s.register(token, "-v"))
	await(t, "it waits", func() bool {
		log, _ := h.ReadFile(runLog)
		return strings.Count(string(log), "waits until /usr/bin/dpkg") > 1 && strings.Contains(string(log), "amazon-ecs-init")
	})
	if len(journal(h)) != lines || len(h.Pids("dpkg")) != 1 {
		t.Errorf("it did something while dpkg of the killed run was at work: %s", strings.Join(journal(h)[lines:], ""))
	}
	release()
	res := r.end()
	if d := s.read(res); d.RC != 0 || d.Result.Verified != "local" || !d.Changed {
		t.Fatalf("the last run: %v", res)
	}
	if !strings.Contains(res.Stderr, "waits until /usr/bin/dpkg") {
		t.Errorf("nobody was told what it waited for: %s", res.Stderr)
	}
	s.settledIn(h)
	if left := s.left(token); left != 0 {
		t.Errorf("%d slots are left of 1", left)
	}
	s.mustKeepSecrets(h, token)
}

func TestInterruptedPastThePointOfNoReturn(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	token := s.token(1)
	for _, c := range []struct {
		signal syscall.Signal
		exit   int
		from   []string
	}{
		{syscall.SIGINT, 130, []string{`"is":"commit"`}},
		{syscall.SIGTERM, 143, []string{`"is":"begin"`}},
	} {
		r := s.begin(h, s.again(h, token))
		if !r.until(line(c.from...)) {
			t.Fatalf("it ended before %v: %v", c.from, r.end())
		}
		r.signal(c.signal)
		d := s.read(r.end())
		if d.RC != c.exit || d.Error == nil || d.Error.RolledBack || len(d.Error.Kept) == 0 || !d.Changed {
			t.Fatalf("%v: %+v %+v", c.signal, d, d.Error)
		}
		if !strings.Contains(d.Error.Kept[0], "managed node mi-") || !strings.Contains(d.Error.Remedy, "no token needed") {
			t.Errorf("%v: kept %q, remedy %q", c.signal, d.Error.Kept, d.Error.Remedy)
		}
	}
	res := h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json"}})
	if d := s.read(res); d.RC != 12 || d.Error.Code != "nothing_to_roll_back" {
		t.Errorf("rollback past the point of no return: %v", res)
	}
	if d := s.proceed(h, s.register("")); !d.Changed {
		t.Error("the run that finishes the registration is a change")
	}
	if left := s.left(token); left != 0 || len(s.aws.Nodes()) != 1 {
		t.Errorf("%d slots are left of 1, and %d nodes", left, len(s.aws.Nodes()))
	}
}

// Whoever started the run has gone: the reader of its output, and the terminal.
func TestNobodyListensAnyMore(t *testing.T) {
	t.Parallel()
	s := waiting(t)
	h := s.host(lab.Host{})
	token := s.token(1)
	command := strings.Join(s.register(token).Args, " ")
	script := "{ " + command + "; echo $? >/root/status; } 2>&1 | { while read -r l; do case $l in *'Configure the SSM agent'*) exit;; esac; done; }"
	r := s.begin(h, lab.Cmd{Args: []string{"/bin/sh", "-c", script}, Stdin: token})
	release := r.at(ssmWaits)
	r.signal(syscall.SIGHUP)
	s.logged(h, "SIGHUP passed over")
	release()
	release = r.at(ecsWaits)
	r.signal(syscall.SIGHUP)
	release()
	r.end()
	if status, err := h.ReadFile("/root/status"); string(status) != "0\n" {
		log, _ := h.ReadFile(runLog)
		t.Fatalf("it ended with %q, %v\n%s", status, err, log)
	}
	s.logged(h, `"msg":"end","run"`)
	if d := s.mustRegister(h, s.register("")); d.Changed {
		t.Error("it had not finished")
	}
	s.settledIn(h)
}
