package host

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLogFilesAreTheNewestFirst(t *testing.T) {
	root := t.TempDir()
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for i, name := range []string{"a.log.2.gz", "a.log.1", "other.log", "a.log", "a.log.2026-11-22-09", "a.logs"} {
		file := filepath.Join(root, name)
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		when := at.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "a.log.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := LogFiles(NewDir(root), "/a.log")
	if want := []string{"/a.log", "/a.log.2026-11-22-09", "/a.log.1", "/a.log.2.gz"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := LogFiles(NewDir(root), "/none/a.log"); err == nil {
		t.Error("a folder that is not there has no error")
	}
}

func TestReadEnd(t *testing.T) {
	const text = "first line\nsecond line\nthird line\n"
	root := t.TempDir()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write([]byte(text))
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"plain": []byte(text), "packed.gz": packed.Bytes(), "torn.gz": packed.Bytes()[:20]} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/plain", "/packed.gz"} {
		for most, want := range map[int64]string{100: text, 34: text, 20: "third line\n", 25: "second line\nthird line\n"} {
			got, whole, err := ReadEnd(NewDir(root), name, most)
			if err != nil || string(got) != want || whole != (most >= 34) {
				t.Errorf("%s, %d bytes: %q, %v, %v; want %q", name, most, got, whole, err, want)
			}
		}
	}
	if _, _, err := ReadEnd(NewDir(root), "/torn.gz", 100); err == nil {
		t.Error("a torn archive has no error")
	}
	if _, _, err := ReadEnd(NewDir(root), "/none", 100); err == nil {
		t.Error("a missing file has no error")
	}
}

// A small file that unpacks to more than anybody wants is read to a bound.
func TestReadEndOfABomb(t *testing.T) {
	root := t.TempDir()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	for range 80 {
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "b.gz"), packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, whole, err := ReadEnd(NewDir(root), "/b.gz", 3<<20); err != nil || whole || len(data) > 3<<20 {
		t.Errorf("%d bytes, %v, %v", len(data), whole, err)
	}
}
