package ssmagent

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// object is a JSON object whose members keep their order and whose values keep their text, numbers and unknown parts
// included.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

// parseObject reads one JSON object; null is an empty one.
func parseObject(text []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	open, err := dec.Token()
	if err != nil || open == nil {
		return nil, err
	}
	if open != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	var o object
	for dec.More() {
		name, err := dec.Token() // a string, or dec fails
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		o = append(o, member{name.(string), value})
	}
	_, err = dec.Token()
	return o, err
}

// with returns o with section.name set. Names match as encoding/json matches them: in any case, and of several the
// last one counts. A section that is not an object becomes one.
func (o object) with(section, name string, value any) object {
	at := o.find(section)
	var inner object
	if at < len(o) {
		inner, _ = parseObject(o[at].value)
	}
	return o.set(section, inner.set(name, marshal(value)).text())
}

func (o object) set(name string, value json.RawMessage) object {
	at := o.find(name)
	if at == len(o) {
		return append(o, member{name, value})
	}
	o[at].value = value
	return o
}

// find returns the place of the member that counts, or the length.
func (o object) find(name string) int {
	for at := len(o) - 1; at >= 0; at-- {
		if strings.EqualFold(o[at].name, name) {
			return at
		}
	}
	return len(o)
}

func (o object) text() json.RawMessage {
	var out bytes.Buffer
	out.WriteByte('{')
	for n, m := range o {
		if n > 0 {
			out.WriteByte(',')
		}
		out.Write(marshal(m.name))
		out.WriteByte(':')
		out.Write(m.value)
	}
	out.WriteByte('}')
	return out.Bytes()
}

// render is the text as the agent's own template is indented.
func (o object) render() []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, o.text(), "", "    "); err != nil { // made of texts that were parsed
		panic(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// marshal writes strings, booleans and lists of strings, which always can be.
func marshal(value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}
