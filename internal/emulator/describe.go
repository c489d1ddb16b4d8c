package emulator

import (
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
)

// describeInstances is the answer with container instances. Each one's JSON is kept until something about it is another,
// and was held to the model when it was made: a fleet is looked at far more often than it changes.
func (e *Emulator) describeInstances(found []*instance, failures []any, withTags bool) any {
	parts := append(make(encoded, 0, 2*len(found)+4), []byte(`{"containerInstances":[`))
	for n, i := range found {
		text := e.describedAs(i, withTags)
		if text == nil { // it is not as AWS has it: whoever checks the answer says how
			return e.describePlainly(found, failures, withTags)
		}
		if n > 0 {
			parts = append(parts, []byte(","))
		}
		parts = append(parts, text)
	}
	rest, _ := json.Marshal(failures) // strings always marshal
	return append(parts, []byte(`],"failures":`), rest, []byte("}"))
}

func (e *Emulator) describePlainly(found []*instance, failures []any, withTags bool) any {
	rows := []any{}
	for _, i := range found {
		rows = append(rows, i.describe(e, withTags))
	}
	return map[string]any{"containerInstances": rows, "failures": failures}
}

// described is a container instance's JSON, and what it was made of.
type described struct {
	text []byte
	of   uint64
}

// describedAs is the JSON of an instance; nil where it does not keep to the model.
func (e *Emulator) describedAs(i *instance, withTags bool) []byte {
	of := e.digest(i, withTags)
	if i.described.text != nil && i.described.of == of {
		return i.described.text
	}
	row := i.describe(e, withTags)
	if len(modelOf("ecs:DescribeContainerInstances").output.members["containerInstances"].element.check(row, "", nil)) > 0 {
		return nil
	}
	text, err := json.Marshal(row)
	if err != nil {
		return nil
	}
	i.described = described{text, of}
	return text
}

var digestSeed = maphash.MakeSeed()

// digest is of everything that an instance's description has.
func (e *Emulator) digest(i *instance, withTags bool) uint64 {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	word := func(s string) {
		_, _ = h.WriteString(s) // neither of them fails
		_ = h.WriteByte(0)
	}
	number := func(n int) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(n))
		_, _ = h.Write(b[:])
	}
	connected := 0
	if i.view().Connected {
		connected = 1
	}
	number(connected)
	for _, s := range []string{i.Status, i.NodeID, i.AgentVersion, i.AgentHash, i.Docker} {
		word(s)
	}
	for _, a := range i.attributes {
		word(a.Name)
		word(a.Value)
	}
	for _, t := range e.on(i.ARN) {
		word(t.ARN)
		word(t.Last)
	}
	for _, r := range i.Resources {
		word(r.Name)
		number(r.Integer)
		for _, s := range r.Strings {
			word(s)
		}
	}
	number(e.definitionsVersion)
	if withTags {
		number(1)
		for _, t := range i.tags {
			word(t.Name)
			word(t.Value)
		}
	}
	return h.Sum64()
}
