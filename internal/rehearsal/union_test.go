package rehearsal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

const openJournal = "var/lib/anywhere/journal/open.jsonl"

// apart are the commands that an unfinished operation on the host is nothing to: they change no host, or they are the ways
// out. Every other command of the tree is held to what the contract says of it.
var apart = []string{
	"activation create", "activation delete", "activation list", "completion", "config show", "doctor", "fleet", "help",
	"mirror", "operation abandon", "operation show", "platforms", "preflight", "rehearse", "role", "rollback", "status",
	"userdata", "version", "emulator",
}

// needs is what a command is not to be typed without.
var needs = map[string][]string{
	"deregister": {"--yes"},
	"move":       {"--cluster", target, "--yes"},
}

// changers are the command lines of all commands that change a host, as they are typed on one that is registered.
func changers(t *testing.T) map[string]line {
	t.Helper()
	all := map[string]line{}
	var walk func(cmd *cobra.Command, path string)
	walk = func(cmd *cobra.Command, path string) {
		if slices.Contains(apart, path) || cmd.Hidden {
			return
		}
		if cmd.HasSubCommands() {
			for _, sub := range cmd.Commands() {
				walk(sub, strings.TrimSpace(path+" "+sub.Name()))
			}
			return
		}
		all[path] = line{args: append(strings.Fields(path), needs[path]...), operator: true}
	}
	env, _, _ := world()
	walk(cli.New(env), "")
	for _, name := range []string{"register", "adopt"} {
		if _, there := all[name]; !there {
			t.Fatalf("%s is not among the commands that change a host: %v", name, all)
		}
	}
	return all
}

// A command of the bad day that looks without a readable record, and changes a host only when it is told to.
var fixer = line{args: []string{"doctor", "--fix", "--yes"}, operator: true}

// has reports whether the command of a line is built, and has a flag.
func has(t *testing.T, l line, flag string) bool {
	t.Helper()
	env, _, _ := world()
	cmd, _, err := cli.New(env).Find(l.args[:1])
	return err == nil && cmd.HasParent() && cmd.Flags().Lookup(flag) != nil
}

// begun leaves an operation half-way, as a killed run of that verb would.
func (s *stage) begun(t *testing.T, verb, key string, committed bool) {
	t.Helper()
	e := engine.Engine{
		Host: s.machine.host(), Dir: lifecycle.DataDir, RunID: "run-0", Version: "test",
		Kinds: map[string]engine.Kind{"test": {Undo: func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil }}},
	}
	done := false
	broken := errors.New("broken")
	pins := map[string]string{"region": region, "account": account, "cluster": cluster, "node": s.aws.Nodes()[0].ID}
	plan := engine.Plan{Verb: verb, Key: key, Pins: pins, Steps: []engine.Step{
		{
			ID: "one", Title: "The first step",
			Observe: func(context.Context, host.Reader) (engine.Obs, error) {
				if done {
					return engine.Obs{State: engine.OK}, nil
				}
				return engine.Obs{State: engine.Pending}, nil
			},
			Change: func(ctx context.Context, tx *engine.Tx) error {
				done = true
				return tx.WriteFile(ctx, "/etc/halfway", strings.NewReader("x"), 0o600)
			},
		},
		{
			ID: "two", Title: "The second step",
			Observe: func(context.Context, host.Reader) (engine.Obs, error) { return engine.Obs{State: engine.Pending}, nil },
			Change:  func(context.Context, *engine.Tx) error { return broken },
		},
	}}
	if committed {
		plan.Commit = "one"
	}
	if _, err := e.Apply(t.Context(), plan, engine.Options{NoRollback: true}); !errors.Is(err, broken) {
		t.Fatal(err)
	}
}

