package rehearsal

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

const (
	userConfig     = "etc/ecs/ecs.config"
	instanceConfig = "var/lib/ecs/ecs.config"
	recordFile     = "var/lib/anywhere/record.json"
	dropInDir      = "etc/systemd/system/ecs.service.d"
)

var adopt = line{args: []string{"adopt"}}

// foreign is a host that is registered and of which anywhere knows nothing, set up and configured as AWS's script does: its
// lines are in two files, twice where it ran twice, from before the agents' start.
func foreign(t *testing.T) (*stage, register) {
	t.Helper()
	s, d := registered(t)
	for _, name := range []string{recordFile, dropInDir + "/50-anywhere.conf", dropInDir, userConfig} {
		s.remove(t, name)
	}
	if err := os.RemoveAll(filepath.Join(s.machine.root, "var/lib/anywhere")); err != nil {
		t.Fatal(err)
	}
	s.writeOld(t, userConfig, "# ours, hands off\nECS_CLUSTER="+cluster+"\nECS_CLUSTER="+cluster+"\nECS_LOGLEVEL=warn\n")
	s.writeOld(t, instanceConfig, "AWS_DEFAULT_REGION="+region+"\nECS_EXTERNAL=true\nECS_BACKEND_HOST="+s.aws.URL()+
		"\nECS_RESERVED_MEMORY=64\n")
	return s, d
}

// writeOld writes a file as if an hour ago, which everybody may read.
func (s *stage) writeOld(t *testing.T, name, text string) {
	t.Helper()
	s.write(t, name, text)
	local := filepath.Join(s.machine.root, name)
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(local, then, then); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(local, 0o644); err != nil {
		t.Fatal(err)
	}
}

// lives are when the agents' services were started, by their units.
func (s *stage) lives(t *testing.T) map[string]host.Unit {
	t.Helper()
	all := map[string]host.Unit{}
	for _, name := range []string{ecsagent.Unit, ssmagent.UnitName} {
		unit, err := s.machine.units.Unit(t.Context(), name)
		if err != nil || !unit.Running() {
			t.Fatalf("%s: %+v, %v", name, unit, err)
		}
		unit.DropIns = nil
		all[name] = unit
	}
	return all
}

func sameLives(a, b map[string]host.Unit) bool {
	return maps.EqualFunc(a, b, func(x, y host.Unit) bool {
		return x.ActiveSince.Equal(y.ActiveSince) && x.Enabled == y.Enabled && x.Restarts == y.Restarts
	})
}

func (s *stage) record(t *testing.T) (record lifecycle.Record) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.read(t, recordFile)), &record); err != nil {
		t.Fatal(err)
	}
	return record
}

// changes runs a line and returns its document and the files that it changed.
func (s *stage) changes(t *testing.T, l line, flags ...string) (register, []string) {
	t.Helper()
	before, err := s.tree()
	if err != nil {
		t.Fatal(err)
	}
	d := s.run(t, l, flags...)
	after, err := s.tree()
	if err != nil {
		t.Fatal(err)
	}
	return d, differences(before, after)
}

