package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

// roundsTime is how long a test goes round. BenchmarkFiftyUpgrades goes round fifty times, however long that takes.
const roundsTime = 20 * time.Second

// leastRounds is how often it does however busy the machine is.
const leastRounds = 5

// remains is what rounds of upgrades may leave something in.
type remains struct {
	tree                    lab.Tree
	packages, images, units string
}

func remainsOf(h *lab.Machine) remains {
	return remains{
		tree:     h.Tree(treeOf...),
		packages: h.MustShell("dpkg -l; dpkg --audit; apt-mark showhold"),
		images:   h.MustShell("docker images -a --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}}' | sort; docker ps -aq | wc -l; docker volume ls -q"),
		units:    h.MustShell("systemctl list-unit-files --no-legend --no-pager | grep -v ' transient '; systemctl list-units --all --plain --no-legend --no-pager 'anywhere*' 'ecs*' 'amazon*'"),
	}
}

// same compares, but for the agents' own state and the last operations' journals, of which as many are kept as are kept.
func (before remains) same(t testing.TB, after remains) {
	t.Helper()
	if before.packages != after.packages {
		t.Errorf("packages before:\n%s\nafter:\n%s", before.packages, after.packages)
	}
	if before.images != after.images {
		t.Errorf("images and containers before:\n%s\nafter:\n%s", before.images, after.images)
	}
	if before.units != after.units {
		t.Errorf("units before:\n%s\nafter:\n%s", before.units, after.units)
	}
	journals := func(tree lab.Tree) (n int) {
		for name := range tree {
			if strings.HasPrefix(name, "/var/lib/anywhere/journal/") {
				n++
			}
		}
		return n
	}
	if was, is := journals(before.tree), journals(after.tree); is > max(was, keptJournals) {
		t.Errorf("%d journals are kept, before %d", is, was)
	}
	left := slices.DeleteFunc(lab.Diff(before.tree, after.tree), func(line string) bool {
		name := strings.Fields(line)[1]
		return ofOneHost(name) || strings.HasPrefix(line, "~ /var/lib/anywhere") || strings.HasPrefix(line, "~ /var/lib/ecs/data") ||
			strings.HasPrefix(line, "~ /var/cache/ecs")
	})
	if len(left) > 0 {
		t.Errorf("left is\n%s", strings.Join(left, "\n"))
	}
}

// keptJournals is how many journals of operations that are over anywhere keeps.
const keptJournals = 10

// round upgrades both agents and goes back.
func (s *site) round(h *lab.Machine) {
	s.t.Helper()
	d := s.upgraded(h.Run(s.upgrade("--watch-time", "500ms")))
	back := s.upgraded(h.Run(lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--watch-time", "500ms"}}))
	if d.RC != 0 || back.RC != 0 || back.Result.ECSAgent.Installed != ecsVersion || back.Result.SSMAgent.Installed != ssmVersion+"-1" {
		s.t.Fatalf("a round: %+v %+v, %+v %+v", d, d.Error, back, back.Error)
	}
}

// Upgrades and rollbacks in a row leave no image, package, file or unit behind. The first round is not compared: it leaves
// the packages in the cache.
func TestUpgradesInARow(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	h, first, task := s.joined()
	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	s.round(h)
	before, rounds := remainsOf(h), 0
	for begun := time.Now(); rounds < leastRounds || rounds < 50 && time.Since(begun) < roundsTime; rounds++ {
		s.round(h)
	}
	t.Logf("%d rounds", rounds)
	before.same(t, remainsOf(h))
	taskRuns(t, h, task)
	disarmed(t, h)
	s.settledIn(h)
	s.agree(first)
}

// BenchmarkFiftyUpgrades is TestUpgradesInARow with ten rounds an operation: make bench-e2e goes round fifty times.
func BenchmarkFiftyUpgrades(b *testing.B) {
	s := newSite(b, packages.Options{}, packages.Options{})
	h, first, task := s.joined()
	s.publish(&packages.Options{Version: nextSSM}, &packages.Options{Version: nextECS})
	s.round(h)
	before := remainsOf(h)
	rounds := 0
	for b.Loop() {
		for range 10 {
			s.round(h)
			rounds++
		}
	}
	b.ReportMetric(float64(rounds), "rounds")
	before.same(b, remainsOf(h))
	if now := h.MustShell(taskState); now != task {
		b.Errorf("the task's container was %s and is %s", task, now)
	}
	s.settledIn(h)
	s.agree(first)
}

// gapOf is how long AWS sees no ECS agent connected while something is done.
func (s *site) gapOf(do func()) time.Duration {
	s.t.Helper()
	connected := func() bool {
		return slices.ContainsFunc(s.aws.Instances(), func(i emulator.Instance) bool { return i.Connected })
	}
	await(s.t, "the agent is connected", connected)
	gone, over := make(chan time.Duration, 1), make(chan struct{})
	go func() {
		var from time.Time
		for {
			switch now := connected(); {
			case from.IsZero() && !now:
				from = time.Now()
			case !from.IsZero() && now:
				gone <- time.Since(from)
				return
			}
			select {
			case <-over:
				if from.IsZero() { // it was never gone
					gone <- 0
					return
				}
			case <-time.After(time.Millisecond):
			}
		}
	}()
	do()
	await(s.t, "the agent is connected again", connected)
	close(over)
	return <-gone
}

// BenchmarkUpgradeGap is how long AWS sees no ECS agent connected in an upgrade, beside what "systemctl restart ecs" alone
// costs on the same host, one after the other.
func BenchmarkUpgradeGap(b *testing.B) {
	s := newSite(b, packages.Options{}, packages.Options{Ballast: ecsBallast})
	h, _, _ := s.joined()
	s.publish(nil, &packages.Options{Version: nextECS, Ballast: ecsBallast})
	var restarts, upgrades, told []time.Duration
	for b.Loop() {
		restarts = append(restarts, s.gapOf(func() { h.MustShell("systemctl restart ecs") }))
		for _, cmd := range []lab.Cmd{s.upgrade("--only", "ecs"), back} {
			upgrades = append(upgrades, s.gapOf(func() {
				d := s.upgraded(h.Run(cmd))
				if d.RC != 0 {
					b.Fatalf("%+v %+v", d, d.Error)
				}
				told = append(told, took(d.Result.DisconnectedMs))
			}))
		}
	}
	median := func(all []time.Duration) float64 { return slices.Sorted(slices.Values(all))[len(all)/2].Seconds() }
	b.Logf("restarts %v, upgrades %v, by their own word %v", restarts, upgrades, told)
	b.ReportMetric(median(restarts), "restart-s")
	b.ReportMetric(median(upgrades), "upgrade-s")
	ratio := median(upgrades) / median(restarts)
	b.ReportMetric(ratio, "ratio")
	if ratio > 1.5 {
		b.Errorf("no agent is connected for %.2f times what a restart costs", ratio)
	}
}
