package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// What AWS's script does, in its order (ecs-anywhere-install.sh of 2026-04-14): each is the very commands by which it changes
// a host. The endpoints are the lab's addition.
const (
	scriptEndpoints = `mkdir -p /etc/amazon/ssm
echo '{"Identity":{"ConsumptionOrder":["OnPrem"]},"Ssm":{"Endpoint":"%URL%"},"Mds":{"Endpoint":"%URL%"},"Mgs":{"Endpoint":"%TLS%"}}' \
	> /etc/amazon/ssm/amazon-ssm-agent.json
`
	scriptSSM      = "%INSTALL% /root/ssm.%KIND%\n"
	scriptRegister = "systemctl stop amazon-ssm-agent || :\namazon-ssm-agent -register -code %CODE% -id %ID% -region %REGION% </dev/null\n"
	scriptSSMStart = "systemctl enable amazon-ssm-agent\nsystemctl start amazon-ssm-agent\n"
	scriptCerts    = `mkdir -p /var/lib/ecs/deps/execute-command/certs
cp /etc/ssl/certs/ca-certificates.crt /var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem
chmod 400 /var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem
mkdir -p /var/lib/ecs/deps/execute-command/bin/3.3.4108.0 /root/ssm-binaries
`
	scriptHalfExec = `head -c 1000 /usr/bin/amazon-ssm-agent > /root/ssm-binaries/amazon-ssm-agent
head -c 1000 /usr/bin/amazon-ssm-agent > /var/lib/ecs/deps/execute-command/bin/3.3.4108.0/amazon-ssm-agent
`
	scriptExec = `for name in amazon-ssm-agent ssm-agent-worker ssm-session-worker; do
	cp /usr/bin/$name /var/lib/ecs/deps/execute-command/bin/3.3.4108.0/
done
rmdir /root/ssm-binaries
`
	scriptECS    = "%INSTALL% /root/ecs.%KIND%\n"
	scriptConfig = `mkdir -p /etc/ecs
echo ECS_CLUSTER=prod >> /etc/ecs/ecs.config
echo AWS_DEFAULT_REGION=%REGION% >> /var/lib/ecs/ecs.config
echo ECS_EXTERNAL=true >> /var/lib/ecs/ecs.config
echo ECS_BACKEND_HOST=%URL% >> /var/lib/ecs/ecs.config
`
	scriptECSStart = "systemctl enable %UNIT%\nsystemctl start %UNIT%\n"
)

// jqPackage is a package of the system's in whose postinst AWS's script can be killed.
const jqPackage = `mkdir -p /root/jq/DEBIAN /root/jq/usr/share/jq
printf 'Package: jq\nVersion: 1.6\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' > /root/jq/DEBIAN/control
printf '#!/bin/sh\nwhile [ -e /run/jq.waits ]; do sleep 0.05; done\n' > /root/jq/DEBIAN/postinst
chmod 755 /root/jq/DEBIAN/postinst
touch /run/jq.waits
dpkg-deb --build /root/jq /root/jq.deb
`

// killedDuring runs dpkg -i and kills it with all its children once its database says so.
func killedDuring(file, state string) string {
	return fmt.Sprintf(`setsid dpkg -i %s >/dev/null 2>&1 & pid=$!
n=0
until dpkg-query -W -f '${Package} ${db:Status-Status}\n' 2>/dev/null | grep -q '%s'; do
	n=$((n+1)); [ $n -lt 2000 ] || { echo dpkg was too quick; exit 1; }
done
kill -9 -$pid
wait $pid || :
rm -f /run/jq.waits /run/amazon-ecs-init.postinst
[ -n "$(dpkg --audit)" ]
`, file, state)
}