// clear takes away what begun, or a test, has left of an operation.
func (s *stage) clear(t *testing.T) {
	t.Helper()
	for _, name := range []string{openJournal, "etc/halfway"} {
		if err := os.Remove(filepath.Join(s.machine.root, name)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

// Whatever is unfinished or cannot be read on a host, every command that would change it is refused with what to type, before
// anything is touched. The commands are those of the tree: a new one is in the table.
func TestUnfinishedIsRefusedByAll(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	record := s.read(t, recordFile)
	verbs := []string{"register", "adopt", "move", "deregister", "drain", "activate", "upgrade"}
	all := changers(t)
	if has(t, fixer, "fix") {
		all["doctor"] = fixer
	}
	for name, l := range all {
		t.Run(name, func(t *testing.T) {
			same := func(t *testing.T, code, message string, remedy ...string) {
				t.Helper()
				journal, _ := os.ReadFile(filepath.Join(s.machine.root, openJournal))
				s.refuses(t, l, 12, code, message, remedy[0])
				if has(t, l, "dry-run") {
					s.refuses(t, l, 12, code, message, remedy[len(remedy)-1], "--dry-run")
				}
				if now, _ := os.ReadFile(filepath.Join(s.machine.root, openJournal)); string(now) != string(journal) {
					t.Errorf("the journal is\n%s\nand was\n%s", now, journal)
				}
			}
			for _, verb := range verbs {
				if verb == name {
					continue
				}
				s.begun(t, verb, "key", false)
				same(t, "operation_unfinished", verb+" was begun at ", "the same anywhere "+verb+" command", "anywhere rollback")
				s.clear(t)
			}
			other := "move"
			if name == other {
				other = "register"
			}
			s.begun(t, other, "key", true)
			same(t, "operation_unfinished", other+" was begun at ", "the same anywhere "+other+" command", "past its point of no return")
			s.clear(t)

			s.begun(t, name, "another key", false)
			same(t, "operation_unfinished", "another "+name+", with other arguments", "the same anywhere "+name+" command", "anywhere rollback")
			s.clear(t)

			s.write(t, openJournal, "rubbish\n")
			same(t, "journal_unreadable", "open.jsonl", "anywhere operation abandon")
			s.write(t, openJournal, `{"anywhereJournal":99,"verb":"`+name+`","run":"r","program":"99.0.0","plan":[]}`+"\n")
			same(t, "newer_record", "open.jsonl", "anywhere 99.0.0 or a newer one", "anywhere operation abandon")
			s.clear(t)
			s.begun(t, name, "key", false)
			s.write(t, openJournal, strings.Replace(s.read(t, openJournal), `"program":"test"`, `"program":"98.7"`, 1)+`{"is":"dance"}`+"\n")
			same(t, "journal_unreadable", "open.jsonl", "anywhere 98.7 or a newer one", "anywhere operation abandon")
			s.clear(t)

			if name == "doctor" { // looks without one
				return
			}
			s.write(t, recordFile, "rubbish")
			same(t, "record_unreadable", "record.json", "run the same command again")
			s.write(t, recordFile, `{"schema":99,"program":"99.0.0"}`)
			same(t, "newer_record", "record.json", "use anywhere 99.0.0 or a newer one")
			s.write(t, recordFile, record)
		})
	}
}

// What must work without a readable journal or record does: status tells of them, and the ways out are open.
func TestWhatIsUnfinishedDoesNotStopWhatMustWork(t *testing.T) {
	t.Parallel()
	s, _ := registered(t)
	record := s.read(t, recordFile)
	type journal struct{ name, text string }
	newer := `{"anywhereJournal":99,"verb":"move","run":"r","program":"99.0.0"}` + "\n"
	for _, j := range []journal{{"unreadable", "rubbish\n"}, {"newer", newer}} {
		t.Run(j.name, func(t *testing.T) {
			s.write(t, openJournal, j.text)
			code := map[string]string{"unreadable": "journal_unreadable", "newer": "newer_record"}[j.name]
			if d := s.run(t, line{args: []string{"status"}}); d.RC != 10 || d.Failed {
				t.Errorf("status: %+v", d)
			}
			for _, args := range [][]string{{"rollback"}, {"operation", "show"}} {
				s.refuses(t, line{args: args}, 12, code, "open.jsonl", "anywhere operation abandon")
			}
			if d := s.run(t, line{args: []string{"operation", "abandon"}}); d.RC != 0 {
				t.Errorf("abandon: %+v", d)
			}
			if d := s.run(t, plain); d.RC != 0 || d.Changed {
				t.Errorf("register, when the journal is out of the way: %+v", d)
			}
		})
	}
	for name, text := range map[string]string{"unreadable": "rubbish", "newer": `{"schema":99,"program":"99.0.0"}`} {
		t.Run("a record that is "+name, func(t *testing.T) {
			s.write(t, recordFile, text)
			if d := s.run(t, line{args: []string{"status"}}); d.RC != 0 || d.Failed {
				t.Errorf("status: %+v", d)
			}
			s.begun(t, "register", "key", false)
			if d := s.run(t, line{args: []string{"rollback"}}); d.RC != 0 || !d.Changed {
				t.Errorf("rollback: %+v", d)
			}
			if got := s.read(t, recordFile); got != text {
				t.Errorf("the record is %q now", got)
			}
			s.write(t, recordFile, record)
		})
	}
}

// deregister --local-only is for a host of which nothing can be read any more. What a newer program wrote can be read, by that one.
func TestLocalDeregistrationOfAHostThatCannotBeRead(t *testing.T) {
	t.Parallel()
	if _, built := changers(t)["deregister"]; !built {
		return
	}
	local := line{args: []string{"deregister", "--local-only", "--yes"}}
	s, _ := registered(t)
	record := s.read(t, recordFile)
	s.write(t, openJournal, `{"anywhereJournal":99,"verb":"move","run":"r","program":"99.0.0"}`+"\n")
	s.refuses(t, local, 12, "newer_record", "open.jsonl", "anywhere operation abandon")
	s.clear(t)
	s.write(t, recordFile, `{"schema":99,"program":"99.0.0"}`)
	s.refuses(t, local, 12, "newer_record", "record.json", "anywhere 99.0.0 or a newer one")
	s.write(t, recordFile, record)

	for name, spoiled := range map[string][]string{
		"journal": {openJournal}, "record": {recordFile}, "both": {openJournal, recordFile},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := registered(t)
			for _, file := range spoiled {
				s.write(t, file, "rubbish\n")
			}
			if d := s.run(t, local); d.RC != 0 || !d.Changed {
				t.Errorf("%+v", d)
			}
			if d := s.run(t, line{args: []string{"status"}}); d.RC != 10 || d.Result.ContainerInstanceARN != "" {
				t.Errorf("afterwards: %+v", d)
			}
		})
	}
}
