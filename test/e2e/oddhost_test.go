package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// answersEverything stands at EC2's address as another cloud's metadata service does, and writes down who asks. $1 is Server's and Metadata-Flavor's
// value; the rest is the answer to every question.
const answersEverything = `ip addr add 169.254.169.254/32 dev lo 2>/dev/null; cat >/run/metadata.py <<'END'
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open("/run/metadata.asked", "a").write(self.command + " " + self.path + " " + str(self.headers.get("User-Agent")) + "\n")
        body = sys.argv[2].encode()
        self.send_response(200 if body else 404)
        self.send_header("Metadata-Flavor", sys.argv[1])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_PUT = do_GET
    def log_message(self, *a): pass
http.server.HTTPServer(("169.254.169.254", 80), H).serve_forever()
END
exec python3 /run/metadata.py "$@"`

// apart runs a command after a change that only it sees.
func apart(change string) []string {
	return []string{"unshare", "-m", "/bin/sh", "-c", change + ` && exec "$@"`, "sh"}
}

// Machines that are not quite hosts, by the means by which they are so: a container without the host's things, Windows' Subsystem for Linux, a root that
// nothing can be written to, no machine-id. They say why, and are left alone. One whose network answers everything in EC2's place becomes an instance,
// and neither agent asks there; a copy of it does not.
func TestHostsThatAreNotQuiteHosts(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	h.MustShell("tar -C /usr/local/bin -cf - anywhere | docker import - lab/anywhere >/dev/null")
	h.WriteFile("/run/wsl", []byte("5.15.167.4-microsoft-standard-WSL2\n"), 0o644)
	const isWSL = "mount --bind /run/wsl /proc/sys/kernel/osrelease"
	before := look(h)
	for _, c := range []struct {
		name, spoil, mend string
		around            []string
		exit              int
		code              failure.Code
		message, remedy   string
	}{
		{name: "a container", around: []string{"docker", "run", "--rm", "-i", "--network", "host", "-v", "/root:/root:ro", "--entrypoint", "/anywhere", "lab/anywhere"},
			exit: 3, code: failure.NoSystemd, message: "docker container", remedy: "on the host itself"},
		{name: "WSL without systemd", around: apart(isWSL + " && mount -t tmpfs none /run/systemd"),
			exit: 3, code: failure.NoSystemd, message: "Windows' Subsystem for Linux", remedy: "/etc/wsl.conf"},
		{name: "a read-only root", around: apart("mount -o remount,bind,ro /"),
			exit: 3, code: failure.ReadOnly, message: "read-only", remedy: "mount -o remount,rw /"},
		{name: "no machine-id", spoil: "mv /etc/machine-id /run/machine-id", mend: "mv /run/machine-id /etc/machine-id",
			exit: 3, code: failure.PreflightFailed, message: "/etc/machine-id", remedy: "systemd-machine-id-setup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.MustShell(c.spoil)
			cmd := s.register(s.token(1))
			args := cmd.Args
			if len(c.around) > 0 && c.around[0] == "docker" { // the image has its program
				args = args[1:]
			}
			cmd.Args = append(c.around, args...)
			s.fails(t, h, cmd, c.exit, c.code, c.message, "", c.remedy)
			h.MustShell(c.mend)
			before.same(t, look(h))
		})
	}
	cmd := lab.Cmd{Args: append(apart(isWSL), "anywhere", "preflight", "-o", "json", "--offline", "--only", "os.container")}
	var c checks
	if res := h.Run(cmd); json.Unmarshal([]byte(res.Stdout), &c) != nil || c.RC != 0 {
		t.Errorf("WSL with systemd: %v", res)
	} else if status, detail, _ := c.find(t, "os.container"); status != "warn" || !strings.Contains(detail, "which Windows ends with the last session") {
		t.Errorf("WSL with systemd: %s, %s", status, detail)
	}

	for _, cloud := range []struct{ flavour, body, said string }{
		{"Google", "", "what answers there is not EC2 (Google Cloud, HTTP 404)"},
		{"", "yes", "what answers there is not EC2 (HTTP 200"},
		{"", `{"instanceId": "i-0a1b2c3d4e5f60718", "region": "us-east-1"}`, "this is EC2 instance i-0a1b2c3d4e5f60718 in us-east-1"},
	} {
		server := h.Start(lab.Cmd{Args: []string{"/bin/sh", "-c", answersEverything, "sh", cloud.flavour, cloud.body}})
		await(t, "something answers at EC2's address", func() bool { return h.Shell("grep -q 'FEA9FEA9:0050 00000000:0000 0A' /proc/net/tcp").Exit == 0 })
		if status, detail, remedy := preflight(t, h, nil, "--only", "metadata.endpoint").find(t, "metadata.endpoint"); status != "warn" ||
			!strings.Contains(detail, cloud.said) || !strings.Contains(remedy, "AWS_EC2_METADATA_DISABLED") {
			t.Errorf("%+v: %s, %s (%s)", cloud, status, detail, remedy)
		}
		if !strings.HasPrefix(cloud.body, "{") {
			server.Signal("KILL")
			server.Wait()
		}
	}
	h.MustShell("rm /run/metadata.asked")
	first := s.mustRegister(h, s.register(s.token(1))) // with an EC2 instance's metadata in front of it
	if asked := h.MustShell("grep -v anywhere /run/metadata.asked || :"); asked != "" {
		t.Errorf("the agents ask at EC2's address:\n%s", asked)
	}
	if !strings.Contains(strings.Join(first.Warnings, "\n"), "this is EC2 instance") {
		t.Errorf("nobody says that it is an EC2 instance: %q", first.Warnings)
	}

	h.MustShell("systemctl stop ecs amazon-ssm-agent; cp /etc/machine-id /run/machine-id; echo 0123456789abcdef0123456789abcdef >/etc/machine-id")
	clone := look(h)
	s.fails(t, h, s.register(s.token(1)), 12, failure.FingerprintChanged, "", "", "--accept-risk replace-identity")
	clone.same(t, look(h))
	h.MustShell("cp /run/machine-id /etc/machine-id")
	if again := s.mustRegister(h, s.register("")); again.Result != first.Result {
		t.Errorf("itself again: %+v", again)
	}
}

