package control

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/partition"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Limits of CreateActivation. Source: SSM API reference, CreateActivation and Tag, read 2026-11-22.
const (
	MaxHosts = 1000
	MaxLife  = 30 * 24 * time.Hour

	maxRole     = 64 // with its path, without the ARN
	maxName     = 256
	maxAbout    = 256 // characters of the description
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// How long a role that Systems Manager does not know is asked for again. IAM needs some seconds, rarely more than a
// minute, to tell all of AWS about a new role or a changed trust policy; Terraform's provider waits as long (facts: aws
// B2, row 18).
const (
	roleLag   = 2 * time.Minute
	rolePause = 5 * time.Second
)

// Order is an activation to be made.
type Order struct {
	Role  string        // of the hosts: name, path and name, or ARN
	Limit int           // how many hosts
	Life  time.Duration // until it expires
	Name  string        // of each node; may be empty
	About string        // description of the activation; may be empty
	Tags  []Tag         // of each node, not of the activation
}

// Tag is a tag of a managed node.
type Tag struct{ Key, Value string }

// Made is an activation that was just made: AWS tells the code this once.
type Made struct {
	ID      string
	Code    secret.Text
	Role    string // with its path
	Expires time.Time
}

var rolePattern = regexp.MustCompile(`^[\w+=,.@-]+(/[\w+=,.@-]+)*$`)

// isLabel reports whether s may be a node's name, or a tag's key or value: letters, blanks, digits and some signs.
func isLabel(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", r)
	}) < 0
}

