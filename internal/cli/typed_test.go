package cli_test

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/rehearsal"
)

// typed are the command lines of anywhere in a line of shell, without the program's name.
func typed(line string) (all [][]string) {
	program := regexp.MustCompile(`^(\./bin/)?anywhere$`)
	for _, command := range shellWords(line) {
		if at := slices.IndexFunc(command, program.MatchString); at >= 0 {
			all = append(all, command[at+1:])
		}
	}
	return all
}

// shellWords splits a line as a shell does: into commands between | ; &&, and those into words, without redirections
// and comments.
func shellWords(line string) (commands [][]string) {
	var words []string
	word, quote, inWord := "", rune(0), false
	end := func() {
		if inWord {
			words = append(words, word)
		}
		word, inWord = "", false
	}
	for _, r := range line + " \n" {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == '#' && !inWord, r == '\n':
			end()
			return append(commands, redirected(words))
		case r == '|' || r == ';' || r == '&':
			end()
			commands, words = append(commands, redirected(words)), nil
		case r == ' ' || r == '\t':
			end()
		default:
			word, inWord = word+string(r), true
		}
	}
	return commands
}

// redirected drops redirections.
func redirected(words []string) (rest []string) {
	for i := 0; i < len(words); i++ {
		switch words[i] {
		case "<", ">", ">>", "2>":
			i++ // and the file
		default:
			rest = append(rest, words[i])
		}
	}
	return rest
}

func TestShellWords(t *testing.T) {
	for line, want := range map[string]string{
		`anywhere version`: `[[version]]`,
		`sudo anywhere register --token - < token # a`:       `[[register --token -]]`,
		`anywhere a 'b c' "d|e" | ssh h sudo anywhere f -`:   `[[a b c d|e] [f -]]`,
		`make demo    # builds anywhere`:                     `[]`,
		`AWS_REGION=x ./bin/anywhere config show; echo done`: `[[config show]]`,
	} {
		all := []string{}
		for _, args := range typed(line) {
			all = append(all, "["+strings.Join(args, " ")+"]")
		}
		if got := "[" + strings.Join(all, " ") + "]"; got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

// errThere is how the host answers: the command line was good, and got as far as looking at the host.
var errThere = failure.New(failure.NotRoot, "the command line got as far as the host")

// try runs a command line as far as the host and returns the exit status: 2 says that something is wrong with the line.
func try(args []string) (status int, said string) {
	var out, errs bytes.Buffer
	secret := canary
	if slices.Contains(args, "--token") {
		secret = joinToken()
	}
	env := cli.Env{
		Host: func() (host.Host, error) { return host.Host{}, errThere },
		Now:  time.Now, NewRunID: func() string { return "run-1" },
		Streams: cli.Streams{In: strings.NewReader(secret), Out: &out, Err: &errs},
		ReadFile: func(path string) ([]byte, error) {
			switch {
			case strings.HasPrefix(path, "/etc/"):
				return nil, fs.ErrNotExist
			case strings.HasSuffix(path, ".yaml"):
				return []byte("region: eu-central-1\n"), nil
			case strings.HasSuffix(path, ".pem"): // an authority that nobody has the key of
				return os.ReadFile("testdata/authority.pem")
			}
			return []byte(secret), nil
		},
		Faults: rehearsal.Faults,
		Emulate: func(context.Context, cli.EmulatorRequest) (lifecycle.Report, error) {
			return lifecycle.Report{}, errThere
		},
		Rehearse: func(_ context.Context, req cli.RehearseRequest) (lifecycle.Report, error) {
			for _, name := range req.Faults {
				if !slices.ContainsFunc(rehearsal.Faults(), func(f cli.EmulatedFault) bool { return f.Name == name }) {
					return lifecycle.Report{}, failure.New(failure.Usage, "there is no fault %s", name)
				}
			}
			scenario, _ := cli.FindScenario(req.Scenario)
			if status, said := try(append([]string{scenario.Verb}, req.Args...)); status == failure.ExitUsage {
				return lifecycle.Report{}, failure.New(failure.Usage, "%s", said)
			}
			return lifecycle.Report{}, errThere
		},
	}
	args = slices.Clone(args)
	for i, arg := range args { // what stands for an id
		if arg == "ID" {
			args[i] = activationID
		}
	}
	status = cli.Main(context.Background(), env, args)
	return status, errs.String()
}

// goodLine holds a command line of a document or an example to the real parser, flags and arguments.
func goodLine(t *testing.T, where string, args []string) {
	t.Helper()
	if status, said := try(args); status != failure.ExitOK && status != errThere.Entry().Exit {
		t.Errorf("%s: anywhere %s: exit status %d: %s", where, strings.Join(args, " "), status, said)
	}
}

func TestExamplesAreGoodCommandLines(t *testing.T) {
	everyCommand(tree(), func(cmd *cobra.Command) {
		found := false
		for line := range strings.SplitSeq(cmd.Example, "\n") {
			for _, args := range typed(line) {
				goodLine(t, "example of "+cmd.CommandPath(), args)
				found = found || strings.HasPrefix(strings.Join(args, " "), section(cmd))
			}
		}
		if !found {
			t.Errorf("no example of %s has the command itself: %s", cmd.CommandPath(), cmd.Example)
		}
	})
}

func TestTryFindsWhatIsWrong(t *testing.T) {
	for _, line := range []string{
		"anywhere register --clutser x", "anywhere regster", "anywhere activation delete x", "anywhere preflight os.arch",
		"anywhere rehearse --fault locusts", "anywhere rehearse -- --bogus", "anywhere completion tcsh",
		"anywhere register --activation-id ID --activation-code-file -", // without --region
	} {
		if status, _ := try(typed(line)[0]); status != failure.ExitUsage {
			t.Errorf("%s: exit status %d", line, status)
		}
	}
}

// documents are the texts that people read, by their paths from the top of the repository.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(filepath.Join("..", ".."), file)
			if err != nil {
				t.Fatal(err)
			}
			texts[name] = string(text)
		}
	}
	return texts
}

