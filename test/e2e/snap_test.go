package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const (
	snapUnit  = "snap.amazon-ssm-agent.amazon-ssm-agent.service"
	snapDir   = "/snap/amazon-ssm-agent"
	snapStore = "/srv/snaps" // what the stand-in's store has: a file for each channel, a folder for each revision
	snapWaits = "/run/snap.change"
)

// snapStandIn is a snapd that has one snap. As the real one does, it carries a change out to its end whatever becomes of the
// command that has asked for it, also after a power cut (snapdStandIn), keeps the revision before, starts the service of a snap
// if that is enabled, and answers about a change that is at work. It waits at each change as long as snapWaits is there, where
// /run/snap.slow is.
const snapStandIn = `#!/bin/bash
set -u
name=amazon-ssm-agent unit=snap.$name.$name.service base=/snap/$name store=/srv/snaps state=/var/lib/snapd
fail() { echo "error: $*" >&2; exit 1; }
verb=$1; shift
channel= revision= words=()
for a in "$@"; do
	case $a in
	--channel=*) channel=${a#*=} ;;
	--revision=*) revision=${a#*=} ;;
	--color=*|--unicode=*) ;;
	*) words+=("$a") ;;
	esac
done
follows() { cat $state/follows; }
offered() { # of a channel: its revision
	c=$1
	while [ -n "$c" ]; do
		[ -e "$store/channels/${c//\//_}" ] && { cat "$store/channels/${c//\//_}"; return; }
		case $c in */*/*) c=${c%/*} ;; *) return ;; esac
	done
}
version() { sed -n 's/^version: //p' "$1/meta/snap.yaml"; }
case $verb in
run)
	exec "$base/current/${words[0]}" ;;
info)
	[ "${words[0]}" = $name ] || fail "no snap found for \"${words[0]}\""
	printf 'name:      %s\nsummary:   Agent\npublisher: Amazon Web Services (aws**)\ndescription: |\n  Agent\nsnap-id:      0m6G\ntracking:     %s\nchannels:\n' $name "$(follows)"
	for c in $store/channels/*; do
		r=$(cat $c); c=$(basename $c)
		printf '  %s: %s 2026-11-01 (%s) 27MB classic\n' "${c//_//}" "$(version $store/$r)" $r
	done
	printf 'installed: %s (%s) 27MB classic\n' "$(version $base/current)" "$(readlink $base/current)"
	exit ;;
list)
	printf 'Name Version Rev Tracking Publisher Notes\n%s %s %s %s aws classic\n' $name "$(version $base/current)" "$(readlink $base/current)" "$(follows)"
	exit ;;
changes)
	[ -e $state/change ] || fail "no changes found"
	printf 'ID Status Spawn Ready Summary\n7 %s today - Refresh "%s" snap\n\n' "$(cat $state/change)" $name
	exit ;;
watch)
	while [ "$(cat $state/change)" = Doing ]; do sleep 0.05; done
	exit ;;
esac
[ "$(id -u)" = 0 ] || fail "access denied (try with sudo)"
[ "${words[0]:-}" = $name ] || fail "snap \"${words[0]:-}\" is not installed"
if [ -e $state/change ] && [ "$(cat $state/change)" = Doing ]; then echo "error: snap \"$name\" has \"refresh-snap\" change in progress" >&2; exit 10; fi
case $verb in
switch)
	echo $channel >$state/follows; echo "\"$name\" switched to the \"$channel\" channel"; exit ;;
refresh)
	to=$(offered "${channel:-$(follows)}")
	[ -n "$to" ] || fail "no snap revision available as specified"
	[ -z "$channel" ] || echo $channel >$state/follows
	[ "$to" != "$(readlink $base/current)" ] || { echo "snap \"$name\" has no updates available"; exit; } ;;
revert)
	to=${revision:-$(cat $state/before)}
	[ -d $base/$to ] || fail "cannot find revision $to for snap \"$name\""
	[ "$to" != "$(readlink $base/current)" ] || fail "already on requested revision" ;;
*)
	fail "unknown command \"$verb\"" ;;
esac
readlink $base/current >$state/before
echo $to >$state/to
echo Doing >$state/change
systemctl start --no-block snapd
while [ "$(cat $state/change)" = Doing ]; do sleep 0.05; done
case $verb in
refresh) echo "$name $(version $base/current) from Amazon Web Services (aws) refreshed" ;;
revert) echo "$name reverted to $(version $base/current)" ;;
esac
`

