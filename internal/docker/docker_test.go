package docker

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const engineInfo = `{"CgroupDriver":"systemd","CgroupVersion":"2","Driver":"overlay2","DockerRootDir":"/var/lib/docker",
	"OperatingSystem":"Debian GNU/Linux 13 (trixie)","SecurityOptions":["name=apparmor","name=seccomp,profile=builtin"]}`

const engineVersion = `{"Version":"27.3.1","ApiVersion":"1.47","MinAPIVersion":"1.24","Components":[{"Name":"Engine"},{"Name":"containerd"}]}`

// daemon answers paths, without their query, on a socket; "" in paths is a 404.
type daemon map[string]string

func (d daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := d[r.URL.Path]
	if query := r.URL.Query(); query.Has("filters") {
		body, ok = d[r.URL.Path+" "+query.Get("filters")]
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		body = `{"message":"no such thing"}`
	}
	_, _ = w.Write([]byte(body))
}

type units map[string]host.Unit

func (u units) Unit(_ context.Context, name string) (host.Unit, error) { return u[name], nil }
func (u units) Available(context.Context) error                        { return nil }

// machine is a host with files that exist, units, and a daemon unless it is nil.
func machine(t *testing.T, existing []string, loaded units, d daemon) host.Reader {
	t.Helper()
	root := t.TempDir()
	for _, path := range existing {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r := host.Reader{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrNotExist }}
	if d != nil {
		r = machineOf(t, d)
	}
	r.Files, r.Units = host.NewDir(root), loaded
	return r
}

// machineOf is a host whose Docker is d, and nothing else.
func machineOf(t *testing.T, d http.Handler) host.Reader {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: d}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return host.Reader{
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if network != "unix" || address != Socket {
				return nil, errors.New("dialled " + network + " " + address)
			}
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
}

