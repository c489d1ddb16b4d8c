package artifact

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// rpmHeaderOf makes a header of strings.
func rpmHeaderOf(fields map[uint32]string) []byte {
	var index, store bytes.Buffer
	for tag, value := range fields {
		for _, n := range []uint32{tag, typeString, uint32(store.Len()), 1} {
			_ = binary.Write(&index, binary.BigEndian, n)
		}
		store.WriteString(value + "\x00")
	}
	out := []byte(rpmHeader + "\x00\x00\x00\x00")
	out = binary.BigEndian.AppendUint32(out, uint32(len(fields)))
	out = binary.BigEndian.AppendUint32(out, uint32(store.Len()))
	return append(append(out, index.Bytes()...), store.Bytes()...)
}

// newRPM makes an rpm whose payload is packed as compressor says.
func newRPM(name, version, release, arch, compressor string, payload []byte) []byte {
	out := append([]byte(rpmMagic), make([]byte, rpmLead-4)...)
	signatures := rpmHeaderOf(map[uint32]string{1: "odd"})
	out = append(out, signatures...)
	out = append(out, make([]byte, -(len(signatures)-16)&7)...)
	fields := map[uint32]string{tagName: name, tagVersion: version, tagRelease: release, tagArch: arch, tagFormat: "cpio"}
	if compressor != "" {
		fields[tagCompressor] = compressor
	}
	return append(append(out, rpmHeaderOf(fields)...), payload...)
}

// entryOf is an entry of a cpio archive.
func entryOf(name string, mode int, body string) string {
	name += "\x00"
	head := fmt.Sprintf("%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", cpioMagic,
		1, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(name), 0)
	pad := func(text string) string { return text + string(make([]byte, -len(text)&3)) }
	return pad(head+name) + pad(body)
}

func TestRPM(t *testing.T) {
	whole := entryOf("./usr", 0o40755, "") + entryOf("./usr/bin/agent", 0o100755, "program") +
		entryOf("./usr/bin/link", 0o120777, "agent") + entryOf("/etc/agent.conf", 0o100640, "x") + entryOf(cpioEnd, 0, "")
	for compressor, suffix := range map[string]string{"": ".gz", "gzip": ".gz", "xz": ".xz", "zstd": ".zst"} {
		raw := newRPM("agent", "1.2.3", "1", "aarch64", compressor, pack(t, suffix, []byte(whole)))
		name, version, arch, err := Identify(RPM, bytes.NewReader(raw))
		if err != nil || name != "agent" || version != "1.2.3-1" || arch != "arm64" {
			t.Errorf("%q: %s %s %s, %v", compressor, name, version, arch, err)
		}
		for at := 0; at < len(raw)-len(pack(t, suffix, []byte(whole))); at += 7 {
			if _, _, _, err := Identify(RPM, bytes.NewReader(raw[:at])); !failure.Is(err, failure.ArtifactCorrupt) {
				t.Errorf("cut at %d: %v", at, err)
			}
		}
		if got, err := extracted(t, raw); err != nil || got != "usr/bin/agent 755 program\netc/agent.conf 640 x\n" {
			t.Errorf("%q: %q, %v", compressor, got, err)
		}
		if _, err := extracted(t, raw[:len(raw)-len(pack(t, suffix, []byte(whole)))/2]); !failure.Is(err, failure.ArtifactCorrupt) {
			t.Errorf("%q, cut: %v", compressor, err)
		}
	}
	for what, payload := range map[string]string{
		"a name that leads out": entryOf("./../etc/passwd", 0o100644, "x"), "no end": entryOf("./a", 0o100644, "x"),
		"no number": cpioMagic + "zzzzzzzz" + string(make([]byte, 200)), "another format": "070707" + string(make([]byte, 200)),
		"more than there is": entryOf("./a", 0o100644, "x")[:100], "no name": entryOf("./a", 0o100644, "x")[:94] + "00000000" + string(make([]byte, 100)),
	} {
		if _, err := extracted(t, newRPM("a", "1", "1", "x86_64", "gzip", pack(t, ".gz", []byte(payload)))); !failure.Is(err, failure.ArtifactCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := extracted(t, newRPM("a", "1", "1", "x86_64", "lzma", nil)); !failure.Is(err, failure.ArtifactCorrupt) {
		t.Errorf("a compressor that is not known: %v", err)
	}
	huge := newRPM("a", "1", "1", "x86_64", "", nil)
	binary.BigEndian.PutUint32(huge[rpmLead+8:], 1<<30)
	if _, _, _, err := Identify(RPM, bytes.NewReader(huge)); !failure.Is(err, failure.ArtifactCorrupt) {
		t.Errorf("a header of 16 GB: %v", err)
	}
	if _, _, _, err := Identify(RPM, bytes.NewReader(newRPM("a", "", "1", "x86_64", "", nil))); !failure.Is(err, failure.ArtifactCorrupt) {
		t.Errorf("no version: %v", err)
	}
}

// extracted is what Extract gives of a package.
func extracted(t *testing.T, raw []byte) (string, error) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "p.rpm")
	if err := os.WriteFile(at, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Extract(context.Background(), host.NewDir("/"), at, func(f File) error {
		body, err := io.ReadAll(f.Body)
		fmt.Fprintf(&out, "%s %o %s\n", f.Name, f.Mode, body)
		return err
	})
	return out.String(), err
}