// A host that somebody else set up comes under anywhere: three files are written, nothing is started anew, and after it
// register finds nothing to do.
func TestAdopt(t *testing.T) {
	t.Parallel()
	s, was := foreign(t)
	lives, registrations := s.lives(t), s.started(t)
	if err := s.aws.Close(); err != nil { // nobody is asked
		t.Fatal(err)
	}
	dry, changed := s.changes(t, adopt, "--dry-run", "--detailed-exitcode")
	if dry.RC != 11 || dry.Changed || len(changed) > 0 {
		t.Errorf("a dry run has changed %v: %+v", changed, dry)
	}
	d, changed := s.changes(t, adopt)
	if d.RC != 0 || !d.Changed || d.Result.ManagedInstanceID != was.Result.ManagedInstanceID || d.Result.Account != account ||
		d.Result.ContainerInstanceARN != was.Result.ContainerInstanceARN || d.Result.Cluster != cluster || d.Result.Region != region ||
		d.Result.Verified != lifecycle.VerifiedLocal || d.Result.ECSAgentVersion == "" || d.Result.SSMAgentVersion == "" {
		t.Fatalf("%+v", d)
	}
	want := []string{"~/" + userConfig, "+/" + dropInDir + "/50-anywhere.conf", "+/" + recordFile}
	slices.SortFunc(want, func(a, b string) int { return strings.Compare(a[1:], b[1:]) })
	if !slices.Equal(changed, want) {
		t.Errorf("it changed %v; want %v", changed, want)
	}
	config := "# ours, hands off\nECS_CLUSTER=" + cluster + "\nECS_CLUSTER=" + cluster + "\nECS_LOGLEVEL=warn\nAWS_DEFAULT_REGION=" +
		region + "\nECS_EXTERNAL=true\nAWS_EC2_METADATA_DISABLED=true\nECS_BACKEND_HOST=" + s.aws.URL() + "\n"
	if got := s.read(t, userConfig); got != config {
		t.Errorf("the configuration is\n%s\nwant\n%s", got, config)
	}
	if info, err := os.Stat(filepath.Join(s.machine.root, userConfig)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("its mode is not what it was: %v, %v", info.Mode(), err)
	}
	record := s.record(t)
	if record.Registration != nil || len(record.Packages) > 0 || !slices.Equal(record.Files, []string{"/" + dropInDir + "/50-anywhere.conf"}) {
		t.Errorf("what somebody else made is taken for anywhere's: %+v", record)
	}
	if is := record.Adopted; is == nil || is.ManagedInstanceID != d.Result.ManagedInstanceID || is.Cluster != cluster ||
		is.ContainerInstanceARN != d.Result.ContainerInstanceARN || is.Account != account || is.Region != region ||
		is.Packages[ecsagent.Package] != d.Result.ECSAgentVersion || is.Packages[ssmagent.Package] != d.Result.SSMAgentVersion ||
		!slices.Contains(is.Files, "/"+userConfig) {
		t.Errorf("the record has %+v", is)
	}
	if len(record.Started) != 2 {
		t.Errorf("what the agents have read is not recorded: %v", record.Started)
	}
	for _, l := range []line{adopt, plain, {args: []string{"register", "--cluster", cluster}}} {
		if d, changed := s.changes(t, l); d.RC != 0 || d.Changed || len(changed) > 0 {
			t.Errorf("%v has changed %v: %+v", l.args, changed, d)
		}
	}
	if dry := s.run(t, adopt, "--dry-run", "--detailed-exitcode"); dry.RC != 0 || dry.Changed {
		t.Errorf("%+v", dry)
	}
	if now := s.lives(t); !sameLives(lives, now) || !maps.Equal(registrations, s.started(t)) {
		t.Errorf("the agents were touched: %+v, before %+v", now, lives)
	}
}

// An adopted host takes its record along: it is healthy, it keeps its node when it leaves, and a registration anew is anywhere's.
func TestLifeOfAnAdoptedHost(t *testing.T) {
	t.Parallel()
	s, was := foreign(t)
	if d := s.run(t, adopt); d.RC != 0 || len(d.Warnings) > 0 {
		t.Fatalf("%+v", d)
	}
	if d := s.run(t, line{args: []string{"status"}}); d.RC != 0 {
		t.Errorf("it is not healthy: %+v", d)
	}
	token := s.anotherToken()
	s.refuses(t, line{args: []string{"register", "--cluster", target}}, 12, "registered_elsewhere", "belongs to cluster", "anywhere move")
	built := changers(t)
	if move, is := built["move"]; is {
		d := s.run(t, move)
		if is := s.record(t); d.RC != 0 || is.Registration != nil || is.Adopted == nil || is.Adopted.Cluster != target ||
			is.Adopted.ContainerInstanceARN != d.Result.ContainerInstanceARN || is.Adopted.ManagedInstanceID != was.Result.ManagedInstanceID {
			t.Errorf("after a move the record has %+v: %+v", is.Adopted, d)
		}
	}
	if deregister, is := built["deregister"]; is {
		if d := s.run(t, deregister); d.RC != 0 || len(s.aws.Nodes()) != 1 {
			t.Errorf("the node that somebody else made is gone: %+v, %+v", s.aws.Nodes(), d)
		}
		if installed, err := s.machine.host().Packages.Package(ecsagent.Package); err != nil || !installed.Installed {
			t.Errorf("the package that somebody else installed is gone: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(s.machine.root, dropInDir)); err == nil {
			t.Errorf("the drop-in's folder, which adopt made, is left")
		}
		return
	}
	d := s.run(t, withToken, "--accept-risk", "replace-identity")
	if is := s.record(t); d.RC != 0 || is.Adopted != nil || is.Registration == nil || is.Registration.ActivationID != token.ActivationID ||
		is.Registration.ManagedInstanceID != d.Result.ManagedInstanceID || len(is.Packages) > 0 {
		t.Errorf("after a registration anew the record has %+v: %+v", is, d)
	}
}
