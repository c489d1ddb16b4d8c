package ssmagent

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Registration is what a host registers with.
type Registration struct {
	ActivationID string
	Code         secret.Text
	Region       string
	Env          []string // NAME=value: proxy variables, SSL_CERT_FILE
}

// Register registers the host as a managed node and returns the node's id, replacing an identity that is there. It
// must run as (part of) a step's Change, with Kind in the engine's table under RegisterKind. The agent's unit is
// stopped before; starting it is the caller's.
//
// The agent blanks the stored identity before it calls AWS, so the store is copied first, and put back before Register
// returns an error; the engine's undo would do the same, but does not run with --no-rollback. A registration that AWS
// made and whose answer was lost leaves a node in the account that the host does not know.
func Register(ctx context.Context, tx *engine.Tx, reg Registration) (instanceID string, err error) {
	if err := reg.check(); err != nil {
		return "", err
	}
	form, err := FormOf(tx.Reader())
	if err != nil {
		return "", err
	}
	if err := tx.Unit(ctx, form.Unit, engine.UnitWant{Stop: true}); err != nil {
		return "", err
	}
	before, err := keepStore(tx)
	if err != nil {
		return "", err
	}
	tx.Note("registers with activation %s in %s", reg.ActivationID, reg.Region)
	err = tx.Effect(ctx, RegisterKind, before, func(ctx context.Context) error {
		result, err := tx.Run(ctx, reg.command(form.Binary()))
		switch {
		case err == nil:
			instanceID, err = reg.outcome(result, tx.Reader(), before)
		case ctx.Err() == nil:
			err = failure.Wrap(failure.Internal, err, "starting %s -register", form.Binary())
		}
		return err
	})
	if err == nil {
		return instanceID, nil
	}
	if _, back := tx.TakeBack(ctx, RegisterKind, before); back != nil {
		return "", notPutBack(err, back, before)
	}
	return "", err
}

// command is the agent's registration. -y: an unregistered store makes no question, a registered one was decided upon.
// The activation code can only be given as an argument.
func (reg Registration) command(binary string) host.Cmd {
	code := reg.Code.Reveal()
	return host.Cmd{
		Path:   binary,
		Args:   []string{"-register", "-y", "-id", reg.ActivationID, "-code", code, "-region", reg.Region},
		Env:    reg.Env,
		Stdin:  strings.NewReader(""),
		Secret: []string{code},
	}
}

// What the agent accepts; anything else it would find out only after it has blanked the stored identity. Source: SSM
// API model (botocore 1.43.11) and agent/appconfig of 3.3.987.0, read 2026-11-22. The lengths are not in the patterns:
// a counted repetition is a millisecond at every start of the program.
var (
	idCharacters     = regexp.MustCompile(`^[A-Za-z0-9-]+$`)
	codeCharacters   = regexp.MustCompile(`^[\x21-\x7e]+$`)
	regionCharacters = regexp.MustCompile(`^[a-z0-9-]+$`)
)

func sized(s string, least, most int, characters *regexp.Regexp) bool {
	return len(s) >= least && len(s) <= most && characters.MatchString(s)
}

func (reg Registration) check() error {
	what, text := "", ""
	switch {
	case !sized(reg.ActivationID, 36, 64, idCharacters):
		what, text = "activation id", reg.ActivationID
	case !sized(reg.Code.Reveal(), 20, 250, codeCharacters):
		what, text = "activation code", reg.Code.Reveal()
	case !sized(reg.Region, 1, 100, regionCharacters):
		what, text = "Region", reg.Region
	default:
		return nil
	}
	why := "it has the wrong length, or a character that does not belong there"
	for at, c := range []rune(text) {
		if c <= ' ' || c > '~' { // a quotation mark of a word processor, a line end; never part of the secret
			return failure.New(failure.Usage, "the %s is not one: character %d is %U", what, at+1, c)
		}
	}
	return failure.New(failure.Usage, "the %s is not one: %s", what, why)
}

// outcome reads how a registration ended. Only the exit status counts, and then the vault.
func (reg Registration) outcome(result host.Result, r host.Reader, before stored) (string, error) {
	if result.ExitCode != 0 {
		return "", refusal(result, reg)
	}
	now, err := ReadIdentity(r)
	if err != nil {
		return "", err
	}
	if !now.Registered() || now.InstanceID == before.FormerID {
		return "", failure.New(failure.Internal,
			"the SSM agent says that it registered this host in %s, and its vault has no new identity", reg.Region).
			WithEvidence("%s", strings.Join(append([]string{reg.clean(lastLine(result.Output))}, now.Damaged...), "; "))
	}
	return now.InstanceID, nil
}

// clean takes the activation code out of a text.
func (reg Registration) clean(text string) string {
	if reg.Code.Empty() {
		return text
	}
	return strings.ReplaceAll(text, reg.Code.Reveal(), secret.Mask)
}

// RegisterKind is the kind of effect that a registration is in the engine's undo table.
const RegisterKind = "ssm.registration"

// Kind says how a registration is taken back: as long as there is no new identity, the stored files are put back as
// they were. A new identity cannot be taken back from this side, for its slot of the activation is spent.
func Kind() engine.Kind {
	return engine.Kind{
		Undo: func(_ context.Context, h host.Host, data []byte) ([]string, error) {
			var before stored
			if err := json.Unmarshal(data, &before); err != nil {
				return nil, failure.Wrap(failure.JournalUnreadable, err, "reading what a registration recorded")
			}
			return undo(h, before)
		},
		Committed: func(_ context.Context, r host.Reader, data []byte) (string, bool) {
			var before stored
			if json.Unmarshal(data, &before) != nil {
				return "", false // Undo will say so
			}
			now, err := ReadIdentity(r)
			if err != nil || !before.replacedBy(now) {
				return "", false
			}
			return "managed node " + now.InstanceID, true
		},
	}
}
