package preflight

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// tree is everything below root, by path: type, mode, time of change and hash of the content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := []byte{}
		if info.Mode().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all[path] = fmt.Sprintf("%v %v %x", info.Mode(), info.ModTime(), sha256.Sum256(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every case of every check leaves its machine as it was, to the times of its files.
func TestChecksChangeNothing(t *testing.T) {
	for _, test := range cases {
		m := newMachine(t)
		if test.change != nil {
			test.change(m)
		}
		before := tree(t, m.root)
		subject := test.subject
		subject.Host, subject.Getenv = m.reader(), m.getenv
		Run(t.Context(), All(), subject, Options{Network: m.bound})
		if diff := cmp.Diff(before, tree(t, m.root)); diff != "" {
			t.Errorf("%s/%s changed the host:\n%s", test.id, test.name, diff)
		}
	}
}

func named(id string, run func(context.Context, Subject) Result) Check {
	return Check{ID: id, Title: id, Run: run}
}

// The checks run at the same time: each waits for all the others. The results are in the order of the checks.
func TestRunIsConcurrentAndInOrder(t *testing.T) {
	const n = 20
	var together sync.WaitGroup
	together.Add(n)
	var checks []Check
	for i := range n {
		checks = append(checks, named(fmt.Sprintf("c%d", i), func(context.Context, Subject) Result {
			together.Done()
			together.Wait()
			return pass("%d", i)
		}))
	}
	for i, r := range Run(t.Context(), checks, Subject{Host: newMachine(t).reader()}, Options{Timeout: time.Minute}) {
		if r.ID != fmt.Sprintf("c%d", i) || r.Detail != fmt.Sprint(i) || r.Status != Pass {
			t.Errorf("result %d is %+v", i, r)
		}
	}
}

// A check that hangs is named within the bound, as a warning; the others have their answers.
func TestRunNamesWhatHangs(t *testing.T) {
	for name, hang := range map[string]func(context.Context, Subject) Result{
		"for ever":     func(context.Context, Subject) Result { select {} },
		"with its ctx": func(ctx context.Context, _ Subject) Result { <-ctx.Done(); return broken(context.Cause(ctx)) },
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			results := Run(t.Context(), []Check{
				named("good", func(context.Context, Subject) Result { return pass("fine") }), named("bad", hang),
			}, Subject{Host: newMachine(t).reader()}, Options{Timeout: 20 * time.Millisecond})
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			if results[0].Status != Pass || results[0].Detail != "fine" {
				t.Errorf("the good one: %+v", results[0])
			}
			bad := results[1]
			if bad.Status != Warn || !strings.Contains(bad.Detail, "no answer within 20ms") ||
				bad.Remedy != "anywhere preflight --only bad" {
				t.Errorf("the one that hangs: %+v", bad)
			}
			if err := Verdict(results, false); err != nil {
				t.Errorf("what is not known is called a failure: %v", err)
			}
		})
	}
}

// A Docker that takes the connection and never answers is told as that, by name, before the time for all checks ends.
func TestDockerThatHangs(t *testing.T) {
	m := newMachine(t)
	m.dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }() // reads the question, and ends with the asker
		return near, nil
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		results := Run(t.Context(), All(), Subject{Host: m.reader(), Mutating: true}, Options{Timeout: 8 * time.Second})
		if took := time.Since(begun); took >= 8*time.Second {
			t.Errorf("took %s", took)
		}
		for _, r := range results {
			if r.Status == Fail && r.ID != "docker.daemon" {
				t.Errorf("%s: %s", r.ID, r.Detail)
			}
		}
		err := Verdict(results, false)
		const want = "docker.daemon: Docker is installed and does not answer: the daemon did not answer within 5s"
		if !failure.Is(err, failure.DockerDown) || !strings.Contains(err.Error(), want) {
			t.Errorf("verdict: %v", err)
		}
	})
}

func ids(results []Result) (all []string) {
	for _, r := range results {
		all = append(all, r.ID)
	}
	return all
}

func TestOnlyAndIgnore(t *testing.T) {
	m := newMachine(t)
	m.manager.LockedBy = "pid 1 (apt)"
	m.write(ecsagent.ConfigPath, "ECS_CLUSTER=\"shop\"\n")
	s := Subject{Host: m.reader()}

	results := Run(t.Context(), All(), s, Options{Only: []string{"packages.manager", "os.arch"}})
	if got := ids(results); !slices.Equal(got, []string{"os.arch", "packages.manager"}) {
		t.Errorf("--only ran %v", got)
	}
	results = Run(t.Context(), All(), s, Options{Ignore: []string{"packages.manager", "os.machine-id"}})
	if len(results) != len(All()) {
		t.Errorf("--ignore left checks out: %v", ids(results))
	}
	err := Verdict(results, false)
	if err == nil || !strings.HasPrefix(err.Error(), "existing.ecs: ") {
		t.Errorf("the verdict is %v; want existing.ecs alone", err)
	}
	warnings := strings.Join(Warnings(results), "\n")
	if !strings.Contains(warnings, "packages.manager: ") || strings.Contains(warnings, "os.machine-id") {
		t.Errorf("the warnings are %q: an ignored failure is one, an ignored pass is not", warnings)
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string // a part of the message; empty is none
	}{
		{Options{}, ""},
		{Options{Only: []string{"os.arch"}, Ignore: []string{"docker.version"}}, ""},
		{Options{Only: []string{"os.ark"}}, `--only: there is no check "os.ark"`},
		{Options{Ignore: []string{"memory "}}, `--ignore: there is no check "memory "`},
		{Options{Ignore: []string{"os.arch"}}, "--ignore: os.arch cannot be ignored"},
	} {
		err := test.options.Validate()
		if (err == nil) != (test.want == "") {
			t.Errorf("%+v: %v", test.options, err)
			continue
		}
		if err != nil && (!failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v; want %q as a usage error", test.options, err, test.want)
		}
	}
}

