package lifecycle

import "context"

// DoctorLimit is a task definition of the cluster that cannot run on this host.
type DoctorLimit struct {
	TaskDefinition string   `json:"taskDefinition"` // family:revision
	UsedBy         []string `json:"usedBy"`         // services and tasks of the cluster that use it; empty when none does
	Limit          string   `json:"limit"`          // id of the limit; docs/limits.md has them all
	Why            string   `json:"why"`            // what in it cannot be
	Instead        string   `json:"instead"`        // what to use instead
}

func (x *examination) seeLimits(context.Context) error { return nil }
