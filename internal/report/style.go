package report

import (
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
)

// Style is how text for people looks: with or without colour, with symbols or with ASCII.
type Style struct {
	unicode                        bool
	good, bad, warn, dim, emphasis lipgloss.Style
}

// NewStyle returns the style for one stream. What the stream can do is decided by the caller: it is never asked.
func NewStyle(color, unicode bool) Style {
	r := lipgloss.NewRenderer(io.Discard)
	r.SetColorProfile(termenv.Ascii)
	if color {
		r.SetColorProfile(termenv.ANSI)
	}
	r.SetHasDarkBackground(true) // else lipgloss would ask the terminal
	return Style{
		unicode:  unicode,
		good:     r.NewStyle().Foreground(lipgloss.Color("2")),
		bad:      r.NewStyle().Foreground(lipgloss.Color("1")).Bold(true),
		warn:     r.NewStyle().Foreground(lipgloss.Color("3")),
		dim:      r.NewStyle().Faint(true),
		emphasis: r.NewStyle().Bold(true),
	}
}

// mark is a symbol for a step's status or a check's.
func (s Style) mark(status string) string {
	symbols := map[bool][4]string{true: {"✓", "✗", "!", "–"}, false: {"+", "x", "!", "-"}}[s.unicode]
	switch status {
	case "done", "pass", "undone":
		return s.good.Render(symbols[0])
	case "failed", "fail":
		return s.bad.Render(symbols[1])
	case "warn", "kept":
		return s.warn.Render(symbols[2])
	}
	return s.dim.Render(symbols[3])
}

// word colours a status in a table by what it means.
func (s Style) word(status, text string) string {
	switch status {
	case "done", "pass", "undone":
		return s.good.Render(text)
	case "failed", "fail":
		return s.bad.Render(text)
	case "warn", "kept", "planned":
		return s.warn.Render(text)
	}
	return s.dim.Render(text)
}

// Strong is a text that stands out.
func (s Style) Strong(text string) string { return s.emphasis.Render(text) }

// Change colours a text by the sign before it: + is new, - gone, ~ other.
func (s Style) Change(sign byte, text string) string {
	switch sign {
	case '+':
		return s.good.Render(text)
	case '-':
		return s.bad.Render(text)
	case '~':
		return s.warn.Render(text)
	}
	return s.dim.Render(text)
}

// Rule is a line below a heading, as wide as a terminal is at least.
func (s Style) Rule(width int) string {
	return s.dim.Render(strings.Repeat(map[bool]string{true: "─", false: "-"}[s.unicode], width))
}
