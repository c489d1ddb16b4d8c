package lifecycle

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// pinRead has the units whose programs had read their configuration before this operation touched it, with commas between
// them. Afterwards nobody could tell.
const pinRead = "has-read"

// plan is the runbook of an adoption. All of it can be undone, and none of it is felt by what runs.
func (a *adoption) plan() engine.Plan {
	return engine.Plan{
		Verb: verbAdopt, Key: verbAdopt, Pins: a.pins,
		Steps: []engine.Step{a.ecsDropIn(), a.foldConfig(), a.recordStep()},
	}
}

// foldConfig brings the settings that make the host an external instance of its cluster into the file that wins in both
// parsers and with every package: the unit of Amazon Linux reads no other (facts: ecs-agent section 1.2). Values stay what
// they are. What the other file says stays there too, and counts no more. Two settings it leaves there: ecs-init waits for
// the GPUs of which that file speaks, and the rest is the operator's.
func (a *adoption) foldConfig() engine.Step {
	return a.fileStep(fileStep{
		id: "ecs.config", title: "Fold the ECS agent's configuration", path: ecsagent.ConfigPath, mode: 0o600,
		wanted: func(reader host.Reader, _ []byte) ([]byte, error) {
			config, err := ecsagent.ReadConfig(reader)
			if err != nil {
				return nil, err
			}
			settings := append(a.settings(config), Pair{Key: ecsagent.KeyEndpoint}, Pair{Key: ecsagent.KeyProfile})
			for _, s := range settings {
				if _, there := config.User.Get(s.Key); there {
					continue
				}
				value := first(config.Agent(s.Key), s.Value)
				if value == "" {
					continue
				}
				// What does not fit on a line of its own stays where it is; register would correct it, and beyond says so.
				_ = config.User.Set(s.Key, value)
			}
			return config.User.Bytes(), nil
		},
	})
}

// settleRead finds out which agents have read what is on the disk. An operation that is gone on with has asked before it
// changed anything.
func (a *adoption) settleRead(ctx context.Context) error {
	if a.resumed != nil {
		a.pins[pinRead] = a.resumed.Pins[pinRead]
		a.read = strings.FieldsFunc(a.pins[pinRead], func(r rune) bool { return r == ',' })
		return nil
	}
	reader := a.deps.Host.Reader
	for unit, inputs := range a.inputs() {
		seen, err := a.started(ctx, reader, unit, inputs)
		if err != nil {
			return err
		}
		stale, err := a.replacedProgram(ctx, reader, unit)
		if err != nil {
			return err
		}
		if seen.State == engine.OK && !stale {
			a.read = append(a.read, unit)
		}
	}
	slices.Sort(a.read)
	a.pins[pinRead] = strings.Join(a.read, ",")
	return nil
}

// inputs are what the agents read at their start, by their units.
func (a *adoption) inputs() map[string]func(host.Reader) (string, error) {
	return map[string]func(host.Reader) (string, error){a.ssmUnit(): a.ssmInputs, a.ecsUnit(): a.ecsInputs}
}

// replacedProgram reports whether a unit runs another version of its program than is installed.
func (a *adoption) replacedProgram(ctx context.Context, reader host.Reader, unit string) (bool, error) {
	if ssmagent.IsUnit(unit) {
		state, err := reader.Units.Unit(ctx, unit)
		if err != nil {
			return false, err
		}
		process, err := ssmagent.ReadProcess(reader, state.MainPID)
		return process.Replaced, err
	}
	meta, err := ecsagent.Introspect(ctx, reader)
	if err != nil {
		return false, err
	}
	installed, err := reader.Packages.Package(ecsagent.Package)
	return ecsagent.Newer(installed.Version, meta.Version), err
}

// recordStep writes what was observed into the record: as somebody else's, so that nothing of it is ever taken for what
// anywhere has made.
func (a *adoption) recordStep() engine.Step {
	return engine.Step{
		ID: "record", Title: "Record what is here",
		Observe: func(ctx context.Context, reader host.Reader) (engine.Obs, error) {
			record, err := readRecord(reader)
			if err != nil {
				return engine.Obs{}, err
			}
			want, err := a.wanted(ctx, reader)
			switch {
			case err != nil:
				return engine.Obs{}, err
			case !sameRecord(record, want):
				return engine.Obs{State: engine.Pending, Detail: "write " + recordPath}, nil
			}
			return engine.Obs{State: engine.OK, Detail: recordPath}, nil
		},
		Change: func(ctx context.Context, tx *engine.Tx) error {
			want, err := a.wanted(ctx, tx.Reader())
			if err != nil {
				return err
			}
			return a.own(ctx, tx, func(record *Record) { *record = want })
		},
	}
}

// wanted is the record as it should be: what it says of anywhere's own, and the registration as adopted unless anywhere has
// made it.
func (a *adoption) wanted(ctx context.Context, reader host.Reader) (Record, error) {
	record, err := readRecord(reader)
	if err != nil {
		return record, err
	}
	if own := record.Registration; own == nil || own.ManagedInstanceID != a.node {
		record.Registration = nil
		if record.Adopted, err = a.adopted(ctx, reader, record); err != nil {
			return record, err
		}
	}
	record.Started = maps.Clone(record.Started)
	for _, unit := range a.read {
		if record.Started[unit], err = a.inputs()[unit](reader); err != nil {
			return record, err
		}
	}
	return record, nil
}

// adopted is what the record should say of the registration. One that says so already stays as it is: what was here when it
// was adopted does not change with the host.
func (a *adoption) adopted(ctx context.Context, reader host.Reader, record Record) (*AdoptedRegistration, error) {
	is := &AdoptedRegistration{
		ManagedInstanceID: a.node, ContainerInstanceARN: a.arnText, Region: a.region, Account: a.account, Cluster: a.cluster,
	}
	if old := record.Adopted; old != nil && old.ManagedInstanceID == is.ManagedInstanceID &&
		old.ContainerInstanceARN == is.ContainerInstanceARN && old.Cluster == is.Cluster {
		return old, nil
	}
	is.Run, is.At = a.deps.RunID, reader.Now().UTC().Format(time.RFC3339)
	is.Packages, is.Files = map[string]string{}, []string{}
	for _, name := range []string{ssmagent.Package, ecsagent.Package} {
		installed, err := reader.Packages.Package(name)
		if err != nil {
			return nil, err
		}
		if _, ours := record.Packages[name]; installed.Installed && !ours {
			is.Packages[name] = installed.Version
		}
	}
	for _, file := range []string{
		ecsagent.ConfigPath, ecsagent.InstanceConfigPath, ecsagent.JSONConfigPath, ssmagent.ConfigPath,
	} {
		if _, err := reader.Files.Lstat(file); err == nil && !slices.Contains(record.Files, file) {
			is.Files = append(is.Files, file)
		}
	}
	proxies, err := preflight.ProxyFiles(ctx, reader)
	if err != nil {
		return nil, err
	}
	for _, file := range proxies {
		if !slices.Contains(record.Files, file) && !slices.Contains(is.Files, file) {
			is.Files = append(is.Files, file)
		}
	}
	return is, nil
}
