package report

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/briandowns/spinner"
	"github.com/fatih/color"
	"github.com/mattn/go-runewidth"
)

// Spinner draws the changing line on a terminal. Nothing is drawn before the first Show.
type Spinner struct {
	to    *os.File
	spin  *spinner.Spinner
	width int
}

var _ Line = (*Spinner)(nil)

// NewSpinner returns a spinner on to, which is a terminal of width columns (0: unknown, taken as 80).
func NewSpinner(to *os.File, width int, colored, unicode bool) *Spinner {
	frames := []string{"-", "\\", "|", "/"}
	if unicode {
		frames = spinner.CharSets[11]
	}
	if width == 0 {
		width = 80
	}
	// The spinner colours its sign through a package that decides by stdout and its own variable alone; it is told here,
	// where the one spinner of the process is made, what was decided for stderr.
	color.NoColor = !colored
	s := spinner.New(frames, 100*time.Millisecond, spinner.WithWriterFile(to))
	_ = s.Color("cyan") // fails for names that are no colours only
	return &Spinner{to: to, spin: s, width: width}
}

// Show puts text behind the spinning sign, cut to the width of the terminal: a line that wraps cannot be taken back.
func (s *Spinner) Show(text string) {
	text = strings.Join(strings.Fields(text), " ")
	// The library takes a character's bytes for its columns when it clears the line; one that it thinks wrapped costs the
	// line above. Eight columns hold the sign and a blank in any case.
	many := len(text) - runewidth.StringWidth(text)
	text = " " + runewidth.Truncate(text, max(s.width-8-many, 0), "...")
	s.spin.Lock()
	s.spin.Suffix = text
	s.spin.Unlock()
	s.spin.Start()
}

// Above prints a finished line; the spinner goes on below it.
func (s *Spinner) Above(text string) {
	s.spin.Lock()
	defer s.spin.Unlock()
	fmt.Fprintf(s.to, "\r\033[K%s\n", text)
}

// Close takes the line away and shows the cursor again.
func (s *Spinner) Close() { s.spin.Stop() }