// snapdStandIn ends the change that was begun. Each part of it may have been done already.
const snapdStandIn = `#!/bin/bash
set -eu
name=amazon-ssm-agent unit=snap.$name.$name.service base=/snap/$name store=/srv/snaps state=/var/lib/snapd
[ "$(cat $state/change 2>/dev/null)" = Doing ] || exit 0
to=$(cat $state/to) old=$(cat $state/before)
rm -rf $base/.new
if [ ! -d $base/$to ]; then cp -a $store/$to $base/.new && mv $base/.new $base/$to; fi
if [ -e /run/snap.slow ]; then touch /run/snap.change; while [ -e /run/snap.change ]; do sleep 0.05; done; fi
systemctl stop $unit
rm -f $base/current
ln -s $to $base/current
for r in $base/*; do r=${r##*/}; case $r in current|$to|$old) ;; *) rm -r $base/$r ;; esac; done
if systemctl is-enabled -q $unit; then systemctl start $unit; fi
echo Done >$state/change
`

const snapdUnit = "[Unit]\nDescription=Snap Daemon\n\n[Service]\nType=exec\nExecStart=/usr/lib/snapd/snapd\nKillMode=process\n\n[Install]\nWantedBy=multi-user.target\n"

const ubuntuRelease = "PRETTY_NAME=\"Ubuntu 24.04.3 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nVERSION=\"24.04.3 LTS (Noble Numbat)\"\n" +
	"VERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\n"

// snapRevision puts a version of the agent into the store of a host's snapd, as what a channel has.
func snapRevision(h *lab.Machine, channel, revision, version, program string) {
	dir := snapStore + "/" + revision
	for _, name := range []string{"amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker", "ssm-document-worker", "ssm-cli"} {
		h.CopyIn(dir+"/"+name, lab.Shared(program), 0o755)
	}
	h.WriteFile(dir+"/meta/snap.yaml", fmt.Appendf(nil, "name: amazon-ssm-agent\nversion: %s\nconfinement: classic\n", version), 0o644)
	h.WriteFile(snapStore+"/channels/"+strings.ReplaceAll(channel, "/", "_"), []byte(revision+"\n"), 0o644)
}

// ubuntu boots a host as Ubuntu's images are: the SSM agent is a snap, which runs and is no managed node.
func (s *site) ubuntu() *lab.Machine {
	s.t.Helper()
	h := s.host(lab.Host{})
	h.WriteFile("/usr/lib/os-release", []byte(ubuntuRelease), 0o644)
	for _, name := range []string{"/etc/simagent.json", "/etc/ecs/simagent.json"} { // the agents' own waiting is not what is tested
		h.WriteFile(name, []byte(`{"pace": 0.1}`), 0o644)
	}
	h.WriteFile("/usr/bin/snap", []byte(snapStandIn), 0o755)
	h.WriteFile("/usr/lib/snapd/snapd", []byte(snapdStandIn), 0o755)
	h.WriteFile("/usr/lib/systemd/system/snapd.service", []byte(snapdUnit), 0o644)
	h.WriteFile("/etc/systemd/system/"+snapUnit, []byte("[Unit]\nDescription=Service for snap application amazon-ssm-agent.amazon-ssm-agent\n\n"+
		"[Service]\nExecStart=/usr/bin/snap run amazon-ssm-agent\nRestart=always\nRestartSec=1\nTimeoutStopSec=60\nType=simple\nKillMode=process\n\n"+
		"[Install]\nWantedBy=multi-user.target\n"), 0o644)
	snapRevision(h, "latest/stable", "11797", ssmVersion, "simagent")
	h.MustShell("mkdir -p /var/lib/snapd " + snapDir + " && echo latest/stable/ubuntu-24.04 >/var/lib/snapd/follows && cp -a " + snapStore + "/11797 " + snapDir +
		"/ && ln -s 11797 " + snapDir + "/current && systemctl daemon-reload && systemctl enable -q snapd && systemctl enable -q --now " + snapUnit)
	return h
}