// play runs a part of AWS's script with an activation of its own.
func (s *site) play(h *lab.Machine, script ...string) {
	s.t.Helper()
	id, code := s.aws.AddActivation(1, time.Now().Add(time.Hour))
	kind, install, unit := "deb", "dpkg -i", "ecs"
	ssm, ecs := "debian_amd64/amazon-ssm-agent.deb", "amazon-ecs-init-latest.amd64.deb"
	if byRPM(h) {
		kind, install = "rpm", "rpm -U --nosignature"
		unit = "$(cd /usr/lib/systemd/system; ls " + suseUnit + " ecs.service 2>/dev/null)"
		ssm, ecs = "linux_amd64/amazon-ssm-agent.rpm", "amazon-ecs-init-latest.x86_64.rpm"
	}
	h.CopyIn("/root/ssm."+kind, s.mirror.Dir+"/amazon-ssm-"+region+"/latest/"+ssm, 0o644)
	h.CopyIn("/root/ecs."+kind, s.mirror.Dir+"/amazon-ecs-agent-"+region+"/"+ecs, 0o644)
	text := strings.NewReplacer("%URL%", s.url, "%TLS%", strings.Replace(s.url, "http:", "https:", 1), "%REGION%", region,
		"%CODE%", code, "%ID%", id, "%INSTALL%", install, "%KIND%", kind, "%UNIT%", unit).Replace(strings.Join(script, ""))
	h.MustShell("set -e\n" + text)
}

// AWS's script, killed where a kill leaves something different. Each time the register command either goes on, or says what
// to type; then the same command goes on. No identity that is there is given up, and no activation is spent for it.
func TestAWSScriptKilledHalfWay(t *testing.T) {
	quick := newSite(t, packages.Options{}, packages.Options{})
	slow := newSite(t, packages.Options{Padding: 96 << 20}, packages.Options{PostinstWaits: true})
	for _, c := range []struct {
		name   string
		site   *site
		script []string
		node   bool   // it had registered the managed node
		token  bool   // the command needs one
		broken string // the package manager was interrupted in this
	}{
		{name: "in the system's packages", site: quick, token: true,
			script: []string{jqPackage, killedDuring("/root/jq.deb", "jq half-configured")}, broken: "jq (half-configured)"},
		{name: "after the SSM agent's download", site: quick, token: true},
		{name: "while the SSM agent was unpacked", site: slow, token: true,
			script: []string{killedDuring("/root/ssm.deb", "amazon-ssm-agent half-installed")}},
		{name: "before the SSM agent was configured", site: quick, token: true,
			script: []string{"dpkg --unpack /root/ssm.deb\n"}, broken: "amazon-ssm-agent (unpacked)"},
		{name: "before it registered", site: quick, token: true, script: []string{scriptSSM}},
		{name: "before it started the SSM agent", site: quick, node: true, script: []string{scriptSSM, scriptRegister}},
		{name: "in the middle of ECS Exec's files", site: quick, node: true,
			script: []string{scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptHalfExec}},
		{name: "while the ECS agent was configured", site: slow, node: true,
			script: []string{scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec,
				killedDuring("/root/ecs.deb", "amazon-ecs-init half-configured")}, broken: "amazon-ecs-init (half-configured)"},
		{name: "before it configured the ECS agent", site: quick, node: true,
			script: []string{scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec, scriptECS}},
		{name: "before it started the ECS agent", site: quick, node: true,
			script: []string{scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec, scriptECS, scriptConfig}},
		{name: "while it waited", site: quick, node: true,
			script: []string{scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec, scriptECS, scriptConfig, scriptECSStart}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := c.site.branch(t, c.site.mirror)
			h := s.host(lab.Host{})
			if c.node {
				s.play(h, append([]string{scriptEndpoints}, c.script...)...)
			} else {
				s.play(h, c.script...)
			}
			token := ""
			if c.token {
				token = s.token(1)
			}
			cmd := s.register(token, "--cluster", cluster)
			node := ""
			if c.node {
				node = s.aws.Nodes()[0].ID
			}
			if c.broken != "" {
				before := look(h)
				s.fails(t, h, cmd, 3, failure.PackagesBroken, c.broken, c.broken[:2], "dpkg --configure -a; then run the same command again")
				before.same(t, look(h))
			}
			stop := releaseAll(h)
			if c.broken != "" {
				h.MustShell("timeout 60 dpkg --configure -a")
			}
			d := (&site{t: t, aws: s.aws}).proceed(h, cmd)
			stop()
			if nodes := s.aws.Nodes(); len(nodes) != 1 || node != "" && d.Result.ManagedInstanceID != node {
				t.Errorf("the node was %s and is %s; Systems Manager has %+v", node, d.Result.ManagedInstanceID, nodes)
			}
			if again := s.mustRegister(h, s.register("")); again.Changed {
				t.Errorf("and again: %+v", again)
			}
		})
	}
}