// Check returns a usage error, which names the flag, for what AWS would refuse. It makes no call.
func (o Order) Check() error {
	if _, _, err := roleOf(o.Role); err != nil {
		return err
	}
	switch {
	case o.Limit < 1 || o.Limit > MaxHosts:
		return failure.New(failure.Usage, "--limit is %d; an activation is for 1 to %d hosts", o.Limit, MaxHosts)
	case o.Life <= 0 || o.Life > MaxLife:
		return failure.New(failure.Usage, "--expires is %s; an activation lasts at most 30d", o.Life).
			WithRemedy("make one for each wave of hosts")
	case utf8.RuneCountInString(o.Name) > maxName:
		return failure.New(failure.Usage,
			"--name has %d characters; expected %d at most", utf8.RuneCountInString(o.Name), maxName)
	case !isLabel(o.Name):
		return failure.New(failure.Usage,
			"--name: %q has a character that is not allowed; expected letters, digits, blanks and _.:/=+-@", o.Name)
	case !isLabel(o.About) || utf8.RuneCountInString(o.About) > maxAbout: // it is ours, and no flag
		return failure.New(failure.Internal, "an activation cannot be described as %q", o.About)
	case len(o.Tags) > maxTags:
		return failure.New(failure.Usage, "--tag is given %d times; a node has at most %d tags", len(o.Tags), maxTags)
	}
	for _, t := range o.Tags {
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

func (t Tag) check() error {
	switch {
	case t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey:
		return failure.New(failure.Usage, "--tag: the key %q is empty or longer than %d characters", t.Key, maxTagKey)
	case utf8.RuneCountInString(t.Value) > maxTagValue:
		return failure.New(failure.Usage, "--tag: the value of %q is longer than %d characters", t.Key, maxTagValue)
	case !isLabel(t.Key) || !isLabel(t.Value):
		return failure.New(failure.Usage,
			"--tag: %q has a character that is not allowed; expected letters, digits, blanks and _.:/=+-@",
			t.Key+"="+t.Value)
	case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
		return failure.New(failure.Usage, "--tag: the key %q begins with aws:, which AWS keeps for itself", t.Key)
	}
	return nil
}

// roleOf takes a role's name, path and name, or ARN for what CreateActivation wants: the name with its path, but never
// the ARN (which it calls a "not existing role"). The account is empty but for an ARN.
func roleOf(text string) (role, account string, err error) {
	role = strings.TrimPrefix(text, "/")
	if strings.HasPrefix(text, "arn:") {
		arn, err := partition.ParseARN(text)
		name, isRole := strings.CutPrefix(arn.Resource, "role/")
		if err != nil || arn.Service != "iam" || !isRole {
			return "", "", failure.New(failure.Usage,
				"--iam-role: %q is not the ARN of an IAM role (arn:aws:iam::ACCOUNT:role/NAME)", text)
		}
		role, account = name, arn.Account
	}
	switch {
	case !rolePattern.MatchString(role):
		return "", "", failure.New(failure.Usage, "--iam-role: %q is not a role's name, path and name, or ARN", text)
	case len(role) > maxRole:
		return "", "", failure.New(failure.Usage,
			"--iam-role: %q has %d characters with its path; Systems Manager takes %d at most", role, len(role), maxRole)
	case strings.HasPrefix(role, "aws-service-role/"):
		return "", "", failure.New(failure.Usage, "--iam-role: %q is a service-linked role; Systems Manager takes none", role)
	}
	return role, account, nil
}

// CreateActivation makes an activation. A role that Systems Manager does not know, or may not assume, is asked for
// again for two minutes, for it may be new; note says so once. A call that is under way is not cut off by ctx: its
// answer has the code.
func (o *Operator) CreateActivation(ctx context.Context, order Order, note func(string)) (Made, error) {
	if err := order.Check(); err != nil {
		return Made{}, err
	}
	role, account, err := roleOf(order.Role)
	if err != nil {
		return Made{}, err
	}
	if account != "" && account != o.Account {
		return Made{}, failure.New(failure.Usage,
			"--iam-role is in account %s, and the credentials are of account %s", account, o.Account).
			WithEvidence("%s", o.ARN)
	}
	expires := o.Now().Add(order.Life).UTC().Truncate(time.Second)
	input := &ssm.CreateActivationInput{
		IamRole: &role, RegistrationLimit: aws.Int32(int32(order.Limit)), ExpirationDate: &expires,
	}
	if order.Name != "" {
		input.DefaultInstanceName = &order.Name
	}
	if order.About != "" {
		input.Description = &order.About
	}
	for _, t := range order.Tags {
		input.Tags = append(input.Tags, types.Tag{Key: aws.String(t.Key), Value: aws.String(t.Value)})
	}
	for waited := time.Duration(0); ; waited += rolePause {
		if ctx.Err() != nil {
			return Made{}, called(ctx, ctx.Err(), "create the activation")
		}
		out, err := o.ssm.CreateActivation(context.WithoutCancel(ctx), input)
		switch {
		case err == nil:
			return Made{
				ID: aws.ToString(out.ActivationId), Code: secret.NewText(aws.ToString(out.ActivationCode)),
				Role: role, Expires: expires,
			}, nil
		case !aboutRole(err):
			return Made{}, called(context.WithoutCancel(ctx), err, "create the activation")
		case waited >= roleLag:
			f := failure.New(failure.RoleUnusable,
				"Systems Manager knows no role %s that it may assume, and did not within %s", role, roleLag).
				WithEvidence("%s", words(err))
			f.Err = err
			return Made{}, f
		case waited == 0:
			note("Systems Manager knows no role " + role + " that it may assume; a new role takes up to two minutes: " +
				"trying again until then")
		}
		if err := o.pause(ctx, rolePause); err != nil {
			return Made{}, called(ctx, err, "wait for the role %s", role)
		}
	}
}

// aboutRole tells the two texts by which CreateActivation refuses a role (facts: aws B2, rows 17 and 18).
func aboutRole(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	text := api.ErrorMessage()
	return strings.Contains(text, "Nonexistent role or missing ssm service principal") ||
		strings.Contains(text, "Not existing role")
}

// Activation is one as Systems Manager lists it.
type Activation struct {
	ID, Role, Name, Description string
	Limit, Used                 int
	Created, Expires            time.Time
	Expired                     bool
	Tags                        []Tag
}

// Left is how many hosts can still use it; none, once it has expired.
func (a Activation) Left() int {
	if a.Expired {
		return 0
	}
	return max(a.Limit-a.Used, 0)
}

// Activations lists all of the account's in the Region, the oldest first.
func (o *Operator) Activations(ctx context.Context) ([]Activation, error) {
	return o.activations(ctx, &ssm.DescribeActivationsInput{}, "list the activations in "+o.Region)
}

// Activation finds one by its id; found is false when there is none in this account and Region.
func (o *Operator) Activation(ctx context.Context, id string) (a Activation, found bool, err error) {
	all, err := o.activations(ctx, &ssm.DescribeActivationsInput{Filters: []types.DescribeActivationsFilter{{
		FilterKey: types.DescribeActivationsFilterKeysActivationIds, FilterValues: []string{id},
	}}}, "look for the activation "+id+" in "+o.Region)
	for _, a := range all {
		if a.ID == id {
			return a, true, err
		}
	}
	return Activation{}, false, err
}

// activations lists those that input selects, page by page. tried is what for.
func (o *Operator) activations(ctx context.Context, input *ssm.DescribeActivationsInput, tried string) ([]Activation, error) {
	var all []Activation
	input.MaxResults = aws.Int32(50)
	pages := ssm.NewDescribeActivationsPaginator(o.ssm, input)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called(ctx, err, "%s", tried)
		}
		for _, a := range page.ActivationList {
			expires := aws.ToTime(a.ExpirationDate).UTC()
			one := Activation{
				ID: aws.ToString(a.ActivationId), Role: aws.ToString(a.IamRole), Name: aws.ToString(a.DefaultInstanceName),
				Description: aws.ToString(a.Description),
				Limit:       int(aws.ToInt32(a.RegistrationLimit)), Used: int(aws.ToInt32(a.RegistrationsCount)),
				Created: aws.ToTime(a.CreatedDate).UTC(), Expires: expires,
				Expired: a.Expired || !expires.IsZero() && !o.Now().Before(expires),
			}
			for _, t := range a.Tags {
				one.Tags = append(one.Tags, Tag{aws.ToString(t.Key), aws.ToString(t.Value)})
			}
			all = append(all, one)
		}
	}
	slices.SortStableFunc(all, func(a, b Activation) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// DeleteActivation deletes one; nodes that it registered stay. found is false when there is none in this account and
// Region. A call that is under way is not cut off by ctx.
func (o *Operator) DeleteActivation(ctx context.Context, id string) (found bool, err error) {
	if ctx.Err() != nil {
		return false, called(ctx, ctx.Err(), "delete the activation %s", id)
	}
	_, err = o.ssm.DeleteActivation(context.WithoutCancel(ctx), &ssm.DeleteActivationInput{ActivationId: &id})
	if err == nil {
		return true, nil
	}
	f := called(context.WithoutCancel(ctx), err, "delete the activation %s", id)
	if f.Code == failure.ActivationInvalid {
		return false, nil
	}
	return false, f
}
