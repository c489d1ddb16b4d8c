package host

import (
	"strings"
	"unicode/utf8"
)

// Assignment is one variable of an EnvironmentFile and the line, from 1, on which it begins.
type Assignment struct {
	Key, Value string
	Line       int
}

// ParseEnvironmentFile reads text as systemd reads an EnvironmentFile (systemd.exec(5); parse_env_file_internal of systemd
// 254). Quotes count only where a value begins, and after a closing quote; a backslash escapes; lines that begin with # or ;
// are comments. A name that is no variable's is dropped. Text that is not UTF-8 gives nothing.
//
// Before version 254 a comment that ends in a backslash swallowed the next line.
func ParseEnvironmentFile(text string) []Assignment {
	if !utf8.ValidString(text) {
		return nil
	}
	text, _, _ = strings.Cut(text, "\x00")
	p := &environmentParser{line: 1, read: (*environmentParser).beforeKey}
	for i := range len(text) {
		p.read(p, text[i])
		if text[i] == '\n' {
			p.line++
		}
	}
	p.end()
	return p.out
}

// environmentParser is a state machine over bytes: read is the state.
type environmentParser struct {
	read       func(*environmentParser, byte)
	line       int
	start      int // line of the key
	key, value []byte
	solid      int  // so much of value stays when blanks at its end are cut off
	assigned   bool // an equals sign was seen
	out        []Assignment
}

func (p *environmentParser) beforeKey(c byte) {
	switch {
	case c == '#' || c == ';':
		p.read = (*environmentParser).comment
	case !blank(c):
		p.start, p.key, p.value, p.solid, p.assigned = p.line, []byte{c}, nil, 0, false
		p.read = (*environmentParser).inKey
	}
}

func (p *environmentParser) comment(c byte) {
	if newline(c) {
		p.read = (*environmentParser).beforeKey
	}
}

func (p *environmentParser) inKey(c byte) {
	switch {
	case newline(c):
		p.read = (*environmentParser).beforeKey
	case c == '=':
		p.assigned = true
		p.read = (*environmentParser).beforeValue
	default:
		p.key = append(p.key, c)
	}
}

func (p *environmentParser) beforeValue(c byte) {
	switch {
	case newline(c):
		p.push()
	case c == '\'':
		p.read = (*environmentParser).singleQuoted
	case c == '"':
		p.read = (*environmentParser).doubleQuoted
	case c == '\\':
		p.read = (*environmentParser).escaped
	case !blank(c):
		p.keep(c)
		p.read = (*environmentParser).inValue
	}
}

func (p *environmentParser) inValue(c byte) {
	switch {
	case newline(c):
		p.push()
	case c == '\\':
		p.keep() // blanks in front of a backslash count
		p.read = (*environmentParser).escaped
	case blank(c):
		p.value = append(p.value, c)
	default:
		p.keep(c)
	}
}

func (p *environmentParser) escaped(c byte) {
	if !newline(c) {
		p.keep(c)
	}
	p.read = (*environmentParser).inValue
}

func (p *environmentParser) singleQuoted(c byte) {
	if c == '\'' {
		p.read = (*environmentParser).beforeValue
		return
	}
	p.keep(c)
}

func (p *environmentParser) doubleQuoted(c byte) {
	switch c {
	case '"':
		p.read = (*environmentParser).beforeValue
	case '\\':
		p.read = (*environmentParser).doubleQuotedEscaped
	default:
		p.keep(c)
	}
}

func (p *environmentParser) doubleQuotedEscaped(c byte) {
	switch {
	case strings.IndexByte("\"\\`$", c) >= 0:
		p.keep(c)
	case c != '\n':
		p.keep('\\', c)
	}
	p.read = (*environmentParser).doubleQuoted
}

// push ends a variable.
func (p *environmentParser) push() {
	p.read = (*environmentParser).beforeKey
	p.assigned = false
	if key := strings.TrimRight(string(p.key), blanks); isVariable(key) {
		p.out = append(p.out, Assignment{key, string(p.value[:p.solid]), p.start})
	}
}

// keep adds bytes that stay even at the value's end.
func (p *environmentParser) keep(bytes ...byte) {
	p.value = append(p.value, bytes...)
	p.solid = len(p.value)
}

// end is the end of the file: a value that was begun counts, even inside quotes.
func (p *environmentParser) end() {
	if p.assigned {
		p.push()
	}
}

const blanks = " \t\n\r"

func blank(c byte) bool { return strings.IndexByte(blanks, c) >= 0 }

func newline(c byte) bool { return c == '\n' || c == '\r' }