// What two checks see is told by one: keys in ecs.config are a matter of credentials, not of the file's form too.
func TestOneCauseIsOneFailure(t *testing.T) {
	for _, key := range accessKeys {
		m := newMachine(t)
		m.write(ecsagent.ConfigPath, "ECS_CLUSTER=shop\n"+key+"=AKIAIOSFODNN7EXAMPLE\n")
		err := Verdict(Run(t.Context(), All(), Subject{Host: m.reader()}, Options{}), false)
		if !failure.Is(err, failure.ForeignProfile) || !strings.HasPrefix(err.Error(), "credentials.chain: "+key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestVerdict(t *testing.T) {
	result := func(id string, r Result) Result { r.ID = id; return r }
	var (
		good    = result("good", pass("fine"))
		odd     = result("odd", warn("odd", "look"))
		down    = result("docker.daemon", fail(failure.DockerDown, "down", "systemctl start docker"))
		locked  = result("packages.manager", fail(failure.PackagesLocked, "locked", "wait"))
		arch    = result("os.arch", fail(failure.UnsupportedArch, "mips", "another machine"))
		plain   = result("os.machine-id", fail("", "none", "make one"))
		config  = result("existing.ecs", broken(failure.New(failure.NewerRecord, "unreadable")))
		unknown = result("disk.space", broken(errors.New("input/output error")))
		ignored = result("docker.daemon", fail(failure.DockerDown, "down", "systemctl start docker"))
	)
	ignored.Ignored = true
	for _, test := range []struct {
		name    string
		results []Result
		strict  bool
		code    failure.Code // empty is nil
		exit    int
		remedy  string
	}{
		{"nothing", nil, true, "", 0, ""},
		{"all good", []Result{good, odd}, false, "", 0, ""},
		{"strict", []Result{good, odd}, true, failure.PreflightFailed, failure.ExitPreflight, "look"},
		{"one", []Result{good, down}, false, failure.DockerDown, failure.ExitPreflight, "systemctl start docker"},
		{"ignored", []Result{good, ignored}, false, "", 0, ""},
		{"ignored, strict", []Result{good, ignored}, true,
			failure.DockerDown, failure.ExitPreflight, "systemctl start docker"},
		{"two", []Result{locked, good, down}, false, failure.PreflightFailed, failure.ExitPreflight, "wait"},
		{"a machine of the wrong kind beside it", []Result{down, locked, arch}, false,
			failure.UnsupportedArch, failure.ExitUnsupported, "another machine"},
		{"without a code", []Result{plain}, false, failure.PreflightFailed, failure.ExitPreflight, "make one"},
		{"a code with another exit status", []Result{config}, false, failure.PreflightFailed, failure.ExitPreflight, ""},
		{"no code at all", []Result{unknown}, false, failure.PreflightFailed, failure.ExitPreflight, ""},
	} {
		err := Verdict(test.results, test.strict)
		if test.code == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		f := failure.Of(err)
		if f == nil || f.Code != test.code || f.Entry().Exit != test.exit || !strings.Contains(f.Advice(), test.remedy) {
			t.Errorf("%s: %+v; want %s, exit %d", test.name, f, test.code, test.exit)
		}
		for _, r := range test.results {
			named := strings.Contains(f.Message, r.ID+": "+r.Detail) || test.exit == failure.ExitUnsupported
			if r.Status == Fail && !r.Ignored && !named {
				t.Errorf("%s: %q does not name %s", test.name, f.Message, r.ID)
			}
		}
	}
}

// A failure that every check shares: a host on which nothing can be read.
func TestUnreadableHost(t *testing.T) {
	m := newMachine(t)
	r := m.reader()
	r.Files = unreadable{r.Files}
	r.Kernel = host.NewKernel(r.Files)
	for _, result := range Run(t.Context(), All(), Subject{Host: r}, Options{}) {
		if result.Status == Fail && (result.Detail == "" || result.Remedy == "") {
			t.Errorf("%s failed and says %q, %q", result.ID, result.Detail, result.Remedy)
		}
	}
}

type unreadable struct{ host.Files }

var errIO = errors.New("input/output error")

func (unreadable) ReadFile(string) ([]byte, error)       { return nil, errIO }
func (unreadable) Open(string) (fs.File, error)          { return nil, errIO }
func (unreadable) Stat(string) (fs.FileInfo, error)      { return nil, errIO }
func (unreadable) Lstat(string) (fs.FileInfo, error)     { return nil, errIO }
func (unreadable) ReadDir(string) ([]fs.DirEntry, error) { return nil, errIO }
func (unreadable) Space(string) (uint64, error)          { return 0, errIO }

// BenchmarkLocal is the whole preflight of a host with a Docker that answers at once.
func BenchmarkLocal(b *testing.B) {
	s := Subject{Host: newMachine(b).reader()}
	b.ReportAllocs()
	for b.Loop() {
		if err := Verdict(Run(context.Background(), All(), s, Options{Timeout: time.Minute}), false); err != nil {
			b.Fatal(err)
		}
	}
}
