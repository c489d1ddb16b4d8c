package ecsagent

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestSearchLogs(t *testing.T) {
	const missing = "Cluster not found."
	for _, test := range []struct {
		name  string
		files map[string]string
		code  failure.Code
		count int
		over  bool
		file  string
	}{
		{name: "now", files: map[string]string{LogPath: at(1, missing) + at(9, missing)}, code: failure.ClusterNotFound, count: 2, file: LogPath},
		{name: "over", files: map[string]string{LogPath: at(1, missing) + at(9, saysRegistered)}, code: failure.ClusterNotFound, count: 1, over: true, file: LogPath},
		{name: "over, and again", files: map[string]string{LogPath: at(1, missing) + at(5, saysRegistered) + at(9, missing)},
			code: failure.ClusterNotFound, count: 1, file: LogPath},
		{name: "in what was rolled over", files: map[string]string{LogPath: at(60, "x"), LogPath + ".3": at(1, missing)},
			code: failure.ClusterNotFound, count: 1, file: LogPath + ".3"},
		{name: "ended by the agent, told by ecs-init", code: failure.AgentCrashLoop, count: 1, over: true, file: InitLogPath,
			files: map[string]string{InitLogPath: at(1, "Agent exited with code 1"), LogPath: at(2, saysRegistered)}},
		{name: "nothing", files: map[string]string{LogPath: at(1, saysRegistered)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, searched := SearchLogs(machine(t, test.files), 1<<20)
			if len(searched) != len(test.files) {
				t.Errorf("searched %+v", searched)
			}
			if test.code == "" {
				if len(got) != 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || Failures[got[0].Row].Code != test.code || got[0].Count != test.count || got[0].Over.IsZero() == test.over || got[0].File != test.file {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The bound is for the log and what it was rolled over to together, and the newest is read first.
func TestSearchLogsIsBounded(t *testing.T) {
	r := machine(t, map[string]string{LogPath: at(9, strings.Repeat("x", 900)), LogPath + ".1": at(1, "Cluster not found.")})
	if got, searched := SearchLogs(r, 500); len(got) != 0 || len(searched) != 1 || searched[0].Whole {
		t.Errorf("%+v %+v", got, searched)
	}
}

// The newest megabytes of a log are searched in no time.
func BenchmarkSearchLogs(b *testing.B) {
	var text strings.Builder
	for i := 0; text.Len() < 8<<20; i++ {
		text.WriteString(at(i, "something that is of no interest to anybody, in a line of ordinary length as they are "+strings.Repeat("x", 50)))
	}
	r := machine(b, map[string]string{LogPath: text.String()})
	for b.Loop() {
		SearchLogs(r, 8<<20)
	}
}
