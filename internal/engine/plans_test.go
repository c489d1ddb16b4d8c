package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// The machine that the plans below start from.
func furnish(m *machine) {
	ctx := context.Background()
	m.put("/etc/conf/base.service", "port=1\n")
	must(os.Chmod(m.Local("/etc/conf/base.service"), 0o640))
	m.put("/etc/shared.conf", "shared\n")
	m.put("/etc/obsolete", "old\n")
	must(os.Chmod(m.Local("/etc/obsolete"), 0o600))
	must(os.Symlink("obsolete", m.Local("/etc/alias")))
	m.put("/etc/target", "behind a link\n")
	must(os.Symlink("target", m.Local("/etc/linked")))
	m.put("/srv/old/data", "precious\n")
	m.put("/var/lib/ident", "identity 1\n")
	must(os.Chmod(m.Local("/var/lib/ident"), 0o600))
	for _, version := range []string{"1", "2"} {
		m.put("/cache/base-"+version, archive{
			Name: "base", Version: version, Units: []string{"base.service"},
			Files: map[string]string{"/lib/systemd/system/base.service": "unit", "/usr/bin/base": "program " + version},
		}.text())
	}
	m.put("/cache/demo-1", archive{
		Name: "demo", Version: "1", Units: []string{"demo.service"},
		Files:   map[string]string{"/lib/systemd/system/demo.service": "unit", "/usr/share/demo/doc": "read me"},
		Appends: map[string]string{"/etc/shared.conf": "demo was here\n"},
	}.text())
	m.put("/lib/systemd/system/idle.service", "unit")
	m.put("/lib/systemd/system/busy.service", "unit")
	must(packages{m}.Install(ctx, "/cache/base-1"))
	for revision, version := range map[string]string{"6": "0.9", "7": "1.0", "8": "1.1"} { // 8 is at hand, so that trees compare
		m.put("/snap/box/"+revision+"/meta/snap.yaml", "name: box\nversion: "+version+"\n")
	}
	must(os.Symlink("7", m.Local("/snap/box/current")))
	m.put("/var/lib/snapd/follows-box", "stable")
	m.put("/store/box/stable", "7")
	m.put("/store/box/candidate", "8")
	m.put("/etc/systemd/system/snap.box.service", "unit")
	must(units{m}.Enable(ctx, "snap.box.service"))
	must(units{m}.Start(ctx, "snap.box.service"))
	must(units{m}.Enable(ctx, "busy.service"))
	must(units{m}.Start(ctx, "busy.service"))
}

// step is a step with an id for a title, OK when ok says so.
func step(id string, ok func(host.Reader) bool, change func(context.Context, *Tx) error) Step {
	return Step{
		ID: id, Title: "Do " + id,
		Observe: func(_ context.Context, r host.Reader) (Obs, error) {
			if ok(r) {
				return Obs{State: OK, Detail: "is so"}, nil
			}
			return Obs{State: Pending, Detail: "is not so"}, nil
		},
		Change: change,
	}
}

func holds(r host.Reader, name, content string) bool {
	text, err := r.Files.ReadFile(name)
	return err == nil && string(text) == content
}

