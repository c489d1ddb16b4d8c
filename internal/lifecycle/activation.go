package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// CreateActivationRequest is what "anywhere activation create" was asked for.
type CreateActivationRequest struct {
	Cluster string // name or ARN
	Role    string // name, path and name, or ARN
	Limit   int
	Life    time.Duration
	Name    string
	Tags    []Pair // of the nodes
	Token   bool   // give a join token in place of the code
	// OutputFile gets the code or token; empty gives it in the result.
	OutputFile string
	// NewFile makes the output file, which must not exist, readable by its owner only.
	NewFile func(path string) (*os.File, error)
}

// CreateActivationResult is the "result" of activation create's document. It has the code or the token, unless a file
// has them.
type CreateActivationResult struct {
	ActivationID   string           `json:"activationId"`
	ActivationCode secret.Disclosed `json:"activationCode,omitzero"`
	Token          secret.Disclosed `json:"token,omitzero"`
	OutputFile     string           `json:"outputFile,omitempty"`
	Region         string           `json:"region"`
	Account        string           `json:"account"`
	Cluster        string           `json:"cluster"`
	Expires        string           `json:"expires"` // RFC 3339, UTC
	Limit          int              `json:"limit"`
	IAMRole        string           `json:"iamRole"` // with its path
}

// Check refuses what AWS would refuse whatever is there. It makes no call.
func (req CreateActivationRequest) Check() error {
	_, _, err := req.parse()
	return err
}

func (req CreateActivationRequest) parse() (control.ClusterRef, control.Order, error) {
	order := control.Order{Role: req.Role, Limit: req.Limit, Life: req.Life, Name: req.Name}
	for _, p := range req.Tags {
		order.Tags = append(order.Tags, control.Tag(p))
	}
	cluster, err := control.ParseCluster(req.Cluster)
	if err != nil {
		return cluster, order, err
	}
	return cluster, order, order.Check()
}

// CreateActivation makes an activation for hosts of a cluster that was proven to be there. If its code cannot be handed
// over, the activation is deleted again.
func CreateActivation(ctx context.Context, d Deps, req CreateActivationRequest) (Report, error) {
	report := Report{Result: CreateActivationResult{}}
	cluster, order, err := req.parse()
	if err != nil {
		return report, err
	}
	operator, err := d.operator(ctx, cluster.Region, &report)
	if err != nil {
		return report, err
	}
	if err := operator.ProveCluster(ctx, cluster); err != nil {
		return report, err
	}
	out, err := newOutput(req)
	if err != nil {
		return report, err
	}
	defer out.discard() // unless it was kept

	var made control.Made
	title := fmt.Sprintf("create an activation for %s of cluster %s", hosts(req.Limit), cluster.Name)
	err = d.step(&report, "activation", title, func() (bool, string, error) {
		made, err = operator.CreateActivation(ctx, order, d.warn)
		return true, fmt.Sprintf("%s in %s, until %s", made.ID, operator.Region, made.Expires.Format(time.RFC3339)), err
	})
	if err != nil {
		return report, err
	}
	token := control.Token{
		Account: operator.Account, Region: operator.Region, Cluster: cluster.Name,
		ActivationID: made.ID, Code: made.Code, Expires: made.Expires,
	}.Encode()
	d.Redactor.Add(made.Code.Reveal(), token)
	result := CreateActivationResult{
		ActivationID: made.ID, Region: operator.Region, Account: operator.Account, Cluster: cluster.Name,
		Expires: made.Expires.Format(time.RFC3339), Limit: req.Limit, IAMRole: made.Role,
	}
	handedOver := secret.Disclosed{Text: made.Code}
	if req.Token {
		handedOver.Text = secret.NewText(token)
	}
	err = context.Cause(ctx)
	if err == nil {
		err = out.keep(handedOver.Reveal())
	}
	if err != nil {
		return report, takeBack(ctx, d, operator, &report, made.ID, err)
	}
	switch {
	case req.OutputFile != "":
		result.OutputFile = req.OutputFile
	case req.Token:
		result.Token = handedOver
	default:
		result.ActivationCode = handedOver
	}
	report.Changed, report.Result = true, result
	report.Message = fmt.Sprintf("activation %s lets %s join cluster %s in %s until %s",
		made.ID, hosts(req.Limit), cluster.Name, operator.Region, result.Expires)
	return report, nil
}

