package lifecycle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// DoctorBundle is the support archive that was written.
type DoctorBundle struct {
	Path  string `json:"path"`  // where it is
	Bytes int64  `json:"bytes"` // its size
	Files int    `json:"files"` // how many files it has
}

// How much goes into a support archive, before it is packed.
const (
	bundleMost  = 20 << 20  // of all files together
	bundleLog   = 1 << 20   // the newest of a log and what it was rolled over to
	bundleSmall = 256 << 10 // of any other file
	bundleTime  = 10 * time.Second
)

// bundleFolder is what everything in the archive is below.
const bundleFolder = "anywhere-support/"

// openBundle makes the archive's file, before anything is looked at: one that is there is never overwritten.
func (req DoctorRequest) openBundle() (*output, error) {
	file, err := req.NewFile(req.Bundle)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil, failure.New(failure.Usage, "--bundle: %s exists, and is not overwritten", req.Bundle).
			WithRemedy("name another file, or remove that one")
	case err != nil:
		return nil, failure.Wrap(failure.ReadOnly, err, "--bundle: make %s", req.Bundle).
			WithRemedy("name a file in a folder that can be written")
	}
	return &output{file: file}, nil
}

// bundleEntry is a line of the archive's manifest.
type bundleEntry struct {
	Name   string `json:"name"`           // in the archive
	Source string `json:"source"`         // the file or the question that it is from
	Status string `json:"status"`         // included, cut, unreadable or left out
	Bytes  int    `json:"bytes"`          // in the archive
	Why    string `json:"why,omitempty"`  // why it is cut, unreadable or left out
	Note   string `json:"note,omitempty"` // what was taken out
}

// bundler collects an archive.
type bundler struct {
	x       *examination
	scrub   *secret.Scrubber
	tar     *tar.Writer
	left    int
	entries []bundleEntry
	err     error // of writing; nothing is added any more
}

// bundle writes the support archive. Everything in it is read within bounds, and cleaned.
func (x *examination) bundle(ctx context.Context, out *output, report Report) (*DoctorBundle, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), bundleTime, errNoAnswer)
	defer cancel()
	var size counter
	packed := gzip.NewWriter(io.MultiWriter(out.file, &size))
	b := &bundler{x: x, scrub: x.scrubber(), tar: tar.NewWriter(packed), left: bundleMost}
	b.findings(report)
	b.configuration(ctx)
	b.units(ctx)
	b.facts()
	b.docker(ctx)
	b.ours()
	b.journal()
	b.logs()
	b.manifest()
	err := errors.Join(b.err, b.tar.Close(), packed.Close())
	if err = errors.Join(err, out.file.Sync(), out.file.Close()); err != nil {
		return nil, failure.Wrap(failure.ReadOnly, err, "--bundle: write %s", x.req.Bundle)
	}
	out.kept = true
	return &DoctorBundle{Path: x.req.Bundle, Bytes: int64(size), Files: len(slices.DeleteFunc(b.entries, func(e bundleEntry) bool {
		return e.Status != "included" && e.Status != "cut"
	})) + 1}, nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// scrubber knows the secrets of this host, so that they are found wherever else they stand.
func (x *examination) scrubber() *secret.Scrubber {
	s := new(secret.Scrubber)
	r := x.deps.Host.Reader
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "ANYWHERE_ACTIVATION_CODE"} {
		if x.deps.Getenv != nil {
			s.Know(x.deps.Getenv(name))
		}
	}
	for _, name := range []string{"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		if x.deps.Getenv != nil {
			s.Know(secret.InAddress(x.deps.Getenv(name))...)
		}
	}
	if text, err := r.Files.ReadFile(ssmagent.CredentialsPath); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, found := strings.Cut(line, "="); found && strings.HasPrefix(strings.TrimSpace(strings.ToLower(key)), "aws_") {
				s.Know(value)
			}
		}
	}
	for _, file := range []string{ssmagent.KeyPath, ssmagent.FingerprintPath, ecsagent.JSONConfigPath, "/root/.docker/config.json"} {
		if text, err := r.Files.ReadFile(file); err == nil {
			s.Know(jsonSecrets(text)...)
		}
	}
	for _, file := range []string{ecsagent.ConfigPath, ecsagent.InstanceConfigPath} {
		text, err := r.Files.ReadFile(file)
		if err != nil {
			continue
		}
		config := ecsagent.Parse(text)
		for _, key := range append([]string{"AWS_ACCESS_KEY_ID"}, secretKeys...) {
			value, _ := config.Get(key)
			switch {
			case strings.HasSuffix(strings.ToLower(key), "_proxy"):
				s.Know(secret.InAddress(value)...)
			case value != "":
				s.Know(value)
				s.Know(jsonSecrets([]byte(value))...)
			}
		}
	}
	return s
}

