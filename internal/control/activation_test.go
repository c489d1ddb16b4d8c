package control

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestActivationsFromMakingToDeleting(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	o, _ := w.operator()
	order := Order{
		Role: "arn:aws:iam::" + account + ":role/service-role/edge", Limit: 20, Life: 7 * 24 * time.Hour,
		Name: "Kölner Lager 7", Tags: []Tag{{"site", "köln"}, {"rack", ""}},
	}
	made, err := o.CreateActivation(ctx, order, func(text string) { t.Errorf("noted: %s", text) })
	if err != nil {
		t.Fatal(err)
	}
	if made.Role != "service-role/edge" || !activationPattern.MatchString(made.ID) || !isCode(made.Code.Reveal()) {
		t.Errorf("made %+v", made)
	}
	all, err := o.Activations(ctx)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	a := all[0]
	if a.ID != made.ID || !a.Expires.Equal(made.Expires) || a.Limit != 20 || a.Left() != 20 || a.Name != order.Name ||
		!slices.Equal(a.Tags, order.Tags) || a.Expired {
		t.Errorf("listed %+v", a)
	}
	w.now = w.now.Add(8 * 24 * time.Hour)
	if all, err = o.Activations(ctx); err != nil || len(all) != 1 || !all[0].Expired || all[0].Left() != 0 {
		t.Errorf("after its time: %+v, %v", all, err)
	}
	if found, err := o.DeleteActivation(ctx, made.ID); err != nil || !found {
		t.Errorf("deleting: %v, %v", found, err)
	}
	if found, err := o.DeleteActivation(ctx, made.ID); err != nil || found {
		t.Errorf("deleting again: %v, %v", found, err)
	}
}

func TestEveryPageIsListed(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	for range 120 {
		w.AddActivation(1, w.now.Add(time.Hour))
	}
	all, err := o.Activations(context.Background())
	if err != nil || len(all) != 120 {
		t.Errorf("%d of 120, %v", len(all), err)
	}
}

func TestANewRoleIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	o, paused := w.operator()
	w.RefuseRole(3)
	var notes []string
	order := Order{Role: "fresh", Limit: 1, Life: time.Hour}
	made, err := o.CreateActivation(context.Background(), order, func(text string) { notes = append(notes, text) })
	if err != nil || made.ID == "" || *paused != 3*rolePause {
		t.Errorf("made %v, %v after %s", made, err, *paused)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "fresh") {
		t.Errorf("noted %q", notes)
	}

	*paused = 0
	w.RefuseRole(1000)
	_, err = o.CreateActivation(context.Background(), order, func(string) {})
	f := failure.Of(err)
	if f == nil || f.Code != failure.RoleUnusable || *paused != roleLag || !strings.Contains(f.Evidence, "trust policy") {
		t.Errorf("after %s: %+v", *paused, f)
	}
}

func TestOrdersThatAWSWouldRefuse(t *testing.T) {
	long := strings.Repeat("x", 300)
	good := func() Order { return Order{Role: "ecsAnywhereRole", Limit: 1, Life: time.Hour} }
	for name, test := range map[string]struct {
		change func(*Order)
		flag   string
	}{
		"no role":           {func(o *Order) { o.Role = "" }, "--iam-role"},
		"long role":         {func(o *Order) { o.Role = long }, "--iam-role"},
		"role with blank":   {func(o *Order) { o.Role = "my role" }, "--iam-role"},
		"instance profile":  {func(o *Order) { o.Role = "arn:aws:iam::123456789012:instance-profile/x" }, "--iam-role"},
		"service-linked":    {func(o *Order) { o.Role = "aws-service-role/ssm.amazonaws.com/X" }, "--iam-role"},
		"no hosts":          {func(o *Order) { o.Limit = 0 }, "--limit"},
		"1001 hosts":        {func(o *Order) { o.Limit = 1001 }, "--limit"},
		"no time":           {func(o *Order) { o.Life = 0 }, "--expires"},
		"31 days":           {func(o *Order) { o.Life = 31 * 24 * time.Hour }, "--expires"},
		"long name":         {func(o *Order) { o.Name = long }, "--name"},
		"name with a star":  {func(o *Order) { o.Name = "a*" }, "--name"},
		"51 tags":           {func(o *Order) { o.Tags = make([]Tag, 51) }, "--tag"},
		"no key":            {func(o *Order) { o.Tags = []Tag{{"", "x"}} }, "--tag"},
		"long key":          {func(o *Order) { o.Tags = []Tag{{long, "x"}} }, "--tag"},
		"long value":        {func(o *Order) { o.Tags = []Tag{{"x", long}} }, "--tag"},
		"value with a hash": {func(o *Order) { o.Tags = []Tag{{"x", "#"}} }, "--tag"},
		"AWS's own key":     {func(o *Order) { o.Tags = []Tag{{"aws:x", "x"}} }, "--tag"},
	} {
		order := good()
		test.change(&order)
		err := order.Check()
		if !failure.Is(err, failure.Usage) || !strings.Contains(err.Error(), test.flag) {
			t.Errorf("%s: %v", name, err)
		}
	}
	at := good()
	at.Limit, at.Life, at.Name, at.Role = MaxHosts, MaxLife, strings.Repeat("ü", 256), "/a/"+strings.Repeat("r", 62)
	if err := at.Check(); err != nil {
		t.Errorf("at the limits: %v", err)
	}

	w := newWorld(t)
	o, _ := w.operator()
	order := good()
	order.Role = "arn:aws:iam::999999999999:role/x"
	if _, err := o.CreateActivation(context.Background(), order, nil); !failure.Is(err, failure.Usage) {
		t.Errorf("another account's role: %v", err)
	}
	for _, r := range w.Requests() {
		if r.Operation == "ssm:CreateActivation" {
			t.Error("AWS was asked for what was refused here")
		}
	}
}

func TestClusters(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	w.AddCluster("old")
	w.SetClusterStatus("old", "INACTIVE")
	arn := func(account, name string) string { return "arn:aws:ecs:" + region + ":" + account + ":cluster/" + name }
	for text, code := range map[string]failure.Code{
		"prod": "", arn(account, "prod"): "", "old": failure.ClusterNotFound, "none": failure.ClusterNotFound,
		arn("999999999999", "prod"): failure.Usage, "a b": failure.Usage, "": failure.Usage,
		"arn:aws:ecs:eu-west-1:123456789012:service/prod": failure.Usage,
	} {
		ref, err := ParseCluster(text)
		if err == nil {
			err = o.ProveCluster(context.Background(), ref)
		}
		if code == "" && err != nil || code != "" && !failure.Is(err, code) {
			t.Errorf("%q: %v, want %q", text, err, code)
		}
	}
}