var (
	consoleBlock = regexp.MustCompile("(?s)```(?:console|sh)\n(.*?)```")
	prompt       = regexp.MustCompile(`^[$#] `)
)

// Command lines in the documents' blocks are good ones.
func TestDocumentsHaveGoodCommandLines(t *testing.T) {
	found := 0
	for name, text := range documents(t) {
		for _, block := range consoleBlock.FindAllStringSubmatch(text, -1) {
			for line := range strings.Lines(block[1]) {
				for _, args := range typed(prompt.ReplaceAllString(line, "")) {
					goodLine(t, name, args)
					found++
				}
			}
		}
	}
	if found < 3 {
		t.Errorf("found only %d command lines in the documents", found)
	}
}

// promised are the commands of the contract that are not built yet. Documents may name them, saying so.
var promised = []string{
	"fleet", "role", "userdata",
}

// What the documents and the catalogue of failures name in passing, `anywhere register --token -`, exists: the command
// and its flags.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	span := regexp.MustCompile("`(?:\\./bin/|sudo )?anywhere ([a-z][^`]*)`")
	texts, found := documents(t), 0
	for name, text := range texts {
		for _, match := range span.FindAllStringSubmatch(text, -1) {
			words := strings.Fields(match[1])
			if slices.Contains(promised, words[0]) {
				continue
			}
			found++
			path := words
			if at := slices.IndexFunc(words, func(w string) bool { return !regexp.MustCompile(`^[a-z]+$`).MatchString(w) }); at >= 0 {
				path = words[:at]
			}
			cmd, _, err := tree().Find(path)
			if err != nil || !cmd.HasParent() {
				t.Errorf("%s: `anywhere %s`: there is no such command", name, match[1])
				continue
			}
			for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(match[1], -1) {
				if lookup(cmd, flag[1]) == nil {
					t.Errorf("%s: `anywhere %s`: there is no --%s", name, match[1], flag[1])
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("found only %d commands in the documents", found)
	}
	for _, name := range promised {
		if cmd, _, err := tree().Find([]string{name}); err == nil && cmd.HasParent() {
			t.Errorf("%s is built: take it out of promised", name)
		}
	}
}

// lookup finds a flag of a command or of those above it.
func lookup(cmd *cobra.Command, name string) *pflag.Flag {
	cmd.InitDefaultHelpFlag()
	if f := cmd.LocalFlags().Lookup(name); f != nil {
		return f
	}
	return cmd.InheritedFlags().Lookup(name)
}

// Links between documents lead somewhere.
func TestLinksOfDocuments(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for name, text := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", "..", filepath.Dir(name), match[1])); err != nil {
				t.Errorf("%s: the link to %s is dead: %v", name, match[1], err)
			}
		}
	}
}

// The exit statuses are one contract, wherever they stand: the constants, help, the README.
func TestExitStatusesAreTheSameEverywhere(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "failure", "failure.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var constants []int
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Exit") {
			status, err := strconv.Atoi(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Error(err)
			}
			constants = append(constants, status)
		}
		return true
	})
	var table []int
	readme := documents(t)["README.md"]
	for _, row := range cli.ExitStatuses {
		table = append(table, row.Status)
		if want := "\n| " + strconv.Itoa(row.Status) + " | " + row.Meaning + " |\n"; !strings.Contains(readme, want) {
			t.Errorf("README.md does not have the row %s", strings.TrimSpace(want))
		}
	}
	if !slices.Equal(constants, table) || len(table) < 15 {
		t.Errorf("failure has the exit statuses %v, help has %v", constants, table)
	}
	if rows := regexp.MustCompile(`(?m)^\| [0-9]+ \|`).FindAllString(readme, -1); len(rows) != len(table) {
		t.Errorf("README.md has %d rows of exit statuses, help has %d", len(rows), len(table))
	}
}
