package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// examples are what docs/testing-playbooks.md shows. These tests run the files themselves.
const examples = "../../docs/examples"

// The playbook registers two hosts with an emulator that the example's own script starts, and does it once.
func TestThePlaybookOfTheDocuments(t *testing.T) {
	t.Parallel()
	mirror := newMirror(t, packages.Options{}, packages.Options{})
	home, err := os.MkdirTemp("", "playbook-") // short: OpenSSH makes a socket below it
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	key := filepath.Join(home, "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	must(t, err)

	const serves = lab.Address + ":4580"
	var inventory strings.Builder
	var hosts []*lab.Machine
	for _, name := range []string{"web-1", "web-2"} {
		h := lab.Start(t, lab.Host{Name: name, Docker: true})
		h.WriteFile("/root/.ssh/authorized_keys", public, 0o600)
		h.WriteFile(keyring, mirror.Keyring(), 0o644)
		fmt.Fprintf(&inventory, "%s ansible_host=%s\n", name, h.IP)
		hosts = append(hosts, h)
	}
	fmt.Fprintf(&inventory, "[all:vars]\nansible_user=root\nansible_ssh_private_key_file=%s\nansible_python_interpreter=/usr/bin/python3\n"+
		"anywhere_binary=%s\nextra_flags=['--artifacts', 'http://%s', '--keyring', '%s']\n", key, lab.Shared("anywhere"), serves, keyring)
	list := filepath.Join(home, "hosts")
	must(t, os.WriteFile(list, []byte(inventory.String()), 0o600))

	cmd := exec.Command(examples+"/test-playbook.sh", list, "--listen", serves, "--region", region, "--buckets", mirror.Dir)
	cmd.Env = append(os.Environ(), "HOME="+home, "PATH="+filepath.Dir(lab.Shared("anywhere"))+":/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, h := range hosts {
		if found := h.MustShell("cat /etc/ecs/ecs.config; cat /var/lib/anywhere/record.json"); !strings.Contains(found, "ECS_CLUSTER=shop") {
			t.Errorf("%s", found)
		}
		if res := h.Run(asRoot); !strings.Contains(res.Stdout, `container-instance/shop/`) {
			t.Errorf("status: %v", res)
		}
	}
}

// The runbook takes a host out of service for the time of some work, whatever becomes of that.
func TestTheRunbookOfTheDocuments(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	arn := s.mustRegister(h, s.register(s.token(1))).Result.ContainerInstanceARN
	s.operator(h, "admin")
	h.CopyIn("/root/maintain.sh", examples+"/maintain.sh", 0o755)
	begin := func(work string) *lab.Process {
		return h.Start(lab.Cmd{
			Args: []string{"/root/maintain.sh", "sh", "-c", work},
			Env:  []string{"AWS_PROFILE=admin", "AWS_ENDPOINT_URL=" + s.url, "DRAIN_TIMEOUT=3s"},
		})
	}
	maintain := func(work string) lab.Result { return begin(work).Wait() }
	job := s.aws.AddTask(arn, emulator.Task{Family: "job"})
	await(t, "the agent knows its task", func() bool { return strings.Contains(h.Run(asRoot).Stdout, `"tasks":{"running":1`) })
	if res := maintain("touch /root/worked"); res.Exit != 12 || h.Exists("/root/worked") || s.statusOf(arn) != "ACTIVE" {
		t.Errorf("a task stays: the instance is %s, %v", s.statusOf(arn), res)
	}
	s.aws.FinishTask(job)
	p := begin("touch /root/worked; until [ -e /root/enough ]; do sleep 0.1; done; exit 3")
	await(t, "the work has begun", func() bool { return h.Exists("/root/worked") })
	if s.statusOf(arn) != "DRAINING" {
		t.Errorf("during the work the instance is %s", s.statusOf(arn))
	}
	h.WriteFile("/root/enough", nil, 0o600)
	if res := p.Wait(); res.Exit != 3 || s.statusOf(arn) != "ACTIVE" {
		t.Errorf("work that fails: the instance is %s, %v", s.statusOf(arn), res)
	}
	if res := maintain("systemctl stop ecs"); res.Exit != 1 || s.statusOf(arn) != "DRAINING" {
		t.Errorf("work that makes it sick: the instance is %s, %v", s.statusOf(arn), res)
	}
}
