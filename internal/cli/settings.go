package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Annotations of flags.
const (
	noteEnv      = "env"       // variables that stand for the flag, the strongest first
	noteNoConfig = "no-config" // why the configuration file may not set it
	noteSecret   = "secret"    // its value is never shown
	noteEmpty    = "empty"     // an empty value means none
)

// fromEnv declares the variables that stand for a flag when it is not given, the strongest first. "NAME=word" takes any
// value of the variable for the word, "NAME:value=word" only that value.
func fromEnv(flags *pflag.FlagSet, name string, variables ...string) {
	annotate(flags, name, noteEnv, variables...)
}

// notInConfig refuses the flag in the configuration file, saying why.
func notInConfig(flags *pflag.FlagSet, name, why string) { annotate(flags, name, noteNoConfig, why) }

// isSecret keeps the flag's value from being shown, and out of the configuration file.
func isSecret(flags *pflag.FlagSet, name string) {
	annotate(flags, name, noteSecret, "")
	notInConfig(flags, name, "a secret does not belong in it")
}

func annotate(flags *pflag.FlagSet, name, note string, values ...string) {
	if err := flags.SetAnnotation(name, note, values); err != nil {
		panic(err) // the flag was not declared: every test of the tree would fail here
	}
}

// originKind says where a value came from.
type originKind string

// Origins, the strongest first.
const (
	byFlag        originKind = "flag"
	byEnvironment originKind = "environment"
	byConfig      originKind = "config"
	byDefault     originKind = "default"
)

// origin is where a value came from; at is the variable's name, or FILE:LINE.
type origin struct {
	kind originKind
	at   string
}

func (o origin) String() string {
	switch o.kind {
	case byEnvironment:
		return "environment variable " + o.at
	case byConfig:
		return o.at
	}
	return string(o.kind)
}

// settle gives every flag of cmd that was not given its value from the environment, else from the configuration file,
// and records where each came from.
func (a *app) settle(cmd *cobra.Command) (map[string]origin, error) {
	origins := map[string]origin{}
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if failed == nil && f.Name != "help" {
			origins[f.Name], failed = a.settleFlag(cmd, f)
		}
	})
	return origins, failed
}

func (a *app) settleFlag(cmd *cobra.Command, f *pflag.Flag) (origin, error) {
	if f.Changed {
		return origin{kind: byFlag}, nil
	}
	for _, variable := range f.Annotations[noteEnv] {
		name, value := a.variable(variable)
		if value == "" {
			continue
		}
		if err := f.Value.Set(word(f, value)); err != nil {
			return origin{}, badValue("the environment variable "+name, f, value, err)
		}
		return origin{byEnvironment, name}, nil
	}
	if entry, found := a.file.find(cmd, f.Name); found {
		for _, value := range entry.values {
			if err := f.Value.Set(word(f, value)); err != nil {
				failed := badValue(fmt.Sprintf("%s: %s", entry.at, f.Name), f, value, err)
				failed.Code = failure.InvalidConfig
				return origin{}, failed
			}
		}
		return origin{byConfig, entry.at}, nil
	}
	return origin{kind: byDefault}, nil
}

// word lets people answer a switch as they would say it: a variable and a file have yes and no, too.
func word(f *pflag.Flag, value string) string {
	if f.Value.Type() != "bool" {
		return value
	}
	switch strings.ToLower(value) {
	case "yes", "y", "on":
		return "true"
	case "no", "n", "off":
		return "false"
	}
	return value
}

// variable looks one of fromEnv's declarations up. An empty variable counts as unset.
func (a *app) variable(declared string) (name, value string) {
	name, word, mapped := strings.Cut(declared, "=")
	name, only, limited := strings.Cut(name, ":")
	value = a.getenv(name)
	switch {
	case value == "", limited && value != only:
		return name, ""
	case mapped && value == "0" && !limited && word == "always": // CLICOLOR_FORCE=0 forces nothing
		return name, ""
	case mapped:
		return name, word
	}
	return name, value
}

// refuseEmpty refuses a flag with an empty value: nobody means to type one. It is a script's variable that was not set,
// and the default in its place would be another version, file or host than the one that was meant.
func refuseEmpty(cmd *cobra.Command) (failed error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		_, may := f.Annotations[noteEmpty]
		if failed == nil && !may && f.Value.Type() == "string" && f.Value.String() == "" {
			failed = usage(cmd, "--%s: the value is empty", f.Name).WithRemedy("give --%[1]s a value, or leave it out", f.Name)
		}
	})
	return failed
}

// badValue refuses a value, naming what gave it. The value of a secret is not shown.
func badValue(source string, f *pflag.Flag, value string, err error) *failure.Error {
	if _, hidden := f.Annotations[noteSecret]; hidden {
		value = secret.Mask
	}
	return failure.New(failure.Usage, "%s: %q is not valid: %s", source, value, reason(err))
}

// reason takes the prefix away that strconv puts in front of its errors: the value was named already.
func reason(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "strconv.ParseBool"):
		return "expected true or false"
	case strings.Contains(text, "strconv.ParseInt"):
		return "expected a whole number"
	}
	return text
}

// flagError turns what the parser says of the command line into a failure that names the flag and never shows a value
// that might be a secret.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var missing *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && unknown.GetSpecifiedShortnames() != "":
		return usage(cmd, "unknown flag: -%s", unknown.GetSpecifiedName())
	case errors.As(err, &unknown):
		failed := usage(cmd, "unknown flag: --%s", unknown.GetSpecifiedName())
		if close := nearest(unknown.GetSpecifiedName(), flagNames(cmd)); close != "" {
			failed.Message += fmt.Sprintf(" (did you mean --%s?)", close)
		}
		return failed
	case errors.As(err, &missing):
		return usage(cmd, "--%s: the value is missing", missing.GetFlag().Name)
	case errors.As(err, &invalid):
		return badValue("--"+invalid.GetFlag().Name, invalid.GetFlag(), invalid.GetValue(), invalid.Unwrap())
	}
	return usage(cmd, "a flag is written wrongly: flags look like --name VALUE or --name=VALUE")
}

// usage is a failure whose remedy is the command's help.
func usage(cmd *cobra.Command, format string, args ...any) *failure.Error {
	return failure.New(failure.Usage, format, args...).WithRemedy("%s --help", cmd.CommandPath())
}

func flagNames(cmd *cobra.Command) []string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return names
}

// nearest is the known word that a mistyped or shortened one is meant to be; empty when none is near enough.
func nearest(word string, known []string) string {
	for _, k := range known {
		if len(word) > 2 && strings.HasPrefix(k, word) {
			return k
		}
	}
	best, found := max(2, len(word)/3)+1, ""
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := distance(word, k); d < best {
			best, found = d, k
		}
	}
	return found
}

// distance is the number of letters to insert, drop or replace to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
