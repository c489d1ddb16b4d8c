package cli

import (
	"cmp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/report"
)

// RehearseRequest is what "anywhere rehearse" was asked for.
type RehearseRequest struct {
	Scenario string
	Faults   []string // from the catalogue of faults
	Keep     string   // folder in which the throw-away host stays; empty removes it
	Cluster  string   // by name or ARN; empty is the story's own
	Region   string   // empty is the story's own
	Config   string   // the caller's file, which the commands read as the host's own; empty is none
	JSON     bool     // the commands' documents are collected in the result, and stdout is left alone
	Quiet    bool
	Color    string       // --color for the commands; empty lets them look for themselves
	Style    report.Style // of what is told on stdout

	Args  []string    // flags for the real command, as they were typed
	Given []GivenFlag // and the same, taken apart
}

// GivenFlag is a flag of a command line, as it was typed.
type GivenFlag struct {
	Name  string // the long one; empty for a word that is no flag
	Value string
	Words []string

	known bool
}

// Scenario is a story that can be rehearsed.
type Scenario struct {
	Name  string
	Verb  string // the command whose flags can be given
	Story string // what happens in it
}

// Scenarios are all stories, the one that is played when none is named first.
var Scenarios = []Scenario{
	{"lifecycle", "register", "a token, checks, register, register again, status, upgrade, move, deregister"},
	{"register", "register", "the same up to status: the host stays registered"},
	{"operator", "register", "register with an operator's credentials and no token; AWS is asked too"},
	{"drain", "drain", "the host's tasks move away, and it takes tasks again"},
	{"upgrade", "upgrade", "newer agents, and back to the old ones"},
	{"snap", "upgrade", "an Ubuntu host whose SSM agent is a snap, to its end"},
	{"move", "move", "to another cluster, and again, which changes nothing"},
	{"deregister", "deregister", "the host is given up, and again, which changes nothing"},
	{AllFaults, "register", "every fault of the catalogue, each on a host of its own, as a table"},
}

// AllFaults is the scenario that is no single story.
const AllFaults = "all-faults"

// FindScenario is the story of that name.
func FindScenario(name string) (Scenario, bool) {
	switch name {
	case "":
		return Scenarios[0], true
	case "life": // its name was shorter once
		name = "lifecycle"
	}
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return Scenarios[i], true
}

func scenarioNames() (names []string) {
	for _, s := range Scenarios {
		names = append(names, s.Name)
	}
	return names
}