// openKeys are values of identity and configuration files that are no secrets.
var openKeys = []string{
	"instanceID", "region", "instanceType", "availabilityZone", "publicKeyType", "privateKeyType", "privateKeyCreatedDate", "username", "email",
	"Cluster", "hostname-info", "ipaddress-info", "macaddr-info", "machine-id",
}

// jsonSecrets are all texts in a JSON document that may be secrets.
func jsonSecrets(text []byte) (found []string) {
	var document any
	if json.Unmarshal(text, &document) != nil {
		return nil
	}
	var walk func(key string, value any)
	walk = func(key string, value any) {
		switch v := value.(type) {
		case string:
			if slices.Contains(openKeys, key) {
				return
			}
			if plain, err := base64.StdEncoding.DecodeString(v); err == nil && key == "auth" { // user:password
				_, password, _ := strings.Cut(string(plain), ":")
				found = append(found, string(plain), password)
			}
			if strings.Contains(strings.ToLower(key), "key") || strings.Contains(strings.ToLower(key), "pass") || key == "auth" || key == "fingerprint" ||
				strings.Contains(strings.ToLower(key), "token") || strings.Contains(strings.ToLower(key), "secret") {
				found = append(found, v)
			}
		case []any:
			for _, inner := range v {
				walk(key, inner)
			}
		case map[string]any:
			for k, inner := range v {
				walk(k, inner)
			}
		}
	}
	walk("", document)
	return found
}

// add writes a file into the archive, as far as there is room.
func (b *bundler) add(e bundleEntry, text string) {
	if b.err != nil {
		return
	}
	text = b.scrub.Clean(text)
	e.Source = b.scrub.Clean(e.Source)
	b.put(e, text)
}

// put is add for what is clean already.
func (b *bundler) put(e bundleEntry, text string) {
	if e.Status == "" {
		e.Status = "included"
	}
	if len(text) > b.left {
		if b.left < 4<<10 {
			e.Status, e.Why = "left out", "the archive is full"
			b.entries = append(b.entries, e)
			return
		}
		text = text[len(text)-b.left:]
		e.Status, e.Why = "cut", "the archive is full: its end"
	}
	b.left -= len(text)
	e.Bytes = len(text)
	b.write(e.Name, text)
	b.entries = append(b.entries, e)
}

func (b *bundler) write(name, text string) {
	if b.err != nil {
		return
	}
	b.err = b.tar.WriteHeader(&tar.Header{
		Name: bundleFolder + name, Mode: 0o600, Size: int64(len(text)), ModTime: b.x.deps.Host.Now().UTC().Truncate(time.Second), Typeflag: tar.TypeReg,
	})
	if b.err == nil {
		_, b.err = io.WriteString(b.tar, text)
	}
}

// document adds a value as JSON. Its texts are cleaned one by one, so that it stays JSON.
func (b *bundler) document(name, source string, value any) {
	text, err := json.Marshal(value)
	var plain any
	if err == nil {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		err = decoder.Decode(&plain)
	}
	if err == nil {
		text, err = json.MarshalIndent(b.scrub.CleanJSON(plain), "", "  ")
	}
	if err != nil {
		b.entries = append(b.entries, bundleEntry{Name: name, Source: source, Status: "unreadable", Why: err.Error()})
		return
	}
	b.put(bundleEntry{Name: name, Source: source}, string(text)+"\n")
}

