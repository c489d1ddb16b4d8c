package lifecycle

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func emptyRecord() Record {
	return Record{Schema: 1, Packages: map[string]OwnedPackage{}, Files: []string{}, Started: map[string]string{}}
}

func TestReadRecord(t *testing.T) {
	whole := Record{
		Schema: 1, Program: "1.2.3", Packages: map[string]OwnedPackage{"p": {Version: "1", SHA256: "aa", Key: "bb"}}, Files: []string{"/f"},
		Registration: &OwnedRegistration{nodeID, "a", region, account, "shop", "run-1"}, Started: map[string]string{"u": "d"},
	}
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, text string
		want       Record
		code       failure.Code
	}{
		{"missing", "", emptyRecord(), ""},
		{"whole", string(text), whole, ""},
		{"nothing in it", `{"schema":1}`, emptyRecord(), ""},
		{"nulls", `{"schema":1,"packages":null,"files":null,"started":null,"registration":null}`, emptyRecord(), ""},
		{"newer", `{"schema":2,"packages":[]}`, emptyRecord(), failure.NewerRecord},
		{"garbage", `{"schema":1,`, emptyRecord(), failure.RecordUnreadable},
		{"cut to nothing", "\n", emptyRecord(), failure.RecordUnreadable},
		{"something else", `{"hello":"world"}`, emptyRecord(), failure.RecordUnreadable},
		{"another type", `{"schema":1,"files":"/f"}`, emptyRecord(), failure.RecordUnreadable},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			if test.text != "" {
				m.write(recordPath, test.text)
			}
			got, err := readRecord(m.host().Reader)
			if (err == nil) != (test.code == "") || err != nil && failure.Of(err).Code != test.code {
				t.Errorf("%v; want %q", err, test.code)
			}
			if err != nil && failure.Of(err).Advice() == "" {
				t.Error("no remedy")
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

// What is written is read again, on top of what was there, with mode 0600; the same again writes nothing.
func TestUpdateRecord(t *testing.T) {
	m := newMachine(t)
	m.write(recordPath, `{"schema":1,"program":"1.0.0","packages":null,"files":["/f"],"started":null}`)
	r := m.registration(RegisterRequest{})
	err := m.within(t.Context(), r, func(ctx context.Context, tx *engine.Tx) error {
		for range 2 {
			if err := r.own(ctx, tx, func(record *Record) { record.Started["ecs.service"] = "digest" }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := readRecord(m.host().Reader)
	want := emptyRecord()
	want.Program, want.Files, want.Started = "1.2.3", []string{"/f"}, map[string]string{"ecs.service": "digest"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	info, err := os.Stat(filepath.Join(m.root, recordPath))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if strings.Contains(recordText(t, m), "null") {
		t.Error("the record has a null in it")
	}
}

func recordText(t *testing.T, m *machine) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.root, recordPath))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A file that was there before is somebody's; one that is about to be made is ours, once.
func TestAddFile(t *testing.T) {
	m := newMachine(t)
	m.write("/etc/ecs/ecs.config", "")
	record := emptyRecord()
	for range 2 {
		record.addFile("/etc/ecs/ecs.config", m.host().Reader)
		record.addFile("/etc/amazon/ssm/amazon-ssm-agent.json", m.host().Reader)
	}
	if diff := cmp.Diff([]string{"/etc/amazon/ssm/amazon-ssm-agent.json"}, record.Files); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
}

// Only what was added to somebody's file is anywhere's: not what they had, nor what of theirs was changed.
func TestSettingsThatAreAdded(t *testing.T) {
	const file = "/etc/ecs/ecs.config"
	for _, test := range []struct {
		name, old, text string
		record          Record
		want            map[string]string
	}{
		{"added to theirs", "A=1\n", "A=1\nB=2\nC=x=y\n", Record{}, map[string]string{"B": "2", "C": "x=y"}},
		{"theirs is changed", "A=1\n", "A=2\n", Record{}, nil},
		{"ours is changed", "A=1\nB=2\n", "A=1\nB=3\n", Record{Settings: map[string]map[string]string{file: {"B": "2"}}}, map[string]string{"B": "3"}},
		{"the file is ours", "", "A=1\n", Record{Files: []string{file}}, nil},
		{"comments", "# A=1\n", "# A=1\nB=2\n", Record{}, map[string]string{"B": "2"}},
		{"nothing", "A=1\n", "A=1\n", Record{}, nil},
	} {
		record := test.record
		record.addSettings(file, []byte(test.old), []byte(test.text))
		if got := record.Settings[file]; !maps.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