func newRehearse(a *app) *cobra.Command {
	req := &RehearseRequest{}
	stories := ""
	for _, s := range Scenarios {
		stories += "\n  " + s.Name + strings.Repeat(" ", 12-len(s.Name)) + s.Story
	}
	cmd := &cobra.Command{
		Use:   "rehearse [SCENARIO] [flags] [FLAGS OF THE REAL COMMAND]",
		Short: "Play the real commands against an embedded AWS, on a throw-away host",
		Long: long(`
Runs the real commands end to end against an embedded ECS, SSM and artifact service on loopback and a throw-away host
root: without an AWS account, without root, without a change to this machine. The checks see this machine's own kernel,
memory, disk and system.

Scenarios:` + stories + `

Every flag of the real command can be given, as in the line of a runbook. The real command is the scenario's own; of
lifecycle, operator and all-faults it is register, of snap upgrade. --cluster and --region say where the story takes
place, whatever the command. With --dry-run the story ends with it. What only the real AWS knows is replaced, with a
warning: the activation, --artifacts, --keyring, and endpoints. --output, --timeout, --color and --config are rehearse's
own; behind -- all flags are the real command's. The file of --config is the throw-away host's too.

After each command it tells what changed on the host and what AWS was asked for. A command that fails ends the story,
with that command's cause; one that --fault makes fail is what was asked for, and no failure.`),
		Example: `  anywhere rehearse
  anywhere rehearse register --cluster shop --attribute rack=7 --ecs-config ECS_RESERVED_MEMORY=256 --dry-run
  anywhere rehearse register --fault activation-expired
  anywhere rehearse move --cluster shop-2 --drain-timeout 1m --yes
  anywhere rehearse all-faults`,
		ValidArgs: scenarioNames(),
		RunE:      func(cmd *cobra.Command, args []string) error { return a.runRehearse(cmd, args, req) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.Var(wordsValue{to: &req.Faults}, "fault", "faults to bring in: NAME, NAME=ARGUMENT, either with *N for the next N calls;\n"+
		"\"anywhere emulator faults\" lists them")
	f.StringVar(&req.Keep, "keep", "", "`DIR` in which the throw-away host stays; it must be empty or missing")
	return cmd
}

func (a *app) runRehearse(cmd *cobra.Command, args []string, req *RehearseRequest) error {
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args, req.Args = args[:dash], args[dash:]
	}
	if len(args) > 1 {
		return usage(cmd, "expected one scenario, and got %d", len(args))
	}
	scenario, known := FindScenario(strings.Join(args, ""))
	if !known {
		failed := usage(cmd, "there is no scenario %q; there is: %s", args[0], strings.Join(scenarioNames(), ", "))
		if near := nearest(args[0], scenarioNames()); near != "" {
			failed.Message += " (did you mean " + near + "?)"
		}
		return failed
	}
	req.Scenario = scenario.Name
	if err := a.giveFlags(cmd, scenario, req); err != nil {
		return err
	}
	req.Region = a.global.region
	if a.origins["config"].kind != byDefault {
		req.Config = a.global.config
	}
	if a.origins["color"].kind == byFlag {
		req.Color = a.global.color
	}
	a.outcome.text, req.JSON, req.Quiet = a.message, a.global.output == outputJSON, a.global.quiet
	req.Style = a.style(a.env.Streams.OutTTY)
	rep, err := a.env.Rehearse(cmd.Context(), *req)
	if !a.global.quiet {
		for _, text := range rep.Warnings {
			a.say("warning: " + text)
		}
	}
	rep.Warnings = append(a.outcome.report.Warnings, rep.Warnings...)
	a.outcome.report = rep
	return err
}

// giveFlags holds the flags for the real command to that command, before anything is played. --cluster and --region say
// where the story takes place also where the command has no such flag.
func (a *app) giveFlags(cmd *cobra.Command, scenario Scenario, req *RehearseRequest) error {
	tree := newRoot(newApp(a.env))
	verb, _, err := tree.Find([]string{scenario.Verb})
	if err != nil {
		return err
	}
	own := func(name, short string) *pflag.Flag {
		return cmp.Or(find(verb.Flags(), name, short), find(tree.PersistentFlags(), name, short))
	}
	place := pflag.NewFlagSet("", pflag.ContinueOnError)
	place.String("cluster", "", "")
	var args []string
	for _, g := range apart(req.Args, func(name, short string) *pflag.Flag { return cmp.Or(own(name, short), find(place, name, short)) }) {
		if g.Name == "cluster" {
			req.Cluster = g.Value
			if g.Value == "" {
				return usage(cmd, "--cluster: the value is missing")
			}
			if own("cluster", "") == nil {
				continue
			}
		}
		req.Given, args = append(req.Given, g), append(args, g.Words...)
	}
	req.Args = args
	if err := verb.ParseFlags(args); err != nil {
		return flagError(verb, err)
	}
	if rest := verb.Flags().Args(); len(rest) > 0 {
		return usage(verb, "%s takes flags only, and got %d other arguments (not shown)", verb.CommandPath(), len(rest))
	}
	return nil
}

// rehearseOwn are the flags of every command that are rehearse's own when it has them; rehearseBoth are also the real
// command's. All others of every command are the real command's.
var (
	rehearseOwn  = []string{"output", "timeout", "config", "color", "help"}
	rehearseBoth = []string{"region", "quiet", "verbose"}
)

// natural brings a command line of rehearse into the form with which the parser can do: what is the real command's
// stands behind "--". Every other command line is left as it is.
func natural(root *cobra.Command, args []string) []string {
	cmd, rest, err := root.Find(args)
	if err != nil || cmd.Name() != "rehearse" || cmd.Parent() != root {
		return args
	}
	rest, behind, dashed := cutAt(rest, "--")
	own := func(name, short string) *pflag.Flag {
		return cmp.Or(find(cmd.LocalNonPersistentFlags(), name, short), find(root.PersistentFlags(), name, short))
	}
	lookup := func(name, short string) *pflag.Flag {
		f := own(name, short)
		for _, s := range Scenarios {
			if verb, _, err := root.Find([]string{s.Verb}); err == nil && f == nil {
				f = find(verb.Flags(), name, short)
			}
		}
		return f
	}
	line, real, stranger := []string{cmd.Name()}, []string{}, false
	for _, g := range apart(rest, lookup) {
		if stranger = stranger || g.stranger(); stranger && g.word() {
			continue // whether it is the stranger's value cannot be told, and does not matter: the stranger will be refused
		}
		global := find(root.PersistentFlags(), g.Name, "") != nil
		mine := g.word() || slices.Contains(rehearseOwn, g.Name) || !global && own(g.Name, "") != nil
		both := slices.Contains(rehearseBoth, g.Name)
		if mine || both {
			line = append(line, g.Words...)
		}
		if !mine {
			real = append(real, g.Words...)
		}
	}
	if len(real) == 0 && !dashed {
		return line
	}
	return slices.Concat(line, []string{"--"}, real, behind)
}

// word tells what is no flag.
func (g GivenFlag) word() bool { return len(g.Words[0]) < 2 || g.Words[0][0] != '-' }

// stranger tells a flag that nobody knows.
func (g GivenFlag) stranger() bool { return !g.known && !g.word() && g.Name != "help" }

func cutAt(words []string, at string) (before, after []string, found bool) {
	if i := slices.Index(words, at); i >= 0 {
		return words[:i], words[i+1:], true
	}
	return words, nil, false
}

// find is a flag by its long name, or by its shorthand where that is given.
func find(flags *pflag.FlagSet, name, short string) *pflag.Flag {
	if short != "" {
		return flags.ShorthandLookup(short)
	}
	return flags.Lookup(name)
}

// apart takes a command line apart into its flags, each with its value, and words that are none. A flag that nobody knows
// is taken for one without a value: the parser will refuse it by its name.
func apart(args []string, lookup func(name, short string) *pflag.Flag) (all []GivenFlag) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		next := func() (value string, words []string) { // the value in the next word, where there is one
			if i+1 >= len(args) {
				return "", nil
			}
			i++
			return args[i], args[i : i+1]
		}
		switch {
		case strings.HasPrefix(arg, "--") && arg != "--":
			name, value, assigned := strings.Cut(arg[2:], "=")
			g := GivenFlag{Name: name, Value: value, Words: []string{arg}}
			f := lookup(name, "")
			if g.known = f != nil; g.known && !assigned && f.NoOptDefVal == "" {
				var words []string
				g.Value, words = next()
				g.Words = append(g.Words, words...)
			}
			all = append(all, g)
		case len(arg) > 1 && arg[0] == '-' && arg != "--":
			all = append(all, shorthands(arg, lookup, next)...)
		default:
			all = append(all, GivenFlag{Words: []string{arg}})
		}
	}
	return all
}

// shorthands takes a group of one-letter flags apart; the last one may have a value.
func shorthands(group string, lookup func(name, short string) *pflag.Flag, next func() (string, []string)) (all []GivenFlag) {
	for i := 1; i < len(group); i++ {
		f := lookup("", group[i:i+1])
		switch {
		case group[i] == 'h' && f == nil: // the library's, which comes later
			all = append(all, GivenFlag{Name: "help", Words: []string{"-h"}, known: true})
		case f == nil:
			return append(all, GivenFlag{Name: "", Words: []string{"-" + group[i:]}})
		case f.NoOptDefVal != "":
			all = append(all, GivenFlag{Name: f.Name, Words: []string{"-" + group[i:i+1]}, known: true})
		case i+1 < len(group):
			return append(all, GivenFlag{Name: f.Name, Value: strings.TrimPrefix(group[i+1:], "="), Words: []string{"-" + group[i:]}, known: true})
		default:
			value, words := next()
			return append(all, GivenFlag{Name: f.Name, Value: value, Words: append([]string{"-" + group[i:]}, words...), known: true})
		}
	}
	return all
}
