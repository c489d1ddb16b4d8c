package ecsagent

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

const (
	debPath    = "/var/lib/anywhere/packages/amazon-ssm-agent_3.3.4108.0_amd64.deb"
	debianCA   = "/etc/ssl/certs/ca-certificates.crt"
	execTarget = execBin + "/3.3.4108.0/"
)

// deb is a package with these files, as dpkg-deb makes it.
func deb(t *testing.T, files ...string) string {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	member := func(name string, data []byte) {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(data))
		out.Write(data)
		if len(data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("control.tar.gz", tarball(t, "./control"))
	member("data.tar.gz", tarball(t, files...))
	return out.String()
}

// tarball has files whose content is the name and the word program.
func tarball(t *testing.T, names ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	w := tar.NewWriter(zipped)
	for _, name := range names {
		body := "program " + filepath.Base(name)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var wholePackage = []string{"./etc/init/amazon-ssm-agent.conf", "./usr/bin/amazon-ssm-agent", "./usr/bin/ssm-agent-worker",
	"./usr/bin/ssm-cli", "./usr/bin/ssm-session-worker", "./usr/share/amazon-ssm-agent"}

// installExec runs InstallExec as a step of the engine on a host with these files.
func installExec(t *testing.T, files map[string]string) (root string, outcome engine.Outcome, err error) {
	t.Helper()
	root = t.TempDir()
	for path, content := range files {
		write(t, filepath.Join(root, path), content)
	}
	dir := host.NewDir(root)
	h := host.Host{Reader: host.Reader{Files: dir, Now: time.Now}, Disk: dir}
	e := &engine.Engine{Host: h, Dir: "/var/lib/anywhere", RunID: "test", Listen: func(engine.Event) {}}
	pkg := artifact.Package{Ref: artifact.Ref{Product: artifact.SSMAgent, Version: "3.3.4108.0-1"}, Path: debPath}
	outcome, err = e.Apply(t.Context(), engine.Plan{Verb: "test", Key: "k", Steps: []engine.Step{{
		ID: "ecs.exec", Title: "Install ECS Exec's files",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			exec, err := ReadExec(r)
			if exec.Has("3.3.4108.0-1") {
				return engine.Obs{State: engine.OK}, err
			}
			return engine.Obs{State: engine.Pending}, err
		},
		Change: func(ctx context.Context, tx *engine.Tx) error { return InstallExec(ctx, tx, pkg, dir) },
	}}}, engine.Options{})
	return root, outcome, err
}

// below lists the files below a folder of the root, with mode and content.
func below(t *testing.T, root, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		out["/"+name] = fmt.Sprintf("%v %s", info.Mode().Perm(), content)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return out
}

func TestInstallExec(t *testing.T) {
	whole := map[string]string{
		execTarget + "amazon-ssm-agent":   "-rwxr-xr-x program amazon-ssm-agent",
		execTarget + "ssm-agent-worker":   "-rwxr-xr-x program ssm-agent-worker",
		execTarget + "ssm-session-worker": "-rwxr-xr-x program ssm-session-worker",
		ExecBundle:                        "-r-------- authorities",
	}
	with := func(more map[string]string) map[string]string {
		all := map[string]string{debPath: deb(t, wholePackage...), debianCA: "authorities"}
		for path, content := range more {
			all[path] = content
		}
		return all
	}
	tests := []struct {
		name  string
		files map[string]string
		want  map[string]string
	}{
		{"nothing there", with(nil), whole},
		{"left half by a killed run, in the stage", with(map[string]string{execBin + "/.anywhere-3.3.4108.0/ssm-agent-worker": "pro"}), whole},
		{"the certificates are missing", with(map[string]string{execTarget + "amazon-ssm-agent": "program amazon-ssm-agent",
			execTarget + "ssm-agent-worker": "program ssm-agent-worker", execTarget + "ssm-session-worker": "program ssm-session-worker"}), nil},
		{"left half by another tool", with(map[string]string{execTarget + "amazon-ssm-agent": "prog", execTarget + "ssm-agent-worker": ""}), whole},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, outcome, err := installExec(t, tt.files)
			if err != nil || !outcome.Changed {
				t.Fatalf("%+v, %v", outcome, err)
			}
			got := below(t, root, ExecDir)
			if tt.want == nil { // files of others keep their modes
				for path := range whole {
					_, content, _ := strings.Cut(whole[path], " ")
					if !strings.HasSuffix(got[path], " "+content) {
						t.Errorf("%s is %q", path, got[path])
					}
				}
			} else if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			exec, err := ReadExec(host.Reader{Files: host.NewDir(root)})
			if err != nil || !exec.Has("3.3.4108.0") || len(exec.Incomplete) != 0 || exec.Deadly() {
				t.Errorf("ReadExec = %+v, %v", exec, err)
			}
		})
	}
}