func there(r host.Reader, name string) bool {
	_, err := r.Files.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// write is the smallest step.
func write(id, name, content string) Step {
	return step(id, func(r host.Reader) bool { return holds(r, name, content) }, func(ctx context.Context, tx *Tx) error {
		return tx.WriteFile(ctx, name, strings.NewReader(content), 0o600)
	})
}

// The steps of the crash tests: each exercises one primitive, or those that belong together.
var (
	writing = []Step{
		write("write.new", "/etc/new/folder/file", "hello\n"),
		write("write.old", "/etc/conf/base.service", "port=2\n"),
		write("write.link", "/etc/linked", "written through\n"),
	}
	folders = []Step{step("mkdir", func(r host.Reader) bool { return there(r, "/srv/b/c") }, func(ctx context.Context, tx *Tx) error {
		return errors.Join(tx.Mkdir(ctx, "/srv/a", 0o750), tx.Mkdir(ctx, "/srv/b/c", 0o700))
	})}
	renaming = []Step{step("rename", func(r host.Reader) bool { return there(r, "/srv/moved/here") && there(r, "/etc/aside") },
		func(ctx context.Context, tx *Tx) error {
			if err := tx.Rename(ctx, "/srv/old", "/srv/moved/here"); err != nil {
				return err
			}
			return tx.Rename(ctx, "/etc/target", "/etc/aside")
		})}
	removing = []Step{step("remove", func(r host.Reader) bool { return !there(r, "/etc/obsolete") && !there(r, "/etc/alias") },
		func(ctx context.Context, tx *Tx) error {
			return errors.Join(tx.Remove(ctx, "/etc/obsolete"), tx.Remove(ctx, "/etc/alias"), tx.Remove(ctx, "/etc/never"))
		})}
	claiming = []Step{step("claim", func(r host.Reader) bool {
		return there(r, "/srv/claimed/deep/file") && holds(r, "/etc/shared.conf", "taken\n")
	},
		func(ctx context.Context, tx *Tx) error {
			if err := errors.Join(tx.Claim(ctx, "/srv/claimed", "/srv"), tx.Snapshot(ctx, "/etc/shared.conf", "/etc/fresh")); err != nil {
				return err
			}
			return tx.Effect(ctx, "children", nil, func(ctx context.Context) error {
				for _, args := range [][]string{{"/etc/fresh", "new\n"}, {"/etc/shared.conf", "taken\n"}, {"/srv/claimed/deep/file", "x\n"}} {
					if _, err := tx.Run(ctx, host.Cmd{Path: "write", Args: args}); err != nil {
						return err
					}
				}
				return nil
			})
		})}
	installing = []Step{step("install", func(r host.Reader) bool { p, _ := r.Packages.Package("demo"); return p.Installed },
		func(ctx context.Context, tx *Tx) error {
			if err := errors.Join(tx.Claim(ctx, "/var/lib/state-demo.service"), tx.Snapshot(ctx, "/etc/shared.conf")); err != nil {
				return err
			}
			return tx.Install(ctx, "demo", "/cache/demo-1", "", "demo.service")
		})}
	upgrading = []Step{step("upgrade", func(r host.Reader) bool { p, _ := r.Packages.Package("base"); return p.Version == "2" && p.Installed },
		func(ctx context.Context, tx *Tx) error {
			return tx.Install(ctx, "base", "/cache/base-2", "/cache/base-1", "base.service")
		})}
	uninstalling = []Step{
		step("rest", func(r host.Reader) bool { return !there(r, "/run/units/base.service") }, func(ctx context.Context, tx *Tx) error {
			return tx.Unit(ctx, "base.service", UnitWant{Disable: true, Stop: true})
		}),
		step("uninstall", func(r host.Reader) bool {
			p, _ := r.Packages.Package("base")
			return !p.Installed && !p.Partial && !p.Residual
		},
			func(ctx context.Context, tx *Tx) error {
				return tx.RemovePackage(ctx, "base", true, "/cache/base-1", "base.service")
			}),
		step("forget", func(r host.Reader) bool { return !there(r, "/etc/conf/base.service") }, func(ctx context.Context, tx *Tx) error {
			return tx.Remove(ctx, "/etc/conf/base.service")
		}),
	}
	refreshing = []Step{step("refresh", isRevision("8"), func(ctx context.Context, tx *Tx) error {
		return tx.Snap(ctx, "box", SnapWant{Channel: "candidate", Follows: "stable"}, "snap.box.service")
	})}
	reverting = []Step{step("revert", isRevision("6"), func(ctx context.Context, tx *Tx) error {
		return tx.Snap(ctx, "box", SnapWant{Revision: "6", Channel: "edge", Follows: "stable"}, "snap.box.service")
	})}
	identifying = []Step{step("identity", func(r host.Reader) bool { return holds(r, "/var/lib/ident", "identity 2\n") },
		func(ctx context.Context, tx *Tx) error {
			saved, err := tx.Backup("/var/lib/ident")
			if err != nil {
				return err
			}
			return tx.Effect(ctx, "identity", identity{saved}, func(ctx context.Context) error {
				for _, content := range []string{"", "identity 2\n"} { // like the agent, it blanks the old one first
					if _, err := tx.Run(ctx, host.Cmd{Path: "write", Args: []string{"/var/lib/ident", content}}); err != nil {
						return err
					}
				}
				return nil
			})
		})}
	serving = []Step{
		write("conf", "/etc/conf/base.service", "port=3\n"),
		step("dropin", func(r host.Reader) bool { return there(r, "/etc/systemd/system/base.service.d/x.conf") }, func(ctx context.Context, tx *Tx) error {
			if err := tx.WriteFile(ctx, "/etc/systemd/system/base.service.d/x.conf", strings.NewReader("x"), 0o644); err != nil {
				return err
			}
			return tx.ReloadUnits(ctx)
		}),
		step("restart", func(r host.Reader) bool { return holds(r, "/run/units/base.service", "port=3\n") }, func(ctx context.Context, tx *Tx) error {
			return tx.Unit(ctx, "base.service", UnitWant{Enable: true, Restart: true})
		}),
		step("rest", func(r host.Reader) bool { return there(r, "/srv/rested") && there(r, "/run/units/base.service") }, func(ctx context.Context, tx *Tx) error {
			return tx.Unit(ctx, "base.service", UnitWant{Restart: true, AtRest: func(ctx context.Context) error {
				if there(tx.Reader(), "/run/units/base.service") {
					return errors.New("it runs")
				}
				return tx.WriteFile(ctx, "/srv/rested", strings.NewReader("it was at rest\n"), 0o644)
			}})
		}),
		step("idle", func(r host.Reader) bool { return there(r, "/run/units/idle.service") }, func(ctx context.Context, tx *Tx) error {
			if err := tx.Claim(ctx, "/var/lib/state-idle.service"); err != nil {
				return err
			}
			return tx.Unit(ctx, "idle.service", UnitWant{Enable: true, Start: true})
		}),
		step("busy", func(r host.Reader) bool { return !there(r, "/run/units/busy.service") }, func(ctx context.Context, tx *Tx) error {
			return tx.Unit(ctx, "busy.service", UnitWant{Disable: true, Stop: true})
		}),
	}
)

func isRevision(revision string) func(host.Reader) bool {
	return func(r host.Reader) bool {
		now, _, err := host.ReadSnap(r.Files, "box")
		return err == nil && now.Revision == revision
	}
}

// plans by name, so that a second process can be told which.
var plans = map[string][]Step{
	"write": writing, "mkdir": folders, "rename": renaming, "remove": removing, "claim": claiming, "install": installing,
	"refresh": refreshing, "revert": reverting,
	"uninstall": uninstalling, "upgrade": upgrading, "identity": identifying, "units": serving,
	"rewrite":    rewriting,
	"everything": join(writing, folders, removing, installing, upgrading, refreshing, identifying, serving, moved),
}

// moved is the rename without the one that the link of writing leads to.
var moved = []Step{step("rename", func(r host.Reader) bool { return there(r, "/srv/moved/here") }, func(ctx context.Context, tx *Tx) error {
	return tx.Rename(ctx, "/srv/old", "/srv/moved/here")
})}

// rewriting changes the same things more than once in one operation.
var rewriting = []Step{
	step("first", func(r host.Reader) bool { return there(r, "/srv/record/now") }, func(ctx context.Context, tx *Tx) error {
		return tx.WriteFile(ctx, "/srv/record/now", strings.NewReader("1\n"), 0o600)
	}),
	step("rest", func(r host.Reader) bool { return holds(r, "/srv/record/now", "anew\n") }, func(ctx context.Context, tx *Tx) error {
		for i := 2; i <= 5; i++ {
			for _, name := range []string{"/srv/record/now", "/etc/conf/base.service"} {
				if err := tx.WriteFile(ctx, name, strings.NewReader(fmt.Sprintf("port=%d\n", i)), 0o644); err != nil {
					return err
				}
			}
		}
		if err := tx.Remove(ctx, "/srv/record/now"); err != nil {
			return err
		}
		return tx.WriteFile(ctx, "/srv/record/now", strings.NewReader("anew\n"), 0o600)
	}),
	step("away", func(r host.Reader) bool { return holds(r, "/srv/away/data", "changed there\n") }, func(ctx context.Context, tx *Tx) error {
		if !there(tx.Reader(), "/srv/away") {
			if err := tx.Rename(ctx, "/srv/old", "/srv/away"); err != nil {
				return err
			}
		}
		return tx.WriteFile(ctx, "/srv/away/data", strings.NewReader("changed there\n"), 0o600)
	}),
}

// broken fails, after everything else.
var broken = step("broken", func(host.Reader) bool { return false }, func(ctx context.Context, tx *Tx) error {
	return failure.New(failure.ServiceFailed, "it broke")
})

func join(parts ...[]Step) []Step {
	var all []Step
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

func planOf(steps ...Step) Plan {
	return Plan{Verb: "register", Key: "key", Pins: map[string]string{}, Steps: steps}
}

// identity is the effect that the engine knows nothing of.
type identity struct {
	Saved string `json:"saved"`
}

func kinds(m *machine) map[string]Kind {
	return map[string]Kind{
		"children": {Undo: func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil }},
		"identity": {Undo: func(_ context.Context, h host.Host, data []byte) ([]string, error) {
			var was identity
			if err := json.Unmarshal(data, &was); err != nil {
				return nil, err
			}
			text, err := h.Files.ReadFile(was.Saved)
			if err != nil {
				return nil, err
			}
			return nil, h.Disk.WriteFile("/var/lib/ident", strings.NewReader(string(text)), 0o600, host.Owner{})
		}},
		"call": {
			Undo:      func(context.Context, host.Host, []byte) ([]string, error) { return nil, nil },
			Committed: func(context.Context, host.Reader, []byte) (string, bool) { return "the call", true },
			Refused:   func(err error) bool { return failure.Is(err, failure.AccessDenied) },
		},
		"slot": {
			Undo: func(context.Context, host.Host, []byte) ([]string, error) {
				m.drop("/slot-begun")
				return nil, nil
			},
			Committed: func(_ context.Context, r host.Reader, _ []byte) (string, bool) {
				return "the slot", there(r, "/slot-spent")
			},
		},
	}
}

// slot is a step that cannot be taken back once it is through.
var slot = step("slot", func(r host.Reader) bool { return there(r, "/slot-spent") }, func(ctx context.Context, tx *Tx) error {
	return tx.Effect(ctx, "slot", nil, func(ctx context.Context) error {
		_, err := tx.Run(ctx, host.Cmd{Path: "write", Args: []string{"/slot-spent", "1"}})
		return err
	})
})

// planned is the plan of this name, with more steps behind it.
func planned(name string, more ...Step) Plan {
	if name == "commit" {
		plan := planOf(write("conf", "/etc/fresh", "x"), slot, write("after", "/etc/after", "y"))
		plan.Commit = "slot"
		return plan
	}
	if name == "clear" {
		return planOf(join([]Step{write("conf", "/etc/fresh", "x")}, clearing, []Step{write("after", "/etc/after", "y")}, more)...)
	}
	return planOf(join(plans[name], more)...)
}
