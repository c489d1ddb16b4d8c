package control

import (
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

func TestWhatIsNotThereIsSeenAsSuch(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator()
	const arn = "arn:aws:ecs:eu-west-1:123456789012:container-instance/prod/0123456789abcdef0123456789abcdef"
	if i, found, err := o.SeeInstance(t.Context(), "prod", arn); found || err != nil {
		t.Errorf("instance: %+v, %v", i, err)
	}
	if _, _, err := o.SeeInstance(t.Context(), "nowhere", arn); !failure.Is(err, failure.ClusterNotFound) {
		t.Errorf("cluster: %v", err)
	}
	if all, err := o.SeeInstancesOf(t.Context(), "prod", "mi-0123456789abcdef0"); len(all) > 0 || err != nil {
		t.Errorf("instances: %+v, %v", all, err)
	}
	if n, found, err := o.SeeNode(t.Context(), "mi-0123456789abcdef0"); found || err != nil {
		t.Errorf("node: %+v, %v", n, err)
	}
	if role, err := o.SeeRole(t.Context(), ""); role != "" || err != nil {
		t.Errorf("role of no activation: %q, %v", role, err)
	}
	if role, err := o.SeeRole(t.Context(), "01234567-89ab-cdef-0123-456789abcdef"); role != "" || err != nil {
		t.Errorf("role of an activation that is gone: %q, %v", role, err)
	}
	id, _ := w.AddActivation(1, w.now.Add(1e9))
	if role, err := o.SeeRole(t.Context(), id); role != "ecsAnywhereRole" || err != nil {
		t.Errorf("role: %q, %v", role, err)
	}
}

func TestSeeingTakesRights(t *testing.T) {
	w := newWorld(t)
	o, _ := w.operator("ecs:*", "ssm:*")
	for what, ask := range map[string]func() error{
		"instance":  func() error { _, _, err := o.SeeInstance(t.Context(), "prod", "x"); return err },
		"instances": func() error { _, err := o.SeeInstancesOf(t.Context(), "prod", "mi-0123456789abcdef0"); return err },
		"node":      func() error { _, _, err := o.SeeNode(t.Context(), "mi-0123456789abcdef0"); return err },
		"role":      func() error { _, err := o.SeeRole(t.Context(), "01234567-89ab-cdef-0123-456789abcdef"); return err },
	} {
		if err := ask(); !failure.Is(err, failure.AccessDenied) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