// takeBack deletes an activation whose code nobody got. It returns why.
func takeBack(ctx context.Context, d Deps, operator *control.Operator, report *Report, id string, why error) error {
	err := d.step(report, "undo", "delete activation "+id+" again", func() (bool, string, error) {
		_, err := operator.DeleteActivation(context.WithoutCancel(ctx), id)
		return true, "", err
	})
	if err == nil {
		return why
	}
	report.Changed = true
	report.Kept = append(report.Kept, fmt.Sprintf("activation %[1]s in %[2]s, whose code nobody has: "+
		"anywhere activation delete %[1]s --region %[2]s", id, operator.Region))
	return why
}

// output is the file for a secret; without a path it does nothing.
type output struct {
	file *os.File
	kept bool
}

// newOutput makes the file before there is anything to put into it: a code that cannot be written is lost.
func newOutput(req CreateActivationRequest) (*output, error) {
	if req.OutputFile == "" {
		return &output{}, nil
	}
	file, err := req.NewFile(req.OutputFile)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil, failure.New(failure.Usage, "--output-file: %s exists, and may hold another secret", req.OutputFile).
			WithRemedy("name another file, or remove that one")
	case err != nil:
		return nil, failure.Wrap(failure.ReadOnly, err, "--output-file: make %s", req.OutputFile)
	}
	return &output{file: file}, nil
}

// keep writes the secret as one line and brings it to the disk.
func (o *output) keep(text string) error {
	if o.file == nil {
		return nil
	}
	_, err := o.file.WriteString(text + "\n")
	if err = errors.Join(err, o.file.Sync(), o.file.Close()); err != nil {
		return failure.Wrap(failure.ReadOnly, err, "--output-file: write %s", o.file.Name())
	}
	o.kept = true
	return nil
}

func (o *output) discard() {
	if o.file != nil && !o.kept {
		_ = o.file.Close() // it may be closed
		_ = os.Remove(o.file.Name())
	}
}

// ListActivationsResult is the "result" of activation list's document.
type ListActivationsResult struct {
	Region      string           `json:"region"`
	Account     string           `json:"account"`
	Activations []ActivationItem `json:"activations"`
}

// ActivationItem is one activation. Systems Manager does not tell its code again, and does not know a cluster.
type ActivationItem struct {
	ActivationID string            `json:"activationId"`
	Name         string            `json:"name"` // of its nodes
	Description  string            `json:"description"`
	IAMRole      string            `json:"iamRole"`
	Limit        int               `json:"limit"`
	Used         int               `json:"used"`
	Left         int               `json:"left"` // 0 when it has expired
	Created      string            `json:"created"`
	Expires      string            `json:"expires"`
	Expired      bool              `json:"expired"`
	Tags         map[string]string `json:"tags"` // of its nodes
}

// ListActivations lists the activations of the operator's account in a Region.
func ListActivations(ctx context.Context, d Deps) (Report, error) {
	report := Report{Result: ListActivationsResult{}}
	operator, err := d.operator(ctx, "", &report)
	if err != nil {
		return report, err
	}
	all, err := operator.Activations(ctx)
	if err != nil {
		return report, err
	}
	result := ListActivationsResult{Region: operator.Region, Account: operator.Account}
	usable := 0
	for _, a := range all {
		if a.Left() > 0 {
			usable++
		}
		item := ActivationItem{
			ActivationID: a.ID, Name: a.Name, Description: a.Description, IAMRole: a.Role,
			Limit: a.Limit, Used: a.Used, Left: a.Left(), Expired: a.Expired, Tags: map[string]string{},
			Created: a.Created.Format(time.RFC3339), Expires: a.Expires.Format(time.RFC3339),
		}
		for _, t := range a.Tags {
			item.Tags[t.Key] = t.Value
		}
		result.Activations = append(result.Activations, item)
	}
	report.Result = result
	report.Message = fmt.Sprintf("%s in %s, %d of them usable", count(len(all), "activation"), operator.Region, usable)
	return report, nil
}