func TestInstallExecFailsAndLeavesNothing(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		code  failure.Code
	}{
		{"package without a program", map[string]string{debPath: deb(t, "./usr/bin/amazon-ssm-agent", "./usr/bin/ssm-agent-worker"), debianCA: "x"},
			failure.ArtifactCorrupt},
		{"programs in another place", map[string]string{debPath: deb(t, "./opt/amazon-ssm-agent", "./opt/ssm-agent-worker", "./opt/ssm-session-worker"), debianCA: "x"},
			failure.ArtifactCorrupt},
		{"package cut off", map[string]string{debPath: deb(t, wholePackage...)[:300], debianCA: "x"}, failure.ArtifactCorrupt},
		{"no authorities", map[string]string{debPath: deb(t, wholePackage...), debianCA: "\n"}, failure.TLSUntrusted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, outcome, err := installExec(t, tt.files)
			if !failure.Is(err, tt.code) || !outcome.RolledBack {
				t.Errorf("%+v, %v", outcome, err)
			}
			if left := below(t, root, "/var/lib/ecs"); len(left) != 0 {
				t.Errorf("left %v", left)
			}
			if _, err := os.Stat(filepath.Join(root, "/var/lib/ecs/deps")); !os.IsNotExist(err) {
				t.Errorf("left the folders: %v", err)
			}
		})
	}
}

func TestReadExec(t *testing.T) {
	complete := func(version string) map[string]string {
		files := map[string]string{}
		for _, name := range ExecBinaries {
			files[execBin+"/"+version+"/"+name] = "x"
		}
		return files
	}
	merge := func(maps ...map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range maps {
			for k, v := range m {
				out[k] = v
			}
		}
		return out
	}
	certs, config := map[string]string{ExecBundle: "x"}, map[string]string{execConfig + "/a.json": "{}"}
	half := map[string]string{execBin + "/3.3.9.0/amazon-ssm-agent": "x"}
	tests := []struct {
		name   string
		files  map[string]string
		want   ExecFiles
		deadly bool
	}{
		{"nothing", nil, ExecFiles{}, false},
		{"whole", merge(complete("3.3.4108.0"), certs, config), ExecFiles{Complete: []string{"3.3.4108.0"}, ConfigDir: true, Certs: true}, false},
		{"versions in their order", merge(complete("3.3.4108.0"), complete("3.3.859.0"), certs),
			ExecFiles{Complete: []string{"3.3.859.0", "3.3.4108.0"}, Certs: true}, false},
		{"half", merge(half, certs, config), ExecFiles{Incomplete: []string{"3.3.9.0"}, ConfigDir: true, Certs: true}, true},
		{"half, and Docker will make config", merge(half, certs), ExecFiles{Incomplete: []string{"3.3.9.0"}, Certs: true}, true},
		{"half without certificates", half, ExecFiles{Incomplete: []string{"3.3.9.0"}}, false},
		{"half beside a whole one", merge(half, complete("3.3.4108.0"), certs),
			ExecFiles{Complete: []string{"3.3.4108.0"}, Incomplete: []string{"3.3.9.0"}, Certs: true}, false},
		{"an empty program", merge(complete("1.2"), map[string]string{execBin + "/1.2/ssm-agent-worker": ""}), ExecFiles{Incomplete: []string{"1.2"}}, false},
		{"a folder where a program should be", merge(map[string]string{execBin + "/1.2/amazon-ssm-agent/x": "x"}), ExecFiles{Incomplete: []string{"1.2"}}, false},
		{"our stage and other names do not count", merge(complete(".anywhere-3.3.4108.0"), complete("latest"), certs), ExecFiles{Certs: true}, false},
		{"a file among the versions", merge(map[string]string{execBin + "/3.3": "x"}, certs), ExecFiles{Certs: true}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ReadExec(machine(t, tt.files))
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if got.Deadly() != tt.deadly {
				t.Errorf("Deadly = %v", got.Deadly())
			}
		})
	}
}

// The programs of an agent that is installed, in a folder of its own, are copied as those of a package are unpacked.
func TestInstallExecOf(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, debianCA), "authorities")
	for _, name := range append([]string{"ssm-cli"}, ExecBinaries...) {
		write(t, filepath.Join(root, "/snap/agent/current", name), "program "+name)
	}
	dir := host.NewDir(root)
	e := &engine.Engine{
		Host: host.Host{Reader: host.Reader{Files: dir, Now: time.Now}, Disk: dir}, Dir: "/var/lib/anywhere", RunID: "test", Listen: func(engine.Event) {},
	}
	plan := engine.Plan{Verb: "test", Key: "k", Steps: []engine.Step{{
		ID: "ecs.exec", Title: "Install ECS Exec's files",
		Observe: func(_ context.Context, r host.Reader) (engine.Obs, error) {
			exec, err := ReadExec(r)
			if exec.Has("3.3.4108.0") {
				return engine.Obs{State: engine.OK}, err
			}
			return engine.Obs{State: engine.Pending}, err
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			return InstallExecOf(ctx, tx, "3.3.4108.0", "/snap/agent/current")
		},
	}}}
	if _, err := e.Apply(t.Context(), plan, engine.Options{}); err != nil {
		t.Fatal(err)
	}
	got := below(t, root, ExecDir)
	for _, name := range ExecBinaries {
		if got[execTarget+name] != "-rwxr-xr-x program "+name {
			t.Errorf("%s is %q", name, got[execTarget+name])
		}
	}
	if len(got) != len(ExecBinaries)+1 || got[ExecBundle] != "-r-------- authorities" {
		t.Errorf("there is %v", got)
	}
	if err := os.Remove(filepath.Join(root, "/snap/agent/current/ssm-agent-worker")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, ExecDir)); err != nil {
		t.Fatal(err)
	}
	if out, err := e.Apply(t.Context(), plan, engine.Options{}); err == nil || !out.RolledBack || len(below(t, root, ExecDir)) > 0 {
		t.Errorf("without one of them: %+v, %v", out, err)
	}
}