func TestInspect(t *testing.T) {
	active := units{"docker.service": {Name: "docker.service", Loaded: true, Active: "active", Sub: "running"}}
	failed := units{"docker.service": {Name: "docker.service", Loaded: true, Active: "failed", Result: "exit-code"}}
	enabledFailed := units{"docker.service": {Name: "docker.service", Loaded: true, Active: "failed", Result: "exit-code",
		Enabled: "enabled"}}
	stopped := units{"docker.service": {Name: "docker.service", Loaded: true, Active: "inactive"}}
	waiting := units{
		"docker.service": {Name: "docker.service", Loaded: true, Active: "inactive"},
		"docker.socket":  {Name: "docker.socket", Loaded: true, Active: "active"},
	}
	dockerd := []string{"/usr/bin/dockerd"}
	runs := daemon{"/version": engineVersion, "/info": engineInfo}
	engine := Info{Present: true, Running: true, Flavour: Engine, Unit: "docker.service", Version: "27.3.1", APIVersion: "1.47",
		MinAPIVersion: "1.24", CgroupDriver: "systemd", CgroupVersion: "2", Driver: "overlay2", Root: "/var/lib/docker",
		SecurityOptions: []string{"name=apparmor", "name=seccomp,profile=builtin"}}
	with := func(change func(*Info)) Info {
		info := engine
		change(&info)
		return info
	}
	tests := []struct {
		name     string
		existing []string
		units    units
		daemon   daemon
		want     Info
	}{
		{"absent", nil, nil, nil, Info{}},
		{"engine", dockerd, active, runs, engine},
		{"no unit, started by hand", dockerd, nil, runs, engine},
		{"a socket only", nil, nil, runs, with(func(i *Info) { i.Unit = "" })},
		{"failed", dockerd, failed, nil,
			Info{Present: true, Flavour: Engine, Unit: "docker.service", Why: "docker.service failed (exit-code)"}},
		{"stopped", dockerd, stopped, nil,
			Info{Present: true, Flavour: Engine, Unit: "docker.service", Why: "docker.service is inactive"}},
		{"unit inactive, started by hand", dockerd, stopped, runs, engine},
		{"stopped behind its socket is not woken", dockerd, waiting, runs,
			Info{Present: true, Flavour: Engine, Unit: "docker.service", Why: "docker.service is inactive"}},
		{"unit in an unusual place", nil, failed, nil,
			Info{Present: true, Flavour: Engine, Unit: "docker.service", Why: "docker.service failed (exit-code)"}},
		{"installed, says nothing", dockerd, nil, nil,
			Info{Present: true, Flavour: Engine, Unit: "docker.service", Why: "there is no /var/run/docker.sock"}},
		{"podman", []string{"/usr/lib/tmpfiles.d/podman-docker.conf"}, nil,
			daemon{"/version": `{"Version":"5.4.2","ApiVersion":"1.41","MinAPIVersion":"1.24","Components":[{"Name":"Podman Engine"}]}`,
				"/info": `{"CgroupDriver":"systemd","CgroupVersion":"2","Driver":"overlay","DockerRootDir":"/var/lib/containers/storage"}`},
			Info{Present: true, Running: true, Flavour: Podman, Unit: "podman.socket", Version: "5.4.2", APIVersion: "1.41",
				MinAPIVersion: "1.24", CgroupDriver: "systemd", CgroupVersion: "2", Driver: "overlay", Root: "/var/lib/containers/storage"}},
		{"podman-docker, not running", []string{"/usr/lib/tmpfiles.d/podman-docker.conf"}, nil, nil,
			Info{Present: true, Flavour: Podman, Unit: "podman.socket", Why: "there is no /var/run/docker.sock"}},
		{"snap, not running", []string{"/var/lib/snapd/snap/bin/docker"}, nil, nil, Info{Present: true, Flavour: Snap,
			Unit: "snap.docker.dockerd.service", Why: "there is no /var/run/docker.sock"}},
		{"desktop, not running", []string{"/opt/docker-desktop/bin/com.docker.backend"}, nil, nil,
			Info{Present: true, Flavour: Desktop, Why: "there is no /var/run/docker.sock"}},
		{"rootless in place of the system's", []string{"/usr/bin/dockerd", "/run/user/1000/docker.sock"}, stopped, nil,
			Info{Present: true, Flavour: Rootless, Unit: "docker.service", Why: "docker.service is inactive"}},
		{"rootless beside the system's, which failed", []string{"/usr/bin/dockerd", "/run/user/1000/docker.sock"}, enabledFailed, nil,
			Info{Present: true, Flavour: Engine, Unit: "docker.service", Why: "docker.service failed (exit-code)"}},
		{"rootless in a home", []string{"/run/user/1000/docker.sock"}, nil, nil,
			Info{Present: true, Flavour: Rootless, Why: "there is no /var/run/docker.sock"}},
		{"snap", []string{"/snap/bin/docker"}, nil,
			daemon{"/version": engineVersion, "/info": `{"DockerRootDir":"/var/snap/docker/common/var-lib-docker"}`},
			Info{Present: true, Running: true, Flavour: Snap, Unit: "snap.docker.dockerd.service", Version: "27.3.1", APIVersion: "1.47",
				MinAPIVersion: "1.24", Root: "/var/snap/docker/common/var-lib-docker"}},
		{"rootless and selinux", dockerd, active,
			daemon{"/version": engineVersion, "/info": `{"SecurityOptions":["name=seccomp,profile=builtin","name=rootless","name=selinux"]}`},
			Info{Present: true, Running: true, Flavour: Rootless, Unit: "docker.service", Version: "27.3.1", APIVersion: "1.47",
				MinAPIVersion: "1.24", Rootless: true, SELinux: true,
				SecurityOptions: []string{"name=seccomp,profile=builtin", "name=rootless", "name=selinux"}}},
		{"desktop", dockerd, nil,
			daemon{"/version": engineVersion, "/info": `{"OperatingSystem":"Docker Desktop"}`},
			Info{Present: true, Running: true, Flavour: Desktop, Unit: "docker.service", Version: "27.3.1", APIVersion: "1.47", MinAPIVersion: "1.24"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Inspect(t.Context(), machine(t, tt.existing, tt.units, tt.daemon))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("Inspect (-want +got):\n%s", diff)
			}
		})
	}
}

