package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// slow is what only the slow tier needs (make e2e-slow).
var slow []func(dir string) error

func TestMain(m *testing.M) {
	setup := []func(string) error{
		packages.BuildPrograms, packages.BuildARM, packages.BuildAgents("simagent-next", "3.3.5000.0", "1.106.0"),
	}
	lab.Main(m, append(setup, slow...)...)
}

// The branches of preflight that look at cgroups, and Docker's, must meet the real thing.
func TestHostsOfBothCgroupVersions(t *testing.T) {
	for version, filesystem := range map[int]string{1: "tmpfs", 2: "cgroup2fs"} {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			t.Parallel()
			h := lab.Start(t, lab.Host{Name: "box", Cgroup: version, Docker: true})
			if got := h.MustShell("stat -fc %T /sys/fs/cgroup"); got != filesystem {
				t.Errorf("/sys/fs/cgroup is a %s, want %s", got, filesystem)
			}
			if got := h.MustShell("systemctl is-system-running || systemctl --failed"); got != "running" {
				t.Errorf("the system is %s, want running", got)
			}
			want := fmt.Sprint("overlay2 ", version)
			if got := h.MustShell("docker info -f '{{.Driver}} {{.CgroupVersion}}'"); got != want {
				t.Errorf("docker runs with %q, want %q", got, want)
			}
		})
	}
}

func TestHostReachesTheTestAndNothingElse(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Host{Names: []string{"ecs.eu-central-1.amazonaws.com"}})
	listener, err := net.Listen("tcp", lab.Address+":0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: listener, Config: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "emulated") }),
	}}
	srv.Start()
	defer srv.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	const get = `exec 3<>/dev/tcp/$0/$1; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3`
	res := h.Run(lab.Cmd{Args: []string{"/bin/bash", "-c", get, "ecs.eu-central-1.amazonaws.com", port}})
	if !strings.HasSuffix(res.Stdout, "emulated") {
		t.Errorf("the host did not reach the test: %v", res)
	}
	res = h.Run(lab.Cmd{Args: []string{"/bin/bash", "-c", get, "169.254.169.254", "80"}})
	if res.Exit == 0 || !strings.Contains(res.Stderr, "unreachable") {
		t.Errorf("the instance metadata address must be unreachable at once: %v", res)
	}
}

func TestRunKeepsArgumentsStreamsAndStatus(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Host{})
	res := h.Run(lab.Cmd{
		Args:  []string{"/bin/sh", "-c", `printf '%s|%s' "$1" "$V"; cat >&2; exit 7`, "sh", "${HOME} %n $$"},
		Env:   []string{"V=a b"},
		Stdin: "from stdin",
	})
	want := lab.Result{Stdout: "${HOME} %n $$|a b", Stderr: "from stdin", Exit: 7}
	if res != want {
		t.Errorf("got %+v, want %+v", res, want)
	}
	p := h.Start(lab.Cmd{Args: []string{"sleep", "600"}})
	for h.Shell("pgrep -x sleep").Exit != 0 {
	}
	p.Signal("KILL")
	if res := p.Wait(); res.Exit == 0 {
		t.Errorf("a killed command must not look well: %v", res)
	}
}

// Kill and Reboot are what the tests of promise 2 stand on.
func TestDiskSurvivesPowerCutAndReboot(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Host{Docker: true})
	boot := h.MustShell("cat /proc/sys/kernel/random/boot_id; readlink /proc/1/ns/pid")
	id := h.MustShell("cat /etc/machine-id")
	h.WriteFile("/var/lib/some/file", []byte("kept"), 0o600)
	h.WriteFile("/run/gone", nil, 0o600)
	running := h.Start(lab.Cmd{Args: []string{"sleep", "600"}})
	check := func(after string) {
		t.Helper()
		if data, err := h.ReadFile("/var/lib/some/file"); string(data) != "kept" {
			t.Errorf("after %s: %q, %v", after, data, err)
		}
		if h.Exists("/run/gone") {
			t.Errorf("after %s: /run was not emptied", after)
		}
		if now := h.MustShell("cat /etc/machine-id"); now != id || len(id) != 32 {
			t.Errorf("after %s: machine id %q, was %q", after, now, id)
		}
		if now := h.MustShell("cat /proc/sys/kernel/random/boot_id; readlink /proc/1/ns/pid"); now == boot {
			t.Errorf("after %s: still the same boot", after)
		}
		if got := h.MustShell("docker info -f '{{.Driver}}'"); got != "overlay2" {
			t.Errorf("after %s: docker says %q", after, got)
		}
	}
	h.Kill()
	if res := running.Wait(); res.Exit == 0 {
		t.Errorf("a command that the power cut ended must not look well: %v", res)
	}
	if data, err := h.ReadFile("/var/lib/some/file"); string(data) != "kept" {
		t.Errorf("the disk of a dead host must be readable: %q, %v", data, err)
	}
	h.Boot()
	check("a power cut")
	h.WriteFile("/run/gone", nil, 0o600)
	h.Reboot()
	check("a reboot")
}

func TestTreeTellsWhatChanged(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Host{})
	before := h.Tree("/etc", "/opt", "/no/such/folder")
	h.MustShell("echo x >>/etc/issue; rm /etc/motd; chmod 600 /etc/passwd; mkdir /opt/new; ln -s /etc/issue /opt/new/link")
	h.MustShell("touch /etc/hosts")
	var got []string
	for _, line := range lab.Diff(before, h.Tree("/etc", "/opt", "/no/such/folder")) {
		got = append(got, strings.Join(strings.Fields(line)[:2], " "))
	}
	want := "+ /opt/new, + /opt/new/link, - /etc/motd, ~ /etc/issue, ~ /etc/passwd"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, ", "), want)
	}
}

func TestLinksAndBinds(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Host{Name: "inside", Binds: []string{lab.Shared("simagent") + ":/usr/local/bin/agent"}})
	if res := h.Shell("echo >>/usr/local/bin/agent"); res.Exit == 0 || !strings.Contains(res.Stderr, "Read-only") {
		t.Errorf("a bound file must be there and read-only: %v", res)
	}
	h.MustShell("ln -s /etc/hostname /opt/link")
	data, err := h.ReadFile("/opt/link")
	if err != nil || strings.TrimSpace(string(data)) != "inside" {
		t.Errorf("read %q through an absolute link, %v", data, err)
	}
}

// A host without Docker can install it as a user would, from the lab's repository.
func TestDockerCanBeInstalled(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Host{Cgroup: 1})
	if res := h.Shell("command -v docker"); res.Exit == 0 {
		t.Fatalf("docker is there already: %v", res)
	}
	h.MustShell("export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq -y --no-install-recommends install docker.io")
	if got := h.MustShell("docker info -f '{{.Driver}}'"); got != "overlay2" {
		t.Errorf("docker says %q", got)
	}
	if u := h.Unit("docker.service"); u.Active != "active" || u.Enabled != "enabled" {
		t.Errorf("docker.service: %+v", u)
	}
}