// A host that AWS's script has set up completely, and once more on top: what is there stays, line for line; what is missing
// is added; the agents and a task's container go on.
func TestHostOfAWSScript(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.host(lab.Host{})
	s.play(h, scriptEndpoints, scriptSSM, scriptRegister, scriptSSMStart, scriptCerts, scriptExec, scriptECS, scriptConfig,
		scriptConfig, scriptECSStart)
	await(t, "the ECS agent is registered", func() bool { return len(s.aws.Instances()) == 1 && s.aws.Instances()[0].Connected })
	arn, node := s.aws.Instances()[0].ARN, s.aws.Nodes()[0].ID
	task := startTask(h)
	paths := []string{"/etc", "/var/lib/ecs", "/var/lib/amazon/ssm/Vault", "/root/.aws"}
	before := h.Tree(paths...)
	ssm := h.MustShell("systemctl show -p ActiveEnterTimestampMonotonic amazon-ssm-agent")

	d := s.mustRegister(h, s.register(""))
	if !d.Changed || d.Result.ContainerInstanceARN != arn || d.Result.ManagedInstanceID != node || len(s.aws.Instances()) != 1 {
		t.Errorf("it was %s as %s and is %+v", node, arn, d)
	}
	allowed := map[string]bool{
		"/etc/systemd/system/ecs.service.d": true, "/etc/systemd/system/ecs.service.d/50-anywhere.conf": true, "/etc/ecs/ecs.config": true,
	}
	if diff := differences(before, h.Tree(paths...), func(path string) bool { return allowed[path] }); len(diff) > 0 {
		t.Errorf("it has changed\n%s", strings.Join(diff, "\n"))
	}
	if got := h.MustShell("cat /etc/ecs/ecs.config"); got != "ECS_CLUSTER=prod\nECS_CLUSTER=prod\nAWS_EC2_METADATA_DISABLED=true" {
		t.Errorf("ecs.config is %q", got)
	}
	if now := h.MustShell("systemctl show -p ActiveEnterTimestampMonotonic amazon-ssm-agent"); now != ssm {
		t.Error("the SSM agent was started anew, for nothing")
	}
	if record := record(t, h); strings.Contains(record, "sha256") || regexp.MustCompile(`ecs\.config"\s*[],]`).MatchString(record) {
		t.Errorf("what AWS's script has made is taken for ours: %s", record)
	}
	taskRuns(t, h, task)
	ecs := h.MustShell("systemctl show -p ActiveEnterTimestampMonotonic ecs")
	if again := s.mustRegister(h, s.register("", "--cluster", cluster)); again.Changed {
		t.Errorf("and again: %+v", again)
	}
	if now := h.MustShell("systemctl show -p ActiveEnterTimestampMonotonic ecs"); now != ecs {
		t.Error("a run that changes nothing has started the ECS agent anew")
	}
}

// startTask runs a container that looks like a task's and returns its id and when it started.
func startTask(h *lab.Machine) string {
	h.MustShell(`docker run -d --name ecs-web-1-web --label com.amazonaws.ecs.task-arn=arn:aws:ecs:task/prod/1 \
	-v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro --entrypoint /usr/bin/sleep amazon/amazon-ecs-agent:latest infinity`)
	return h.MustShell(taskState)
}

const taskState = "docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Running}}' ecs-web-1-web"

func taskRuns(t *testing.T, h *lab.Machine, task string) {
	t.Helper()
	if now := h.MustShell(taskState); now != task || !strings.HasSuffix(now, "true") {
		t.Errorf("a task's container was touched: %s, before %s", now, task)
	}
}
