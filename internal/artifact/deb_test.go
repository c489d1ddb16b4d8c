package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

var compressors = []string{"", ".gz", ".xz", ".zst"}

func TestControl(t *testing.T) {
	for _, suffix := range compressors {
		plain := newTar(t, []tar.Header{
			{Name: "./", Typeflag: tar.TypeDir}, {Name: "./postinst", Mode: 0o755}, {Name: "./control"},
		}, nil, []byte("#!/bin/sh\n"), controlText("amazon-ecs-init", "1.105.1-1", "amd64"))
		deb := newArchive(member{"debian-binary", []byte("2.0\n")}, member{"control.tar" + suffix, pack(t, suffix, plain)})
		name, version, arch, err := Control(bytes.NewReader(deb))
		if err != nil || name != "amazon-ecs-init" || version != "1.105.1-1" || arch != "amd64" {
			t.Errorf("%q: %s %s %s, %v", suffix, name, version, arch, err)
		}
		for cutAt := range len(deb) / 2 { // the control file is whole before the rest is
			if cutAt%31 == 0 {
				if _, _, _, err := Control(bytes.NewReader(deb[:cutAt])); !failure.Is(err, failure.ArtifactCorrupt) {
					t.Errorf("%q cut at %d: %v", suffix, cutAt, err)
				}
			}
		}
	}
}

func TestControlRefuses(t *testing.T) {
	control := func(text string) []byte { return newTar(t, []tar.Header{{Name: "control"}}, []byte(text)) }
	binary := member{"debian-binary", []byte("2.0\n")}
	for name, deb := range map[string][]byte{
		"page":           []byte("<?xml version='1.0'?>"),
		"empty":          nil,
		"other archive":  newArchive(member{"hello.o", []byte("x")}),
		"no control":     newArchive(binary, member{"data.tar", newTar(t, nil)}),
		"no version":     newArchive(binary, member{"control.tar", control("Package: a\nArchitecture: b\n")}),
		"second part":    newArchive(binary, member{"control.tar", control("Package: a\n\nVersion: 1\nArchitecture: b\n")}),
		"unknown suffix": newArchive(binary, member{"control.tar.lz4", control("")}),
		"negative size":  append(newArchive(binary), memberHeader("control.tar", -5)...),
		"huge file":      newArchive(binary, member{"control.tar", control(strings.Repeat("x", maxFields+1))}),
		"bomb": newArchive(binary, member{"control.tar.gz", pack(t, ".gz",
			newTar(t, []tar.Header{{Name: "big"}}, make([]byte, maxControl+1)))}),
		"xz window of 4 GiB": newArchive(binary,
			member{"control.tar.xz", widened(t, pack(t, ".xz", control("Package: a\n")))}),
	} {
		if got, _, _, err := Control(bytes.NewReader(deb)); !failure.Is(err, failure.ArtifactCorrupt) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// widened makes an xz stream's first block ask for the largest window.
func widened(t *testing.T, packed []byte) []byte {
	t.Helper()
	at := bytes.Index(packed, []byte{0x21, 0x01})
	if at < 0 {
		t.Fatal("no LZMA2 filter")
	}
	packed[at+2] = 40
	return packed
}

func TestExtract(t *testing.T) {
	worker := bytes.Repeat([]byte("agent "), 1<<16)
	plain := newTar(t, []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir},
		{Name: "./usr/bin/amazon-ssm-agent", Mode: 0o755},
		{Name: "./usr/bin/link", Typeflag: tar.TypeSymlink, Linkname: "/usr/bin/amazon-ssm-agent"},
		{Name: "./etc/amazon/ssm/seelog.xml.template", Mode: 0o644},
	}, nil, worker, nil, []byte("<seelog/>"))
	for _, suffix := range compressors {
		t.Run("tar"+suffix, func(t *testing.T) {
			files, path := stored(t, newArchive(member{"debian-binary", []byte("2.0\n")},
				member{"control.tar", newTar(t, nil)}, member{"data.tar" + suffix, pack(t, suffix, plain)}))
			got := map[string]string{}
			err := Extract(t.Context(), files, path, func(f File) error {
				body, err := io.ReadAll(f.Body)
				got[f.Name] = fmt.Sprintf("%v %d %d", f.Mode, f.Size, len(body))
				return err
			})
			want := map[string]string{
				"usr/bin/amazon-ssm-agent":           fmt.Sprintf("-rwxr-xr-x %d %d", len(worker), len(worker)),
				"etc/amazon/ssm/seelog.xml.template": "-rw-r--r-- 9 9",
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%v, %v", got, err)
			}
			seen := 0
			err = Extract(t.Context(), files, path, func(File) error { seen++; return fs.SkipAll })
			if err != nil || seen != 1 {
				t.Errorf("after SkipAll: %d files, %v", seen, err)
			}
			mine := errors.New("disk full")
			if err := Extract(t.Context(), files, path, func(File) error { return mine }); err != mine {
				t.Errorf("the visitor's error became %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := Extract(ctx, files, path, func(File) error { return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}

func TestExtractRefuses(t *testing.T) {
	binary := member{"debian-binary", []byte("2.0\n")}
	for _, name := range []string{"/etc/passwd", "../etc/passwd", "./a/../../etc/passwd", "..", `..\passwd`} {
		files, path := stored(t, newArchive(binary, member{"data.tar", newTar(t, []tar.Header{{Name: name}}, []byte("x"))}))
		visited := false
		err := Extract(t.Context(), files, path, func(File) error { visited = true; return nil })
		if !failure.Is(err, failure.ArtifactCorrupt) || visited {
			t.Errorf("%s: %v, visited %v", name, err, visited)
		}
	}
	data := pack(t, ".gz", newTar(t, []tar.Header{{Name: "a"}}, make([]byte, 5000)))
	whole := newArchive(binary, member{"data.tar.gz", data})
	files, path := stored(t, whole[:len(whole)-30])
	err := Extract(t.Context(), files, path, func(f File) error { _, err := io.Copy(io.Discard, f.Body); return err })
	if err == nil {
		t.Error("a cut package was unpacked")
	}
}

func stored(t *testing.T, deb []byte) (host.Files, string) {
	t.Helper()
	disk := host.NewDir(t.TempDir())
	const path = "/packages/it.deb"
	if err := disk.WriteFile(path, bytes.NewReader(deb), 0o600, ownerZero); err != nil {
		t.Fatal(err)
	}
	return disk, path
}

func FuzzControl(f *testing.F) {
	f.Add(newDeb(f, "amazon-ecs-init", "1.105.1-1", "amd64", 10))
	for _, suffix := range compressors {
		plain := newTar(f, []tar.Header{{Name: "./control"}}, controlText("a", "1", "amd64"))
		f.Add(newArchive(member{"debian-binary", []byte("2.0\n")}, member{"control.tar" + suffix, pack(f, suffix, plain)}))
	}
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, deb []byte) {
		name, version, arch, err := Control(bytes.NewReader(deb))
		if (err == nil) != (name != "" && version != "" && arch != "") {
			t.Errorf("%q %q %q, %v", name, version, arch, err)
		}
		if err != nil && !failure.Is(err, failure.ArtifactCorrupt) {
			t.Errorf("not coded: %v", err)
		}
	})
}