// A host of Ubuntu's images: the snap registers, is upgraded and goes back as a snap, and stays when the registration goes.
func TestUbuntusSnap(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h := s.ubuntu()
	await(t, "the agent, which is no managed node, has died again and again", func() bool {
		return h.Shell("test $(systemctl show -P NRestarts "+snapUnit+") -ge 3").Exit == 0
	})
	before := h.Tree(lived...)
	settled := func(revision string) {
		t.Helper()
		if got := h.MustShell("readlink " + snapDir + "/current; cat /var/lib/snapd/follows"); got != revision+"\nlatest/stable/ubuntu-24.04" {
			t.Errorf("the snap is %q", got)
		}
		for _, unit := range []string{snapUnit, "ecs.service"} {
			if u := h.Unit(unit); u.Active != "active" || u.Sub != "running" || u.Enabled != "enabled" {
				t.Errorf("%s is %+v", unit, u)
			}
		}
		got := h.MustShell("dpkg-query -W -f '${db:Status-Abbrev}' amazon-ssm-agent 2>/dev/null || :; ls /var/lib/anywhere/packages")
		if strings.Contains(got, "amazon-ssm") || strings.Contains(got, "ii") {
			t.Errorf("the package of the SSM agent was mixed in: %s", got)
		}
		s.comesTo(h, "healthy", "")
	}

	first := s.mustRegister(h, s.register(s.token(1)))
	if first.Result.SSMAgentVersion != ssmVersion {
		t.Errorf("%+v", first.Result)
	}
	settled("11797")
	if got := h.MustShell("cmp " + snapDir + "/current/ssm-session-worker /var/lib/ecs/deps/execute-command/bin/" + ssmVersion + "/ssm-session-worker"); got != "" {
		t.Errorf("ECS Exec's programs are not the snap's: %s", got)
	}
	if again := s.mustRegister(h, s.register("")); again.Changed {
		t.Errorf("again: %+v", again)
	}
	var seen struct {
		Result struct {
			SSMAgent struct {
				Snap               bool
				Installed, Running string
				Unit               struct{ Name string }
			}
		}
	}
	must(t, json.Unmarshal([]byte(h.Run(asRoot).Stdout), &seen))
	if is := seen.Result.SSMAgent; !is.Snap || is.Installed != ssmVersion || is.Running != ssmVersion || is.Unit.Name != snapUnit {
		t.Errorf("status says %+v", is)
	}

	// A new version is in the channel. The upgrade is killed while snapd is at work, which ends what it has begun.
	task := startTask(h)
	snapRevision(h, "latest/stable", "11891", nextSSM, "simagent-next")
	check := s.upgraded(h.Run(lab.Cmd{Args: []string{"runuser", "-u", "nobody", "--", "anywhere", "upgrade", "--check", "--only", "ssm", "--detailed-exitcode", "-o", "json"}}))
	if check.RC != 11 || check.Result.SSMAgent.Newest != nextSSM || check.Result.SSMAgent.Installed != ssmVersion {
		t.Errorf("--check as nobody: %+v %+v", check, check.Error)
	}
	h.WriteFile("/run/snap.slow", nil, 0o644)
	r := s.begin(h, s.upgrade("--only", "ssm"))
	await(t, "snapd is at work", func() bool { return h.Exists(snapWaits) || r.over() })
	r.killed()
	must(t, h.RemoveFile("/run/snap.slow"))
	must(t, h.RemoveFile(snapWaits))
	d := s.upgraded(h.Run(s.upgrade("--only", "ssm")))
	if d.RC != 0 || d.Result.SSMAgent.Installed != nextSSM || d.Result.SSMAgent.Running != nextSSM || d.Result.ManagedInstanceID != first.Result.ManagedInstanceID {
		t.Fatalf("upgrade: %+v %+v", d, d.Error)
	}
	disarmed(t, h)
	taskRuns(t, h, task)
	back := s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "1s"}}))
	if back.RC != 0 || back.Result.SSMAgent.Installed != ssmVersion || back.Result.SSMAgent.Running != ssmVersion {
		t.Fatalf("rollback: %+v %+v", back, back.Error)
	}
	disarmed(t, h)
	settled("11797")

	// The power fails while snapd is at work. It goes on at the next boot, and so does the upgrade's deadline, after it.
	h.WriteFile("/run/snap.slow", nil, 0o644)
	r = s.begin(h, s.upgrade("--only", "ssm"))
	await(t, "snapd is at work", func() bool { return h.Exists(snapWaits) || r.over() })
	h.Kill()
	r.end()
	h.Boot()
	h.MustShell("systemctl start anywhere-upgrade.service")
	await(t, "the host has ended the upgrade", func() bool { return !h.Exists(openJournal) && !h.Exists("/var/lib/anywhere/deadline.json") })
	disarmed(t, h)
	revision, version := "11797", ssmVersion
	if h.MustShell("readlink "+snapDir+"/current") == "11891" {
		revision, version = "11891", nextSSM
	}
	t.Logf("it ended with %s", version)
	settled(revision)

	h.MustShell("docker rm -f ecs-web-1-web")
	gone := s.parting(h.Run(s.deregister()))
	if gone.RC != 0 || gone.Result.Verified != "aws" || len(s.inAWS()) > 0 ||
		!slices.ContainsFunc(gone.Result.Kept, func(k string) bool { return strings.Contains(k, "snap remove amazon-ssm-agent") }) {
		t.Fatalf("deregister: %+v\nAWS has %q", gone, s.inAWS())
	}
	if u := h.Unit(snapUnit); u.Active == "active" || u.Enabled == "enabled" || !h.Exists(snapDir+"/current/amazon-ssm-agent") {
		t.Errorf("the snap's unit is %+v", u)
	}
	left := differences(before, h.Tree(lived...), func(path string) bool {
		return ofTheLife(path) || strings.HasPrefix(path, snapStore) || strings.HasSuffix(path, "multi-user.target.wants/"+snapUnit) ||
			path == "/etc/systemd/system/multi-user.target.wants" || strings.HasPrefix(path, "/etc/systemd/system/timers.target.wants")
	})
	if len(left) > 0 {
		t.Errorf("it differs from a host that was never registered:\n%s", strings.Join(left, "\n"))
	}
}