// file adds the end of a file of the host; one that is not there is not missed.
func (b *bundler) file(name, source string, most int64, note string) {
	e := bundleEntry{Name: name, Source: source, Note: note}
	files := b.x.deps.Host.Files
	info, err := files.Stat(source)
	switch {
	case missing(err):
		return
	case err == nil && !info.Mode().IsRegular():
		e.Status, e.Why = "left out", "it is no file"
		b.entries = append(b.entries, e)
		return
	}
	var data []byte
	whole := true
	if err == nil {
		data, whole, err = host.ReadEnd(files, source, most)
	}
	if err != nil {
		e.Status, e.Why = "unreadable", why(err)
		b.entries = append(b.entries, e)
		return
	}
	if !whole {
		e.Status, e.Why = "cut", fmt.Sprintf("its last %d KiB", most>>10)
	}
	b.add(e, string(data))
}

func (b *bundler) findings(report Report) {
	b.document("doctor.json", "anywhere doctor", report.Result)
	b.document("status.json", "anywhere status", b.x.status)
	var checks []any
	for _, c := range b.x.checks {
		checks = append(checks, map[string]any{"id": c.ID, "status": c.Status, "detail": c.Detail, "remedy": c.Remedy, "evidence": c.Evidence})
	}
	b.document("preflight.json", "anywhere preflight", checks)
}

// bundleUnits are the units whose state and files are of interest.
func (b *bundler) bundleUnits() []string {
	return []string{"docker.service", "docker.socket", "containerd.service", b.x.sight.ecsName, ssmagent.UnitName, ssmagent.SnapUnit}
}

func (b *bundler) configuration(ctx context.Context) {
	const note = "secrets are taken out"
	for _, file := range []string{
		ecsagent.ConfigPath, ecsagent.InstanceConfigPath, ecsagent.JSONConfigPath, ssmagent.ConfigPath, "/etc/docker/daemon.json",
		"/etc/anywhere/config.yaml", ecsagent.CacheState, ssmagent.RuntimePath, ssmagent.RegistrationPath,
	} {
		b.file("files"+file, file, bundleSmall, note)
	}
	for _, name := range b.bundleUnits() {
		unit, err := b.x.deps.Host.Units.Unit(ctx, name)
		if err != nil {
			continue // units() says so
		}
		for _, file := range append([]string{unit.FragmentAt}, unit.DropIns...) {
			if file != "" {
				b.file("files"+file, file, bundleSmall, note)
			}
		}
	}
}

func (b *bundler) units(ctx context.Context) {
	states := map[string]any{}
	for _, name := range b.bundleUnits() {
		unit, err := b.x.deps.Host.Units.Unit(ctx, name)
		if err != nil {
			states[name] = "not seen: " + why(err)
			continue
		}
		states[name] = unit
	}
	b.document("units.json", "systemd", states)
}

func (b *bundler) facts() {
	h := b.x.deps.Host
	space := map[string]any{}
	for _, dir := range []string{"/", "/var", "/var/lib", "/var/lib/docker", "/var/log", ecsagent.DataDir, "/tmp"} {
		if free, err := h.Files.Space(dir); err != nil {
			space[dir] = why(err)
		} else {
			space[dir] = free
		}
	}
	packages := map[string]any{}
	for _, name := range []string{ssmagent.Package, ecsagent.Package, ecsagent.AmazonLinuxPackage, "docker-ce", "docker.io", "containerd.io"} {
		if p, err := h.Packages.Package(name); err == nil && (p.Installed || p.Partial) {
			packages[name] = p
		}
	}
	b.document("facts.json", "this host", map[string]any{
		"kernel": h.Kernel.Release(), "cgroup": h.Kernel.Cgroup(), "selinux": h.Kernel.SELinux(), "apparmor": h.Kernel.AppArmor(),
		"container": h.Kernel.Container(), "arch": h.Self.GOARCH, "euid": h.Self.EUID, "time": stamp(h.Now()), "anywhere": b.x.deps.Version,
		"freeBytes": space, "packages": packages,
	})
	for _, file := range []string{
		"/etc/os-release", "/proc/version", "/proc/cmdline", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/self/mounts", "/proc/cgroups",
		"/sys/fs/cgroup/cgroup.controllers", "/etc/resolv.conf", "/proc/net/route",
	} {
		b.file("files"+file, file, bundleSmall, "")
	}
}

