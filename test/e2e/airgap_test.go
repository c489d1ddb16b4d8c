package e2e

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// mirrored is what the tests look at in mirror's document.
type mirrored struct {
	Changed bool
	RC      int
	Msg     string
	Result  struct {
		Packages []struct{ Product, Version, Arch, Status, SHA256 string }
	}
	Error *struct{ Code, Message string }
}

// fill runs "anywhere mirror" as nobody, on a machine that reaches AWS: this one.
func (s *site) fill(dir string, more ...string) mirrored {
	s.t.Helper()
	keys := filepath.Join(filepath.Dir(dir), "keys.asc")
	if err := os.WriteFile(keys, s.mirror.Keyring(), 0o644); err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(lab.Shared("anywhere"), append([]string{"mirror", dir, "--region", region, "-o", "json", "--artifacts", s.url, "--keyring", keys}, more...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	said, err := cmd.Output()
	if broken, ok := err.(*exec.ExitError); err != nil && !ok {
		s.t.Fatal(err)
	} else if ok {
		s.t.Logf("%v: %s", cmd.Args, broken.Stderr)
	}
	if err := contract.Check(said); err != nil {
		s.t.Error(err)
	}
	var d mirrored
	if err := json.Unmarshal(said, &d); err != nil || d.RC != cmd.ProcessState.ExitCode() {
		s.t.Fatalf("%v: %s", err, said)
	}
	return d
}

// A site without a way to AWS's buckets. What a person without any right has mirrored elsewhere is all that a host needs:
// it is registered from a web server, gets back what it lost, and is upgraded from a folder. It reaches nothing but its
// agents' endpoint.
func TestAirGapped(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	s.mirror.AddSSMAgent(packages.Options{Version: ssmVersion, Program: lab.Shared("simagent"), Arch: "arm64"})
	s.mirror.AddECSInit(packages.Options{Version: ecsVersion, Program: lab.Shared("simagent"), Arch: "arm64"})
	above := t.TempDir()
	must(t, os.Chown(above, 65534, 65534))
	for dir := above; dir != "/"; dir = filepath.Dir(dir) { // nobody must get there
		info, err := os.Stat(dir)
		must(t, err)
		must(t, os.Chmod(dir, info.Mode().Perm()|0o011))
	}
	dir := filepath.Join(above, "mirror")
	if d := s.fill(dir, "--platform", "debian-12"); d.RC != 0 || !d.Changed || len(d.Result.Packages) != 4 {
		t.Fatalf("%+v", d)
	}
	if d := s.fill(dir, "--platform", "debian-12"); d.RC != 0 || d.Changed || !strings.HasPrefix(d.Msg, "nothing to do") {
		t.Errorf("the second run: %+v", d)
	}
	sums := exec.Command("sha256sum", "--strict", "-c", "SHA256SUMS")
	sums.Dir = dir
	if said, err := sums.CombinedOutput(); err != nil || strings.Count(string(said), ": OK") != 13 {
		t.Errorf("%v: %s", err, said)
	}

	asked := atomic.Int64{}
	l, err := net.Listen("tcp", net.JoinHostPort(lab.Address, "0"))
	must(t, err)
	files := http.FileServer(http.Dir(dir))
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		files.ServeHTTP(w, r)
	})}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { _ = web.Close() })
	aws := s.asked("s3:")

	h := s.host(lab.Host{})
	flags := []string{"--artifacts", "http://" + l.Addr().String()}
	first := s.mustRegister(h, s.register(s.token(1), flags...))
	if asked.Load() == 0 || first.Result.ECSAgentVersion != ecsVersion {
		t.Errorf("%d requests to the web server; %+v", asked.Load(), first.Result)
	}
	seen := asked.Load()
	if d := s.read(h.Run(s.register("", flags...))); d.RC != 0 || d.Changed || asked.Load() != seen {
		t.Errorf("the second run: %+v, %d more requests", d, asked.Load()-seen)
	}

	// The tarball is always there; once it is gone with everything else, the mirror has it.
	folder := []string{"--artifacts", "/srv/mirror"}
	must(t, exec.Command("tar", "-C", above, "-cf", filepath.Join(above, "mirror.tar"), "mirror").Run())
	h.CopyIn("/srv/mirror.tar", filepath.Join(above, "mirror.tar"), 0o644)
	h.MustShell("tar -C /srv -xf /srv/mirror.tar && rm /srv/mirror.tar && test -s /var/cache/ecs/ecs-agent.tar")
	h.MustShell(`systemctl stop ecs && rm -r /var/cache/ecs/* /var/lib/anywhere/packages && docker rm -f ecs-agent; docker rmi -f amazon/amazon-ecs-agent`)
	if d := s.read(h.Run(s.register("", folder...))); d.RC != 0 || !d.Changed || d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("without an image: %+v", d)
	}
	if said := h.Shell("grep -ri us-east-1 /var/log/ecs/").Stdout; said != "" {
		t.Errorf("ecs-init has looked in us-east-1: %s", said)
	}

	// What the mirror lacks is told at once, and nothing is touched.
	up := func(more ...string) lab.Cmd { return s.upgrade(append(more, folder...)...) }
	if d := s.upgraded(h.Run(up("--ecs-agent-version", "9.9.9", "--ssm-agent-version", "9.9.9.9"))); d.RC != 5 || d.Changed ||
		!strings.Contains(d.Error.Message, "amazon-ecs-init-9.9.9-1.amd64.deb.asc") || !strings.Contains(d.Error.Message, "9.9.9.9/debian_amd64/amazon-ssm-agent.deb.sig") ||
		!strings.Contains(d.Error.Remedy, "anywhere mirror") {
		t.Errorf("%+v", d)
	}

	if n := s.asked("s3:") - aws; n != 0 {
		t.Errorf("the host asked AWS's buckets %d times", n)
	}

	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	if d := s.fill(dir, "--platform", "debian-12/amd64"); d.RC != 0 || len(d.Result.Packages) != 2 {
		t.Fatalf("%+v", d)
	}
	must(t, exec.Command("tar", "-C", above, "-cf", filepath.Join(above, "mirror.tar"), "mirror").Run())
	h.CopyIn("/srv/mirror.tar", filepath.Join(above, "mirror.tar"), 0o644)
	h.MustShell("rm -r /srv/mirror && tar -C /srv -xf /srv/mirror.tar && rm /srv/mirror.tar")
	aws = s.asked("s3:")
	d := s.upgraded(h.Run(up()))
	if d.RC != 0 || !d.Changed || d.Result.ECSAgent.Installed != nextECS || d.Result.SSMAgent.Installed != nextSSM+"-1" ||
		d.Result.ContainerInstanceARN != first.Result.ContainerInstanceARN {
		t.Errorf("%+v", d)
	}
	if n := s.asked("s3:") - aws; n != 0 {
		t.Errorf("the upgrade asked AWS's buckets %d times", n)
	}
}