// podman-docker is told by its script alone where documents are left out; a real docker of that name is none.
func TestPodmanScript(t *testing.T) {
	for text, want := range map[string]Flavour{
		"#!/bin/sh\nexec /usr/bin/podman \"$@\"\n": Podman, "#!/bin/sh\nexec dockr\n": "", "\x7fELF podman": "",
	} {
		r := machine(t, []string{"/usr/bin/docker"}, nil, nil)
		if err := os.WriteFile(r.Files.(*host.Dir).Local("/usr/bin/docker"), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := Inspect(t.Context(), r); err != nil || got.Flavour != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestInspectDaemonThatAnswersNonsense(t *testing.T) {
	got, err := Inspect(t.Context(), machine(t, []string{"/usr/bin/dockerd"}, nil, daemon{"/version": "<html>"}))
	if err != nil || got.Running || !strings.Contains(got.Why, "/version") {
		t.Errorf("Inspect = %+v, %v", got, err)
	}
}

func TestInspectEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Inspect(ctx, machine(t, []string{"/usr/bin/dockerd"}, nil, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestContainers(t *testing.T) {
	r := machine(t, nil, nil, daemon{
		`/containers/json {"label":["com.amazonaws.ecs.task-arn"]}`: `[{"Id":"abc","Names":["/ecs-web-1-nginx-f0"],"Image":"nginx","ImageID":"sha256:1",` +
			`"State":"running","Labels":{"com.amazonaws.ecs.task-arn":"arn:1"}}]`,
		"/containers/json": `[]`,
	})
	got, err := Containers(t.Context(), r, "com.amazonaws.ecs.task-arn")
	want := []Container{{ID: "abc", Names: []string{"ecs-web-1-nginx-f0"}, Image: "nginx", ImageID: "sha256:1", State: "running",
		Labels: map[string]string{"com.amazonaws.ecs.task-arn": "arn:1"}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Containers: %v (-want +got):\n%s", err, diff)
	}
	if !got[0].Running() {
		t.Error("a running container does not count as running")
	}
	if all, err := Containers(t.Context(), r, ""); err != nil || len(all) != 0 {
		t.Errorf("Containers without a label = %v, %v", all, err)
	}
	if _, err := Containers(t.Context(), machine(t, nil, nil, nil), ""); !failure.Is(err, failure.DockerDown) {
		t.Errorf("without a daemon: %v", err)
	}
}

func TestImage(t *testing.T) {
	r := machine(t, nil, nil, daemon{"/images/amazon/amazon-ecs-agent:latest/json": `{"Id":"sha256:77"}`})
	if id, ok, err := Image(t.Context(), r, "amazon/amazon-ecs-agent:latest"); id != "sha256:77" || !ok || err != nil {
		t.Errorf("Image = %q, %v, %v", id, ok, err)
	}
	if id, ok, err := Image(t.Context(), r, "other"); id != "" || ok || err != nil {
		t.Errorf("Image of a missing one = %q, %v, %v", id, ok, err)
	}
	if _, _, err := Image(t.Context(), machine(t, nil, nil, nil), "other"); !failure.Is(err, failure.DockerDown) {
		t.Errorf("without a daemon: %v", err)
	}
}

func TestFits(t *testing.T) {
	tests := []struct {
		newest, oldest, agent string
		ok                    bool
		move                  string
	}{
		{"1.47", "1.24", "", true, ""},
		{"1.21", "", "", true, ""},
		{"1.20", "", "", false, "upgrade Docker"},
		{"1.52", "1.44", "", true, ""}, // Docker 29
		{"1.52", "1.44", "1.105.1-1", true, ""},
		{"1.60", "1.45", "", false, "install an older Docker"},
		{"1.60", "1.45", "1.80.0-1", false, "install an older Docker"},
		{"1.44", "1.24", "1.80.0-1", false, "install ECS agent 1.81.0 or newer"}, // Docker 25
		{"1.44", "1.24", "1.81.0-1", true, ""},
		{"1.43", "1.12", "1.80.0-1", true, ""}, // Docker 24
		{"1.44", "1.24", "of our own make", true, ""},
		{"", "", "", true, ""},
		{"odd", "odder", "", true, ""},
	}
	for _, tt := range tests {
		ok, move := Fits(Info{Version: "x", APIVersion: tt.newest, MinAPIVersion: tt.oldest}, tt.agent)
		if ok != tt.ok || !strings.Contains(move, tt.move) || (move == "") != ok {
			t.Errorf("Fits(%s, %s, %s) = %v, %q", tt.newest, tt.oldest, tt.agent, ok, move)
		}
	}
}