func (b *bundler) docker(ctx context.Context) {
	if !b.x.status.Docker.Running {
		why := first(b.x.status.Docker.Why, "Docker does not answer")
		if !b.x.status.Docker.Present && b.x.status.Docker.Why == "" {
			why = "Docker is not installed"
		}
		b.entries = append(b.entries, bundleEntry{Name: "docker.json", Source: docker.Socket, Status: "unreadable", Why: why})
		return
	}
	answers, missing := docker.Support(ctx, b.x.deps.Host.Reader, ecsagent.Container)
	for path, why := range missing {
		answers[path] = "not answered: " + why
	}
	b.document("docker.json", docker.Socket, answers)
}

// ours are the record, the journals of operations, and what was kept of versions that upgrades have taken back.
func (b *bundler) ours() {
	b.file("files"+recordPath, recordPath, bundleSmall, "")
	b.file("files"+defaultLog, defaultLog, bundleLog, "")
	b.file("files"+failedPath, failedPath, bundleSmall, "")
	for _, folder := range []string{DataDir + "/journal", failedLogs} {
		entries, err := b.x.deps.Host.Files.ReadDir(folder)
		if err != nil && !missing(err) {
			b.entries = append(b.entries, bundleEntry{Name: "files" + folder, Source: folder, Status: "unreadable", Why: why(err)})
		}
		for _, e := range entries {
			b.file("files"+path.Join(folder, e.Name()), path.Join(folder, e.Name()), bundleLog, "")
		}
	}
}

// defaultLog is where commands that change things log, unless they are told otherwise.
const defaultLog = "/var/log/anywhere/anywhere.log"

func (b *bundler) journal() {
	if u := b.x.journal.unseen; u != nil {
		b.entries = append(b.entries, bundleEntry{Name: "journal", Source: "journalctl", Status: "unreadable", Why: u.Why})
	}
	var units []string
	for unit := range b.x.journal.text {
		units = append(units, unit)
	}
	slices.Sort(units)
	for _, unit := range units {
		var text strings.Builder
		for _, m := range b.x.journal.text[unit] {
			fmt.Fprintf(&text, "%s %s\n", m.at.UTC().Format(time.RFC3339), m.text)
		}
		if text.Len() > 0 {
			b.add(bundleEntry{Name: "journal/" + unit + ".txt", Source: "journalctl, " + unit}, text.String())
		}
	}
}

// logs are the ends of the agents' logs, and of what they were rolled over to.
func (b *bundler) logs() {
	for _, log := range []string{
		ecsagent.LogPath, ecsagent.InitLogPath, ssmagent.LogPath, ssmagent.ErrorLogPath, ecsagent.LogDir + "/audit.log",
		ecsagent.LogDir + "/ecs-volume-plugin.log", ssmagent.LogDir + "/hibernate.log", ssmagent.LogDir + "/AmazonSSMAgent-update.txt",
		ssmagent.LogDir + "/ssm-setup-cli.log",
	} {
		files, err := host.LogFiles(b.x.deps.Host.Files, log)
		if err != nil {
			if !missing(err) {
				b.entries = append(b.entries, bundleEntry{Name: "files" + log, Source: log, Status: "unreadable", Why: why(err)})
			}
			continue
		}
		left := int64(bundleLog)
		for _, file := range files {
			before := b.left
			if left < 4<<10 {
				b.entries = append(b.entries, bundleEntry{Name: "files" + file, Source: file, Status: "left out", Why: "there is enough of newer ones"})
				continue
			}
			b.file("files"+strings.TrimSuffix(file, ".gz"), file, left, "")
			left -= int64(before - b.left)
		}
	}
}

func (b *bundler) manifest() {
	slices.SortStableFunc(b.entries, func(x, y bundleEntry) int { return strings.Compare(x.Name, y.Name) })
	files := len(b.entries)
	b.left = max(b.left, bundleSmall) // there is always room to say what is there
	b.document("manifest.json", "this list", map[string]any{
		"schema": "anywhere/support/v1", "version": b.x.deps.Version, "runId": b.x.deps.RunID, "createdAt": stamp(b.x.deps.Host.Now()),
		"redacted": "secrets and keys; account ids are ACCOUNT-1 and so on, the same everywhere",
		"files":    b.entries,
	})
	b.entries = b.entries[:files]
}

// clean takes secrets out of a text.
func (x *examination) clean(s string) string {
	if x.deps.Redactor == nil {
		return new(secret.Redactor).Clean(s)
	}
	return x.deps.Redactor.Clean(s)
}