// DeleteActivationsRequest is what "anywhere activation delete" was asked for: ids, or all that have expired.
type DeleteActivationsRequest struct {
	IDs     []string
	Expired bool
}

// DeleteActivationsResult is the "result" of activation delete's document.
type DeleteActivationsResult struct {
	Region  string   `json:"region"`
	Account string   `json:"account"`
	Deleted []string `json:"deleted"`
	Absent  []string `json:"absent"` // asked for, and not there
}

// DeleteActivations deletes activations; the nodes that they registered stay. One that is not there counts as deleted,
// with a warning: it may be another account's or Region's.
func DeleteActivations(ctx context.Context, d Deps, req DeleteActivationsRequest) (Report, error) {
	report := Report{Result: DeleteActivationsResult{}}
	operator, err := d.operator(ctx, "", &report)
	if err != nil {
		return report, err
	}
	ids := req.IDs
	if req.Expired {
		all, err := operator.Activations(ctx)
		if err != nil {
			return report, err
		}
		for _, a := range all {
			if a.Expired {
				ids = append(ids, a.ID)
			}
		}
	}
	result := DeleteActivationsResult{Region: operator.Region, Account: operator.Account}
	for _, id := range ids {
		var found bool
		err := d.step(&report, "activation", "delete activation "+id, func() (changed bool, detail string, err error) {
			if found, err = operator.DeleteActivation(ctx, id); err == nil && !found {
				detail = "it is not there"
			}
			return found, detail, err
		})
		switch {
		case err != nil:
			report.Result = result
			for _, gone := range result.Deleted {
				report.Kept = append(report.Kept, "activation "+gone+" is deleted")
			}
			return report, err
		case found:
			result.Deleted = append(result.Deleted, id)
			report.Changed = true
		default:
			result.Absent = append(result.Absent, id)
			report.Warnings = append(report.Warnings, fmt.Sprintf("there is no activation %s in %s of account %s: "+
				"it was deleted before, or is another Region's or account's", id, operator.Region, operator.Account))
		}
	}
	report.Result = result
	report.Message = fmt.Sprintf("deleted %s in %s", count(len(result.Deleted), "activation"), operator.Region)
	return report, nil
}

// operator is AWS in the Region, or in the one that flags, environment and profile say.
func (d Deps) operator(ctx context.Context, region string, report *Report) (*control.Operator, error) {
	operator, err := d.Operator(ctx, region)
	if err == nil && operator.Skew != 0 {
		report.Warnings = append(report.Warnings,
			fmt.Sprintf("this machine's clock is %s off; times are AWS's", operator.Skew.Abs()))
	}
	return operator, err
}

// step runs one change to AWS and tells of it as the engine tells of its steps: such a change needs no journal, for it
// touches no host.
func (d Deps) step(report *Report, id, title string, change func() (changed bool, detail string, err error)) error {
	begun := d.Host.Now()
	d.tell(engine.Event{Kind: engine.Started, Step: id, Title: title})
	changed, detail, err := change()
	done := engine.StepReport{ID: id, Title: title, Status: "done", Detail: detail, Duration: d.Host.Now().Sub(begun)}
	event := engine.Event{Kind: engine.Finished, Step: id, Title: title, Text: detail, Took: done.Duration, Err: err}
	switch {
	case err != nil:
		done.Status, done.Detail, event.Kind = "failed", err.Error(), engine.Failed
	case !changed:
		done.Status, event.Kind = "unchanged", engine.Unchanged
	}
	report.Steps = append(report.Steps, done)
	d.tell(event)
	return err
}

func (d Deps) warn(text string) { d.tell(engine.Event{Kind: engine.Warned, Text: text}) }

func (d Deps) tell(e engine.Event) {
	if d.Listen != nil {
		e.Time = d.Host.Now()
		d.Listen(e)
	}
}

func hosts(n int) string { return count(n, "host") }

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
