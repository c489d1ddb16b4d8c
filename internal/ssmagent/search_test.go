package ssmagent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func stampedLine(at time.Time, text string) string {
	return at.Format(stampForm+".0000 ") + text + "\n"
}

// What is newer than the last success counts as present, what is older is over; the message channel has no such success.
func TestSearchLogs(t *testing.T) {
	at := func(minutes int, text string) string {
		return stampedLine(now.Add(time.Duration(minutes)*time.Minute), text)
	}
	const (
		refused = refreshFails + "InvalidInstanceId: Not existing InstanceId"
		ready   = "INFO [CredentialRefresher] Credentials ready"
		channel = "ERROR [MGSInteractor] Failed to get controlchannel token, error: dial tcp: i/o timeout"
	)
	for _, test := range []struct {
		name         string
		log, rotated string
		code         failure.Code
		count        int
		over         bool
	}{
		{name: "now", log: at(-9, ready) + at(-8, refused) + at(-5, refused), code: failure.NodeUnknown, count: 2},
		{name: "over", log: at(-9, refused) + at(-8, refused) + at(-5, ready), code: failure.NodeUnknown, count: 2, over: true},
		{name: "over, and again", log: at(-9, refused) + at(-7, ready) + at(-5, refused), code: failure.NodeUnknown, count: 1},
		{name: "begun in the rotated log", log: at(-5, refused), rotated: at(-90, refused), code: failure.NodeUnknown, count: 2},
		{name: "the channel, whatever the credentials", log: at(-30, channel) + at(-5, ready), code: failure.Network, count: 1},
		{name: "the channel, long ago", log: at(-90, channel), code: failure.Network, count: 1, over: true},
		{name: "harmless", log: at(-9, "INFO InvalidInstanceId is a word of an INFO line")},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			m.write(LogPath, test.log)
			if test.rotated != "" {
				m.write(LogPath+".1", test.rotated)
			}
			m.write(ErrorLogPath, test.log) // repeats
			got, searched := SearchLogs(m.reader(), 1<<20)
			for _, s := range searched {
				if s.Err != nil || !s.Whole {
					t.Errorf("%+v", s)
				}
			}
			if test.code == "" {
				if len(got) != 0 {
					t.Errorf("%+v", got)
				}
				return
			}
			if len(got) != 1 || Failures[got[0].Row].Code != test.code || got[0].Count != test.count || got[0].Over.IsZero() == test.over || got[0].Line == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The newest megabytes of a log that is nothing but errors are searched in no time.
func BenchmarkSearchLogs(b *testing.B) {
	m := newMachine(b)
	var text strings.Builder
	for i := 0; text.Len() < 2<<20; i++ {
		text.WriteString(stampedLine(now.Add(-time.Duration(i)*time.Second), fmt.Sprintf("ERROR [ssm-agent-worker] something nobody knows, number %d, in a line of some length: %s", i, strings.Repeat("x", 90))))
	}
	m.write(LogPath, text.String())
	for b.Loop() {
		SearchLogs(m.reader(), 2<<20)
	}
}
