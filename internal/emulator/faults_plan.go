package emulator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// plannedFault is one entry of a scenario file.
type plannedFault struct {
	Fault string       `yaml:"fault"` // as --fault has it
	Once  *plannedCall `yaml:"once"`  // after calls were answered; without it the time counts from the start
	After string       `yaml:"after"` // how long after that
	For   string       `yaml:"for"`   // and for how long; without it until the end

	after, until time.Duration
}

// plannedCall is an operation that was answered without an error so many times.
type plannedCall struct {
	Operation string `yaml:"operation"` // ssm:RegisterManagedInstance
	Times     int    `yaml:"times"`     // 1 when absent
}

// Plan reads a scenario: YAML, with a list "faults", and plays it from now on. It is strict: a word that it does not know
// is an error that says where.
func (e *Emulator) Plan(data []byte) error {
	var scenario struct {
		Faults []*plannedFault `yaml:"faults"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&scenario); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the scenario: %s", readable(err))
	}
	for i, p := range scenario.Faults {
		if err := p.check(); err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
	}
	for _, p := range scenario.Faults {
		if p.Once == nil {
			e.begin(p)
			continue
		}
		e.mu.Lock()
		e.planned = append(e.planned, p)
		e.mu.Unlock()
	}
	return nil
}

func (p *plannedFault) check() (err error) {
	name, _, err := ParseFault(p.Fault)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		name, text string
		to         *time.Duration
	}{{"after", p.After, &p.after}, {"for", p.For, &p.until}} {
		if d.text == "" {
			continue
		}
		if *d.to, err = time.ParseDuration(d.text); err != nil || *d.to <= 0 {
			return fmt.Errorf("%s: expected a duration like 30s, and got %q", d.name, d.text)
		}
	}
	if word, _, _ := strings.Cut(name, "="); p.until > 0 {
		if info, _ := faultNamed(word); info.Moment {
			return fmt.Errorf("for: the fault %s happens at once, and what it does stays", word)
		}
	}
	if p.Once == nil {
		return nil
	}
	if p.Once.Times == 0 {
		p.Once.Times = 1
	}
	if service, action, ok := strings.Cut(p.Once.Operation, ":"); !ok || service == "" || action == "" || p.Once.Times < 0 {
		return errors.New("once: expected operation, like ssm:RegisterManagedInstance, and times, which is 1 when absent")
	}
	return nil
}

// begin arms a planned fault when its time has come.
func (e *Emulator) begin(p *plannedFault) {
	arm := func() {
		_ = e.Fault(p.Fault) // was checked
		if name, _, _ := ParseFault(p.Fault); p.until > 0 {
			time.AfterFunc(p.until, func() { e.ClearFault(name) })
		}
	}
	if p.after == 0 {
		arm()
		return
	}
	time.AfterFunc(p.after, arm)
}

// due are the planned faults that wait for this call. The lock is held.
func (e *Emulator) due(operation string) (all []*plannedFault) {
	kept := e.planned[:0]
	for _, p := range e.planned {
		if p.Once.Operation == operation {
			p.Once.Times--
		}
		if p.Once.Times <= 0 {
			all = append(all, p)
		} else {
			kept = append(kept, p)
		}
	}
	e.planned = kept
	return all
}
