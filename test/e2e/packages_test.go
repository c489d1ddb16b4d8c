package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const (
	region     = "eu-central-1"
	ssmVersion = "3.3.4108.0"
	ecsVersion = "1.105.1-1"
)

func TestMirrorIsLaidOutAndSignedAsTheBucketsAre(t *testing.T) {
	t.Parallel()
	mirror := packages.NewMirror(t, region)
	mirror.AddSSMAgent(packages.Options{Version: ssmVersion, Program: lab.Shared("simagent")})
	mirror.AddECSInit(packages.Options{Version: ecsVersion, Program: lab.Shared("simagent")})
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(mirror.Keyring()))
	if err != nil {
		t.Fatal(err)
	}
	for file, suffix := range map[string]string{
		"amazon-ecs-agent-eu-central-1/amazon-ecs-init-1.105.1-1.amd64.deb":            ".asc",
		"amazon-ecs-agent-eu-central-1/amazon-ecs-init-latest.amd64.deb":               ".asc",
		"amazon-ssm-eu-central-1/latest/debian_amd64/amazon-ssm-agent.deb":             ".sig",
		"amazon-ssm-eu-central-1/" + ssmVersion + "/debian_amd64/amazon-ssm-agent.deb": ".sig",
	} {
		data, err := os.Open(filepath.Join(mirror.Dir, file))
		if err != nil {
			t.Error(err)
			continue
		}
		defer data.Close()
		signature, err := os.ReadFile(data.Name() + suffix)
		if err != nil {
			t.Error(err)
			continue
		}
		check := openpgp.CheckDetachedSignature
		if suffix == ".asc" {
			check = openpgp.CheckArmoredDetachedSignature
		}
		if _, err := check(ring, data, bytes.NewReader(signature), nil); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	version, err := os.ReadFile(filepath.Join(mirror.Dir, "amazon-ssm-eu-central-1/latest/VERSION"))
	if string(version) != ssmVersion {
		t.Errorf("latest/VERSION says %q, %v", version, err)
	}
}

// install copies a package into a host and installs it.
func install(h *lab.Machine, deb string) lab.Result {
	h.CopyIn("/root/"+filepath.Base(deb), deb, 0o644)
	return h.Shell("dpkg -i /root/" + filepath.Base(deb))
}

