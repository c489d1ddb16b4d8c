package ssmagent

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

func TestIdentityAndVerdict(t *testing.T) {
	truncated := func(m machine, path string) {
		text, err := m.dir.ReadFile(path)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write(path, string(text[:len(text)/2]))
	}
	logLine := func(m machine, at time.Time, text string) {
		old, _ := m.dir.ReadFile(LogPath)
		m.write(LogPath, string(old)+at.Format("2006-01-02 15:04:05.0000")+" "+text+"\n")
	}
	gone := "ERROR [CredentialRefresher] Retrieve credentials produced error: InvalidInstanceId: Not existing InstanceId "

	for _, c := range []struct {
		name       string
		make       func(m machine)
		registered bool
		verdict    Verdict
		says       string // in the reason
		damaged    string // in the only sentence of Damaged; empty: none
	}{
		{"fresh", func(machine) {}, false, None, "not registered", ""},
		{"first registration failed", func(m machine) {
			m.blanked(ourID)
			m.remove(RegistrationPath)
		}, false, None, "not registered", ""},
		{"cleared", func(m machine) { m.cleared(ourID) }, false, None, "cleared; " + RegistrationPath + " still names " + ourID, ""},

		{"registered, never started", func(m machine) { m.registered(ourID) }, true, Unknown, "never seen to get credentials", ""},
		{"registered a moment ago, by the log", func(m machine) {
			m.registered(ourID)
			logLine(m, now.Add(-time.Minute), "INFO Successfully registered the instance with AWS SSM using Managed instance-id: "+ourID)
		}, true, Sound, ourID + " in " + ourRegion, ""},
		{"the log's success is of another node", func(m machine) {
			m.registered(ourID)
			logLine(m, now.Add(-time.Minute), "INFO Successfully registered the instance with AWS SSM using Managed instance-id: "+otherID)
		}, true, Unknown, "never seen", ""},
		{"running", func(m machine) { m.running(ourID, now.Add(-20*time.Minute)) }, true, Sound, "good until 2026-11-22T12:40:00Z", ""},
		{"offline beyond expiry", func(m machine) { m.running(ourID, now.Add(-61*time.Minute)) }, true, Unknown,
			"expired at 2026-11-22T11:59:00Z and were not renewed", ""},
		{"credentials of a former node", func(m machine) {
			m.running(ourID, now)
			m.json(RuntimePath, runtimeFile(otherID, now, now.Add(time.Hour)))
		}, true, Unknown, "never seen", ""},

		{"blanked by a failed registration", func(m machine) { m.blanked(ourID) }, false, Broken, ourID,
			"is blanked, as a failed registration leaves it; the host was registered as " + ourID},
		{"blanked, side file gone, runtime remembers", func(m machine) {
			m.blanked(ourID)
			m.remove(RegistrationPath)
			m.json(RuntimePath, runtimeFile(ourID, now, now.Add(time.Hour)))
		}, false, Broken, ourID, "registered as " + ourID},
		{"side file without vault", func(m machine) {
			m.registered(ourID)
			m.remove(VaultDir)
		}, false, Broken, ourID, KeyPath + " is missing; the host was registered as " + ourID},
		{"vault without side file", func(m machine) {
			m.running(ourID, now)
			m.remove(RegistrationPath)
		}, true, Sound, ourID, RegistrationPath + " is missing; the vault says " + ourID},
		{"side file of another node", func(m machine) {
			m.running(ourID, now)
			m.json(RegistrationPath, fields{"ManagedInstanceID": otherID, "Region": ourRegion})
		}, true, Sound, ourID, "says " + otherID},
		{"no manifest entry", func(m machine) {
			m.running(ourID, now)
			m.json(ManifestPath, fields{fingerprintEntry: FingerprintPath})
		}, false, Broken, ourID, KeyPath + " holds " + ourID + ", but the agent does not see it"},
		{"manifest leads nowhere", func(m machine) {
			m.json(ManifestPath, manifest())
		}, false, Broken, KeyPath, "leads to " + KeyPath + ", which is missing"},
		{"key file cut", func(m machine) {
			m.running(ourID, now)
			truncated(m, KeyPath)
		}, false, Broken, KeyPath, KeyPath + " cannot be understood: the JSON ends too early, at line 1"},
		{"key empty", func(m machine) {
			m.running(ourID, now)
			m.json(KeyPath, keyFile(ourID, ourRegion, ""))
		}, false, Broken, KeyPath, "has no private key"},
		{"key is none", func(m machine) {
			m.running(ourID, now)
			m.json(KeyPath, keyFile(ourID, ourRegion, "bm90IGEga2V5"))
		}, false, Broken, KeyPath, "is not an RSA key"},
		{"no Region", func(m machine) {
			m.running(ourID, now)
			m.json(KeyPath, keyFile(ourID, "", privateKey()))
		}, false, Broken, KeyPath, "has no Region"},
		{"fingerprint cut", func(m machine) {
			m.running(ourID, now)
			truncated(m, FingerprintPath)
		}, true, Unknown, "lost its fingerprint", FingerprintPath + " cannot be understood"},
		{"fingerprint missing", func(m machine) {
			m.running(ourID, now)
			m.remove(FingerprintPath)
		}, true, Unknown, "lost its fingerprint", FingerprintPath + " is missing"},
		{"side file cut", func(m machine) {
			m.running(ourID, now)
			truncated(m, RegistrationPath)
		}, true, Sound, ourID, RegistrationPath + " cannot be understood"},

		{"clone", func(m machine) {
			m.running(ourID, now)
			m.json(FingerprintPath, fingerprintFile("00000000000000000000000000000001", 40))
		}, true, Clone, "machine-id 00000000000000000000000000000001; this one's is " + machineID, ""},
		{"clone with the comparison switched off", func(m machine) {
			m.running(ourID, now)
			m.json(FingerprintPath, fingerprintFile("00000000000000000000000000000001", -1))
		}, true, Sound, ourID, ""},
		{"the service refuses the fingerprint", func(m machine) {
			m.running(ourID, now.Add(-50*time.Minute))
			logLine(m, now.Add(-time.Minute), "ERROR Retrieve credentials produced error: MachineFingerprintDoesNotMatch: Fingerprint doesn't match")
		}, true, Clone, "MachineFingerprintDoesNotMatch", ""},
		{"deregistered", func(m machine) {
			m.running(ourID, now.Add(-50*time.Minute))
			logLine(m, now.Add(-time.Minute), gone+ourID)
		}, true, Deregistered, "Not existing InstanceId " + ourID, ""},
		{"deregistered, then accepted again", func(m machine) {
			m.running(ourID, now.Add(-50*time.Minute))
			logLine(m, now.Add(-2*time.Minute), gone+ourID)
			logLine(m, now.Add(-time.Minute), "INFO [CredentialRefresher] Credentials ready")
		}, true, Sound, ourID, ""},
		{"another node was deregistered", func(m machine) {
			m.running(ourID, now.Add(-50*time.Minute))
			logLine(m, now.Add(-time.Minute), gone+otherID)
		}, true, Sound, ourID, ""},
		{"refused before this identity was made", func(m machine) {
			m.registered(ourID)
			logLine(m, time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), "ERROR InvalidInstanceId: no such thing")
		}, true, Unknown, "never seen", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			c.make(m)
			i, err := ReadIdentity(m.reader())
			if err != nil {
				t.Fatal(err)
			}
			if i.Registered() != c.registered {
				t.Errorf("Registered() = %v, of %+v", i.Registered(), i)
			}
			if c.damaged == "" && len(i.Damaged) > 0 || c.damaged != "" && (len(i.Damaged) != 1 || !strings.Contains(i.Damaged[0], c.damaged)) {
				t.Errorf("Damaged = %q, want %q", i.Damaged, c.damaged)
			}
			recent, err := ReadRecent(m.reader(), i.InstanceID)
			if err != nil {
				t.Fatal(err)
			}
			unit := host.Unit{Name: UnitName, Loaded: true, Active: "active", Sub: "running"}
			verdict, why := Assess(i, machineID+"\n", unit, recent, now)
			if verdict != c.verdict || !strings.Contains(why, c.says) {
				t.Errorf("Assess = %s: %q; want %s: %q", verdict, why, c.verdict, c.says)
			}
		})
	}
}

