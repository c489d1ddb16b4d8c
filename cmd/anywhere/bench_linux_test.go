package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// BenchmarkVersion starts the program as a release has it (see the Makefile), and reports the largest resident set and
// the file's size. The kernel counts what was there before exec too, so the set is never less than this test's own,
// which is small.
func BenchmarkVersion(b *testing.B) {
	program := filepath.Join(b.TempDir(), "anywhere")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, said)
	}
	file, err := os.Stat(program)
	if err != nil {
		b.Fatal(err)
	}
	resident := int64(0) // kB
	for b.Loop() {
		version := exec.Command(program, "version")
		if err := version.Run(); err != nil {
			b.Fatal(err)
		}
		resident = max(resident, version.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	b.ReportMetric(float64(resident)/1e3, "max-rss-MB")
	b.ReportMetric(float64(file.Size())/1e6, "binary-MB")
}