// await asks until it is so, or the test fails.
func await(t testing.TB, what string, so func() bool) {
	t.Helper()
	patience := lab.Patience(time.Minute)
	for limit := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func TestSSMAgentsPackage(t *testing.T) {
	t.Parallel()
	mirror := packages.NewMirror(t, region)
	deb := mirror.AddSSMAgent(packages.Options{Version: ssmVersion, Program: lab.Shared("simagent")})
	h := lab.Start(t, lab.Host{})
	units := h.Units()
	if units["ssh.service"] != "enabled running" {
		t.Errorf("units of a fresh host: %v", units)
	}
	if res := install(h, deb); res.Exit != 0 {
		t.Fatal(res)
	}
	if got := h.Units()["amazon-ssm-agent.service"]; !strings.HasPrefix(got, "enabled") {
		t.Errorf("amazon-ssm-agent.service is %q among the units", got)
	}
	if got := h.MustShell("dpkg-query -W -f '${Version} ${Status}' amazon-ssm-agent"); got != ssmVersion+"-1 install ok installed" {
		t.Errorf("dpkg says %q", got)
	}
	if got := h.MustShell("amazon-ssm-agent -version"); !strings.Contains(got, ssmVersion) {
		t.Errorf("amazon-ssm-agent -version says %q", got)
	}
	// The real one, too, is enabled and started though nothing is registered, ends, and waits for its next start.
	await(t, "the agent without a registration has ended", func() bool {
		return h.Unit("amazon-ssm-agent.service").Sub == "auto-restart"
	})
	if u := h.Unit("amazon-ssm-agent.service"); u.Enabled != "enabled" || u.Exit != 0 {
		t.Errorf("the unit is %+v, want enabled and an exit of 0", u)
	}
	h.MustShell("dpkg -r amazon-ssm-agent")
	if u := h.Unit("amazon-ssm-agent.service"); u.Load != "not-found" || h.Exists("/usr/bin/amazon-ssm-agent") {
		t.Errorf("still there after dpkg -r: %+v", u)
	}
	if now := h.Units(); !maps.Equal(now, units) {
		t.Errorf("units after dpkg -r: %v, before: %v", now, units)
	}
}

func TestECSInitsPackage(t *testing.T) {
	// Docker limits a container through the controllers of cgroup v1; the lab's v2 has none.
	for version, limits := range map[int]string{1: "-m 64m --cpus 0.5", 2: ""} {
		t.Run(fmt.Sprint("cgroup v", version), func(t *testing.T) {
			t.Parallel()
			mirror := packages.NewMirror(t, region)
			deb := mirror.AddECSInit(packages.Options{Version: ecsVersion, Program: lab.Shared("simagent")})
			h := lab.Start(t, lab.Host{Docker: true, Cgroup: version})
			if res := install(h, deb); res.Exit != 0 {
				t.Fatal(res)
			}
			if u := h.Unit("ecs.service"); u.Active != "inactive" || u.Enabled != "disabled" {
				t.Errorf("the unit is %+v: installing must neither enable nor start it", u)
			}
			if state, err := h.ReadFile("/var/cache/ecs/state"); string(state) != "2" {
				t.Errorf("/var/cache/ecs/state: %q, %v", state, err)
			}
			if got := h.MustShell("readlink -e /var/cache/ecs/ecs-agent.tar"); got != "/var/cache/ecs/ecs-agent-v1.105.1-1.tar" {
				t.Errorf("ecs-agent.tar leads to %q", got)
			}
			if got := h.MustShell("/usr/libexec/amazon-ecs-init version"); !strings.Contains(got, "1.105.1") {
				t.Errorf("amazon-ecs-init version says %q", got)
			}
			h.MustShell("docker load -i /var/cache/ecs/ecs-agent.tar")
			// Docker's own failures to run something are 125 and up; what the agent says without configuration is its affair.
			if res := h.Shell("docker run --rm --net=host " + limits + " amazon/amazon-ecs-agent:latest"); res.Exit >= 125 {
				t.Errorf("a container of the agent's image: %v", res)
			}
			h.MustShell("dpkg -r amazon-ecs-init")
			if h.Exists("/usr/libexec/amazon-ecs-init") {
				t.Error("still there after dpkg -r")
			}
		})
	}
}

func TestECSInitNeedsDocker(t *testing.T) {
	t.Parallel()
	mirror := packages.NewMirror(t, region)
	deb := mirror.AddECSInit(packages.Options{Version: ecsVersion, Program: lab.Shared("simagent")})
	h := lab.Start(t, lab.Host{})
	if res := install(h, deb); res.Exit == 0 || !strings.Contains(res.Stderr, "docker.io") {
		t.Errorf("installing without Docker: %v", res)
	}
}

func TestPackagesThatGoWrong(t *testing.T) {
	t.Parallel()
	mirror := packages.NewMirror(t, region)
	program := lab.Shared("simagent")
	h := lab.Start(t, lab.Host{})
	const status = "dpkg-query -W -f '${db:Status-Status}' amazon-ssm-agent"

	fails := mirror.AddSSMAgent(packages.Options{Version: "3.3.1.0", Program: program, PostinstFails: true})
	if res := install(h, fails); res.Exit == 0 || !strings.Contains(res.Stderr, "fails on purpose") {
		t.Errorf("a failing postinst: %v", res)
	}
	if got := h.MustShell(status); got != "half-configured" {
		t.Errorf("after a failing postinst the package is %s", got)
	}

	waits := mirror.AddSSMAgent(packages.Options{Version: "3.3.2.0", Program: program, PostinstWaits: true, ControlVersion: "9.9.9.9-1"})
	h.CopyIn("/root/waits.deb", waits, 0o644)
	installing := h.Start(lab.Cmd{Args: []string{"dpkg", "-i", "/root/waits.deb"}})
	await(t, "postinst has begun", func() bool { return h.Exists("/run/amazon-ssm-agent.postinst") })
	h.Kill()
	installing.Wait()
	h.Boot()
	if got := h.MustShell(status); got != "half-configured" {
		t.Errorf("after a power cut in postinst the package is %s", got)
	}
	if got := h.MustShell("dpkg-query -W -f '${Version}' amazon-ssm-agent"); got != "9.9.9.9-1" {
		t.Errorf("the package claims %s", got)
	}
}