func TestReadIdentityFields(t *testing.T) {
	m := newMachine(t)
	retrieved := now.Add(-10 * time.Minute)
	m.running(ourID, retrieved)
	i, err := ReadIdentity(m.reader())
	if err != nil {
		t.Fatal(err)
	}
	want := Identity{
		InstanceID: ourID, Region: ourRegion, HasKey: true,
		KeyCreated: time.Date(2026, 11, 22, 9, 43, 32, 201254278, time.UTC),
		SideID:     ourID, SideRegion: ourRegion,
		Fingerprint: "5661d4d5-f8c3-47cb-9234-12001b839a40", MachineID: machineID, Threshold: 40,
		Runtime: Runtime{
			InstanceID: ourID, IdentityType: "OnPrem", ShareFile: CredentialsPath, CredentialSource: "SSM",
			CredentialsRetrievedAt: retrieved, CredentialsExpiresAt: retrieved.Add(time.Hour),
		},
	}
	if !i.KeyCreated.Equal(want.KeyCreated) {
		t.Errorf("KeyCreated = %v, want %v", i.KeyCreated, want.KeyCreated)
	}
	i.KeyCreated = want.KeyCreated
	if i.Damaged != nil || i.Runtime != want.Runtime {
		t.Errorf("got %+v\nwant %+v", i, want)
	}
	i.Runtime, want.Runtime = Runtime{}, Runtime{}
	if got, want := describe(i), describe(want); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// deniedFiles may not read one path.
type deniedFiles struct {
	host.Files
	path string
}

func (d deniedFiles) ReadFile(path string) ([]byte, error) {
	if path == d.path {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission}
	}
	return d.Files.ReadFile(path)
}