// diskOfItsOwn puts /var/lib on a file system of its own, in memory, which changes its size at a word; Docker's images stay where they are.
const diskOfItsOwn = `systemctl stop docker.socket docker containerd
mkdir -p /mnt/disk && mount -t tmpfs -o size=1500m,mode=755 none /mnt/disk
tar -C /var/lib --exclude=./docker -cf - . | tar -C /mnt/disk -xf - && mkdir /mnt/disk/docker
mount --bind /var/lib/docker /mnt/disk/docker && mount --rbind /mnt/disk /var/lib && systemctl start docker`

const (
	fillDisk = "mount -o remount,size=$(($(df --output=used -B1 /mnt/disk | tail -n 1))) /mnt/disk; if echo x >/var/lib/x 2>/dev/null && [ -s /var/lib/x ]; then exit 1; fi; rm -f /var/lib/x"
	freeDisk = "mount -o remount,size=1500m /mnt/disk"
)

// /var/lib is a disk of its own, and full: before, and nothing is begun; in the middle, and what was begun is undone or goes on once there is room, with the
// token's only registration; afterwards, and the instance keeps its identity.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{PostinstWaits: true})
	h := s.host(lab.Host{})
	h.MustShell("set -e\n" + diskOfItsOwn)
	before := look(h)
	h.MustShell(fillDisk)
	token := s.token(1)
	s.fails(t, h, s.register(token), 3, failure.DiskFull, "/var/lib", "", "free space")
	h.MustShell(freeDisk)
	before.same(t, look(h))

	r := s.begin(h, s.register(token))
	await(t, "the ECS agent's package is half there", func() bool { return h.Exists(ecsWaits) })
	h.MustShell(fillDisk)
	stop := releaseAll(h)
	d := s.read(r.end())
	if d.RC == 0 {
		t.Fatalf("it needs no room: %+v", d)
	}
	t.Logf("full in the middle: exit %d, %s: %s (%s; %s), kept %q", d.RC, d.Error.Code, d.Error.Message, d.Error.Evidence, d.Error.Remedy, d.Error.Kept)
	if d.Error.Code != string(failure.DiskFull) || !strings.Contains(d.Error.Message, "/var/lib") || d.Error.Remedy == "" {
		t.Errorf("full in the middle: %+v", d.Error)
	}
	if strings.Contains(strings.Join(d.Error.Kept, ", "), "somebody else") { // nobody else was here
		t.Errorf("full in the middle, and kept: %q", d.Error.Kept)
	}
	h.MustShell(freeDisk)
	first := s.mustRegister(h, s.register(token))
	stop()

	h.MustShell(fillDisk)
	for _, cmd := range []lab.Cmd{s.register(""), s.register("", "--ip-mode", "ipv4"), s.upgrade("--only", "ecs")} {
		res := h.Run(cmd)
		var d document
		if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil || res.Exit != d.RC || res.Exit != 0 && (d.Error == nil || d.Error.Code != string(failure.DiskFull)) {
			t.Errorf("%q on a full disk: %v", cmd.Args[1], res)
		}
	}
	if res := h.Run(lab.Cmd{Args: []string{"anywhere", "status", "-o", "json"}}); res.Exit != 0 && res.Exit != 10 {
		t.Errorf("status on a full disk: %v", res)
	}
	h.MustShell(freeDisk)
	stop = releaseAll(h)
	defer stop()
	if again := s.mustRegister(h, s.register("")); again.Result != first.Result {
		t.Errorf("with room again: %+v", again)
	}
	if res := h.Run(lab.Cmd{Args: []string{"anywhere", "deregister", "--local-only", "--yes", "-o", "json"}}); res.Exit != 0 {
		t.Errorf("%v", res)
	}
}
