package cli

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// maxSecret bounds what is read for a token or a code: either is one line.
const maxSecret = 64 << 10

// activationOptions are the ways to bring an activation.
type activationOptions struct {
	token    string // - or FILE
	id       string
	code     string
	codeFile string // - or FILE
}

func (o *activationOptions) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.token, "token", "", "join token, in a `FILE`; - reads it from stdin")
	notInConfig(flags, "token", "a token is good for one registration")
	flags.StringVar(&o.id, "activation-id", "", "id of an SSM activation")
	notInConfig(flags, "activation-id", "an activation is good for one registration")
	flags.StringVar(&o.codeFile, "activation-code-file", "", "activation code, in a `FILE`; - reads it from stdin")
	notInConfig(flags, "activation-code-file", "an activation is good for one registration")
	flags.StringVar(&o.code, "activation-code", "",
		"activation code itself; every user of this host can read it: better use --activation-code-file -")
	isSecret(flags, "activation-code")
	fromEnv(flags, "activation-code", codeVariable)
}

// activation is what the options bring; nil when they bring nothing.
func (a *app) activation(cmd *cobra.Command, o *activationOptions) (*control.Token, error) {
	a.redactor.Add(o.code, strings.TrimSpace(o.code))
	codeByFlag := a.origins["activation-code"].kind == byFlag
	switch {
	case o.token != "" && (o.id != "" || o.codeFile != "" || codeByFlag):
		return nil, usage(cmd, "--token and --activation-… exclude each other: a token holds id and code")
	case o.token != "":
		return a.joinToken(cmd, o.token)
	case o.codeFile != "" && codeByFlag:
		return nil, usage(cmd, "--activation-code and --activation-code-file exclude each other")
	case o.id == "" && o.codeFile == "" && o.code == "" && a.origins["activation-id"].kind != byFlag:
		return nil, nil
	case o.id == "":
		return nil, usage(cmd, "%s needs --activation-id: a code is good with its id only", a.codeSource(o))
	}
	if err := checkActivationID("--activation-id", o.id); err != nil {
		return nil, err
	}
	code, err := a.activationCode(cmd, o, codeByFlag)
	if err != nil {
		return nil, err
	}
	if a.global.region == "" {
		return nil, usage(cmd, "--activation-id needs --region (or AWS_REGION): an activation is good in its own Region only")
	}
	return &control.Token{ActivationID: o.id, Code: secret.NewText(code)}, nil
}

// codeSource names what brings the code.
func (a *app) codeSource(o *activationOptions) string {
	if o.codeFile != "" {
		return "--activation-code-file"
	}
	return a.gave("activation-code")
}

func (a *app) joinToken(cmd *cobra.Command, from string) (*control.Token, error) {
	if strings.HasPrefix(from, control.TokenPrefix) {
		a.redactor.Add(from)
		return nil, usage(cmd, "--token takes - or the name of a file, not the token itself: "+
			"every user of this host could read it there").
			WithRemedy("put the token into a file and use: anywhere register --token - < FILE; " +
				"this one may have been seen: delete its activation and make another")
	}
	line, err := a.readSecret(cmd, "--token", "join token", from)
	if err != nil {
		return nil, err
	}
	token, err := control.ParseToken(line)
	if err != nil {
		return nil, err
	}
	a.redactor.Add(token.Code.Reveal())
	return &token, nil
}

func (a *app) activationCode(cmd *cobra.Command, o *activationOptions, byFlag bool) (string, error) {
	source, code := a.gave("activation-code"), o.code
	switch {
	case o.codeFile != "":
		var err error
		source = "--activation-code-file"
		if code, err = a.readSecret(cmd, source, "activation code", o.codeFile); err != nil {
			return "", err
		}
	case code == "":
		return "", usage(cmd, "--activation-id needs the code: --activation-code-file -, or the variable %s", codeVariable)
	case byFlag:
		a.warn("--activation-code shows the code to every user of this host; better use --activation-code-file -")
	}
	code = strings.TrimRight(code, "\r\n")
	return code, checkCode(source, code)
}

