package ssmagent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadProcess(t *testing.T) {
	const start = "2026-11-22 11:00:00.0000 INFO [amazon-ssm-agent] amazon-ssm-agent - v"
	for name, test := range map[string]struct {
		program, log string
		pid          int
		want         Process
	}{
		"stopped":            {},
		"runs":               {"/usr/bin/amazon-ssm-agent", start + "3.3.4108.0\nx\n", 42, Process{Version: "3.3.4108.0"}},
		"started twice":      {"/usr/bin/amazon-ssm-agent", start + "3.3.987.0\n" + start + "3.3.4108.0\n", 42, Process{Version: "3.3.4108.0"}},
		"replaced":           {"/usr/bin/amazon-ssm-agent (deleted)", start + "3.3.987.0\n", 42, Process{Replaced: true, Version: "3.3.987.0"}},
		"an old start":       {"/usr/bin/amazon-ssm-agent", start + "3.3.987.0\n" + strings.Repeat("2026-11-22 12:00:00 INFO x\n", 30_000), 42, Process{}},
		"gone in the moment": {"", "", 43, Process{}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if test.program != "" {
				if err := os.MkdirAll(filepath.Join(m.root, "proc/42"), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(test.program, filepath.Join(m.root, "proc/42/exe")); err != nil {
					t.Fatal(err)
				}
			}
			if test.log != "" {
				m.write(LogPath, test.log)
			}
			if got, err := ReadProcess(m.reader(), test.pid); err != nil || got != test.want {
				t.Errorf("%+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}
