package engine

import "testing"

// A child is written down before it starts and once more when its pid is known. A run that is killed in between leaves
// the first line only, and that is what the next run looks for.
func TestAChildIsKnownBeforeItsPID(t *testing.T) {
	const head = `{"anywhereJournal":1,"verb":"v","key":"k","run":"r","program":"p","pins":{},"started":"2026-11-22T12:00:00Z"}` + "\n"
	line := func(pid string) string {
		return `{"is":"child","at":"2026-11-22T12:00:00Z","step":"s","child":{"pid":` + pid + `,"started":1,"argv":["dpkg","-i"]}}` + "\n"
	}
	for _, test := range []struct {
		lines string
		pids  []int
	}{
		{line("0"), []int{0}},
		{line("0") + line("7"), []int{7}},
		{line("0") + line("7") + line("0") + line("8"), []int{7, 8}},
		{line("7") + line("0"), []int{7, 0}},
	} {
		s, _, err := parse([]byte(head + test.lines))
		if err != nil {
			t.Fatal(err)
		}
		var pids []int
		for _, c := range s.children {
			pids = append(pids, c.PID)
		}
		if len(pids) != len(test.pids) {
			t.Fatalf("%s: %v", test.lines, pids)
		}
		for i := range pids {
			if pids[i] != test.pids[i] {
				t.Errorf("%s: %v", test.lines, pids)
			}
		}
	}
}