// readSecret reads a secret from stdin (-) or a file. At a terminal it asks, without echo. The secret is known to the
// redactor before anybody else sees it.
func (a *app) readSecret(cmd *cobra.Command, flag, what, from string) (string, error) {
	var text string
	var err error
	switch {
	case from == "-" && a.env.Streams.InTTY && !a.env.Streams.interactive():
		return "", usage(cmd, "%s -: stdin is a terminal and stderr is not, so the %s cannot be asked for; "+
			"bring it through a pipe or a file", flag, what)
	case from == "-" && a.env.Streams.InTTY:
		fmt.Fprintf(a.err, "%s (not shown): ", what)
		text, err = await(cmd.Context(), func() (string, error) { return a.env.Streams.ReadSecret(cmd.Context()) })
		fmt.Fprintln(a.err)
	case from == "-":
		text, err = await(cmd.Context(), func() (string, error) {
			data, err := io.ReadAll(io.LimitReader(a.env.Streams.In, maxSecret))
			return string(data), err
		})
	default:
		var data []byte
		data, err = a.env.ReadFile(from)
		text = string(data)
	}
	a.redactor.Add(text, strings.TrimSpace(text))
	switch {
	case err != nil && from == "-":
		return "", failure.Wrap(failure.Usage, err, "%s -: read the %s from stdin", flag, what)
	case err != nil && looksSecret(from):
		return "", usage(cmd, "%s: there is no such file (its name is not shown: it looks like the %s itself, "+
			"which belongs into a file or into stdin)", flag, what)
	case err != nil:
		return "", failure.Wrap(failure.Usage, err, "%s: read the %s from %s", flag, what, from)
	case strings.TrimSpace(text) == "":
		return "", usage(cmd, "%s: the %s is empty", flag, what)
	}
	return text, nil
}

// await is read's result, unless ctx ends first: a read from a terminal or pipe cannot be called back.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		text, err := read()
		answers <- answer{text, err}
	}()
	select {
	case got := <-answers:
		return got.text, got.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// looksSecret reports whether the name of a file that does not exist may be a secret given in a file's place.
func looksSecret(name string) bool {
	return len(name) >= 20 && !strings.ContainsAny(name, `/\. `)
}

// activationID is the form of an activation's id. Source: SSM API model, ActivationId, read 2026-11-22.
var activationID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func checkActivationID(source, id string) error {
	if activationID.MatchString(id) {
		return nil
	}
	const rule = "expected 32 hexadecimal digits in lower case with dashes, like 01234567-89ab-cdef-0123-456789abcdef"
	for i, r := range []rune(id) {
		if !strings.ContainsRune("0123456789abcdef-", r) {
			return failure.New(failure.Usage, "%s: character %d is %s; %s", source, i+1, name(r), rule)
		}
	}
	return failure.New(failure.Usage, "%s: the length or the place of a dash is wrong (%d characters); %s",
		source, len(id), rule)
}

// Limits of an activation code. Source: SSM API model, ActivationCode, read 2026-11-22.
const minCode, maxCode = 20, 250

// checkCode refuses what cannot be a code, without showing it: only the character that is wrong is named.
func checkCode(source, code string) error {
	rule := fmt.Sprintf("expected %d to %d letters, digits and signs without blanks", minCode, maxCode)
	for i, r := range []rune(code) {
		if r < '!' || r > '~' {
			return failure.New(failure.Usage, "%s: character %d of the activation code is %s; %s", source, i+1, name(r), rule)
		}
	}
	if len(code) < minCode || len(code) > maxCode {
		return failure.New(failure.Usage, "%s: the activation code has %d characters; %s", source, len(code), rule)
	}
	return nil
}

// strays are characters that come along when text is copied from a document or a chat.
var strays = map[rune]string{
	' ': "a blank", '\t': "a tab", '\n': "a line feed", '\r': "a carriage return",
	'\u00a0': "a no-break space", '\u200b': "a zero-width space", '\ufeff': "a byte order mark",
	'\u201c': "a typographic quote", '\u201d': "a typographic quote", '\u201e': "a typographic quote",
	'\u2018': "a typographic quote", '\u2019': "a typographic quote",
	'\u2010': "a typographic hyphen", '\u2011': "a typographic hyphen", '\u2012': "a typographic dash",
	'\u2013': "a typographic dash", '\u2014': "a typographic dash", '\u2212': "a minus sign, not a hyphen",
	unicode.ReplacementChar: "not UTF-8",
}

// name names a character that does not belong where it is.
func name(r rune) string {
	stray, known := strays[r]
	switch {
	case known && r > '~':
		return fmt.Sprintf("%s (U+%04X)", stray, r)
	case known:
		return stray
	case unicode.In(r, unicode.Cyrillic):
		return fmt.Sprintf("a Cyrillic letter (U+%04X), even if it looks like a Latin one", r)
	case unicode.In(r, unicode.Greek):
		return fmt.Sprintf("a Greek letter (U+%04X), even if it looks like a Latin one", r)
	case r < ' ' || r > '~':
		return fmt.Sprintf("U+%04X", r)
	}
	return fmt.Sprintf("%q", r)
}
