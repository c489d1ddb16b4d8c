package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

// durationValue is a flag that takes Go's units and d for days: 90s, 1h30m, 2d, 1d12h.
type durationValue struct{ to *time.Duration }

var _ pflag.Value = durationValue{}

func (v durationValue) Set(s string) error {
	d, err := parseDuration(s)
	if err == nil {
		*v.to = d
	}
	return err
}

func (v durationValue) String() string {
	if v.to == nil || *v.to == 0 {
		return "0"
	}
	s := v.to.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (v durationValue) Type() string { return "duration" }

func parseDuration(s string) (time.Duration, error) {
	const rule = "expected a number with a unit, like 90s, 5m, 1h30m or 2d"
	var days time.Duration
	rest := s
	if number, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || n < 0 || n > 3650 {
			return 0, fmt.Errorf("%s", rule)
		}
		days, rest = time.Duration(n*24*float64(time.Hour)), after
	}
	if rest == "" && days > 0 {
		return days, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || strings.HasPrefix(rest, "-") {
		return 0, fmt.Errorf("%s", rule)
	}
	return days + d, nil
}

// choiceValue is a flag that takes one of a few words.
type choiceValue struct {
	to      *string
	choices []string
}

var _ pflag.Value = choiceValue{}

func (v choiceValue) Set(s string) error {
	if !slices.Contains(v.choices, s) {
		return fmt.Errorf("expected %s", strings.Join(v.choices, ", "))
	}
	*v.to = s
	return nil
}

func (v choiceValue) String() string {
	if v.to == nil {
		return ""
	}
	return *v.to
}

func (v choiceValue) Type() string { return strings.Join(v.choices, "|") }

// pairsValue is a flag that takes KEY=VALUE and may be given several times. Values may hold commas and equals signs.
type pairsValue struct{ to *[]lifecycle.Pair }

var _ pflag.Value = pairsValue{}

func (v pairsValue) Set(s string) error {
	key, value, found := strings.Cut(s, "=")
	if !found || key == "" {
		return fmt.Errorf("expected KEY=VALUE")
	}
	if slices.ContainsFunc(*v.to, func(p lifecycle.Pair) bool { return p.Key == key }) {
		return fmt.Errorf("the key %q is given twice", key)
	}
	*v.to = append(*v.to, lifecycle.Pair{Key: key, Value: value})
	return nil
}

func (v pairsValue) String() string {
	if v.to == nil {
		return ""
	}
	var all []string
	for _, p := range *v.to {
		all = append(all, p.Key+"="+p.Value)
	}
	return strings.Join(all, ",")
}

func (v pairsValue) Type() string { return "KEY=VALUE" }

// wordsValue is a flag that takes words separated by commas, and may be given several times. Known, when there are any,
// are the only ones it takes.
type wordsValue struct {
	to    *[]string
	known []string
}

var _ pflag.Value = wordsValue{}

func (v wordsValue) Set(s string) error {
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		switch {
		case word == "":
			return fmt.Errorf("expected names separated by commas")
		case len(v.known) > 0 && !slices.Contains(v.known, word):
			return fmt.Errorf("there is no %q; expected %s", word, strings.Join(v.known, ", "))
		case !slices.Contains(*v.to, word):
			*v.to = append(*v.to, word)
		}
	}
	return nil
}

func (v wordsValue) String() string {
	if v.to == nil {
		return ""
	}
	return strings.Join(*v.to, ",")
}

func (v wordsValue) Type() string { return "NAME[,NAME]" }