func TestReadIdentityNeedsRoot(t *testing.T) {
	m := newMachine(t)
	m.registered(ourID)
	r := m.reader()
	r.Files = deniedFiles{m.dir, KeyPath}
	i, err := ReadIdentity(r)
	if !failure.Is(err, failure.NotRoot) || describe(i) != describe(Identity{}) {
		t.Errorf("got %+v, %v; want no identity and the code not_root", i, err)
	}
}

func TestUnusableDamageNeverQuotesTheFile(t *testing.T) {
	m := newMachine(t)
	m.json(ManifestPath, manifest())
	for _, text := range []string{`{"privateKey": SECRETSECRET}`, `{"privateKey": 4711}`, `{"privateKey": "SECRETSECRET"`, "SECRETSECRET", ""} {
		m.write(KeyPath, text)
		i, err := ReadIdentity(m.reader())
		if err != nil || len(i.Damaged) != 1 {
			t.Fatalf("%s: Damaged = %q, error %v; want one sentence", text, i.Damaged, err)
		}
		if strings.Contains(i.Damaged[0], "SECRET") || strings.Contains(i.Damaged[0], "4711") {
			t.Errorf("%s: quoted in %q", text, i.Damaged[0])
		}
	}
}

func FuzzReadIdentity(f *testing.F) {
	good := newMachine(f)
	good.running(ourID, now)
	file := func(path string) []byte {
		text, err := good.dir.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	f.Add(file(ManifestPath), file(KeyPath), file(FingerprintPath), file(RegistrationPath), file(RuntimePath))
	f.Add([]byte(`{"RegistrationKey":"../../x"}`), []byte(`{"instanceID":7}`), []byte(`{"hardwareHash":{"machine-id":1}}`), []byte(`[]`), []byte(`{"CredentialsExpiresAt":""}`))
	f.Fuzz(func(t *testing.T, list, key, fingerprint, side, run []byte) {
		m := memoryFiles{ManifestPath: list, KeyPath: key, FingerprintPath: fingerprint, RegistrationPath: side, RuntimePath: run}
		i, err := ReadIdentity(host.Reader{Files: m})
		if err != nil {
			t.Fatalf("whatever the files hold, they can be read: %v", err)
		}
		verdict, why := Assess(i, machineID, host.Unit{}, Recent{}, now)
		if why == "" {
			t.Errorf("%s without a reason", verdict)
		}
		if (verdict == Sound || verdict == Unknown) && !i.Registered() {
			t.Errorf("%s, and not registered: %+v", verdict, i)
		}
	})
}

// memoryFiles is a host with these files.
type memoryFiles map[string][]byte

func (m memoryFiles) missing(path string) error {
	return &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

func (m memoryFiles) ReadFile(path string) ([]byte, error) {
	if text, ok := m[path]; ok {
		return text, nil
	}
	return nil, m.missing(path)
}

func (m memoryFiles) Lstat(path string) (fs.FileInfo, error) {
	if _, ok := m[path]; ok {
		return nil, nil
	}
	return nil, m.missing(path)
}

func (m memoryFiles) Stat(path string) (fs.FileInfo, error)      { return m.Lstat(path) }
func (m memoryFiles) Open(path string) (fs.File, error)          { return nil, m.missing(path) }
func (m memoryFiles) ReadDir(path string) ([]fs.DirEntry, error) { return nil, m.missing(path) }
func (m memoryFiles) Readlink(path string) (string, error)       { return "", m.missing(path) }
func (m memoryFiles) Space(string) (uint64, error)               { return 0, nil }

// A whole identity to which the manifest does not lead is hidden, and a mended manifest shows it again. What is not whole
// stays lost.
func TestMendManifest(t *testing.T) {
	for _, c := range []struct {
		name     string
		manifest string // empty: none
		key      fields
		hidden   string
	}{
		{"none", "", keyFile(ourID, ourRegion, privateKey()), ourID},
		{"cut", `{"RegistrationKey":"/var`, keyFile(ourID, ourRegion, privateKey()), ourID},
		{"null", `null`, keyFile(ourID, ourRegion, privateKey()), ourID},
		{"with something else", `{"Other":"/x"}`, keyFile(ourID, ourRegion, privateKey()), ourID},
		{"without a key", "", keyFile(ourID, ourRegion, ""), ""},
		{"without a Region", "", keyFile(ourID, "", privateKey()), ""},
		{"blanked", "", keyFile("", "", privateKey()), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.running(ourID, now.Add(-time.Minute))
			m.json(KeyPath, c.key)
			m.remove(ManifestPath)
			if c.manifest != "" {
				m.write(ManifestPath, c.manifest)
			}
			i, err := ReadIdentity(m.reader())
			if err != nil || i.Hidden != c.hidden || i.Registered() || i.InstanceID != "" {
				t.Fatalf("%s, %v; want %q hidden", describe(i), err, c.hidden)
			}
			text, err := MendManifest(m.reader())
			if err != nil {
				t.Fatal(err)
			}
			m.write(ManifestPath, string(text))
			i, err = ReadIdentity(m.reader())
			if err != nil || i.Registered() != (c.hidden != "") || i.Hidden != "" {
				t.Errorf("mended: %s, %v", describe(i), err)
			}
			if c.hidden != "" && (i.Fingerprint == "" || len(i.Damaged) > 0) {
				t.Errorf("the mended store is not whole: %s", describe(i))
			}
			if keeps := strings.Contains(string(text), `"Other":"/x"`); keeps != (c.name == "with something else") {
				t.Errorf("the manifest is %s", text)
			}
		})
	}
}
