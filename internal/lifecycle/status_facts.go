package lifecycle

import (
	"bytes"
	"encoding/json"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// FactsPath is an Ansible local fact: ansible_local.anywhere. Source:
// https://docs.ansible.com/ansible/latest/playbook_guide/playbooks_vars_facts.html, read 2026-11-25.
const FactsPath = "/etc/ansible/facts.d/anywhere.fact"

// facts is what FactsPath holds: what stays the same while nothing happens to the host, so that a playbook that writes
// it twice changes it once.
type facts struct {
	Anywhere             string      `json:"anywhere"` // version of the program that wrote it
	State                HealthState `json:"state"`
	Cluster              string      `json:"cluster"`
	Region               string      `json:"region"`
	Account              string      `json:"account"`
	ManagedInstanceID    string      `json:"managedInstanceId"`
	ContainerInstanceARN string      `json:"containerInstanceArn"`
	ECSAgentVersion      string      `json:"ecsAgentVersion"`
	SSMAgentVersion      string      `json:"ssmAgentVersion"`
	DockerVersion        string      `json:"dockerVersion"`
}

// writeFacts writes FactsPath and reports whether that changed it. It is all that status ever writes, and needs no
// journal: one file, whole or not at all, that the next run writes anew.
func writeFacts(d Deps, r StatusResult) (changed bool, err error) {
	if d.Host.Self.EUID != 0 {
		return false, failure.New(failure.NotRoot, "--facts writes %s, which needs root", FactsPath).WithRemedy("sudo anywhere status --facts")
	}
	text, err := json.MarshalIndent(facts{
		Anywhere: d.Version, State: r.State, Cluster: r.Cluster, Region: r.Region, Account: r.Account,
		ManagedInstanceID: r.ManagedInstanceID, ContainerInstanceARN: r.ContainerInstanceARN,
		ECSAgentVersion: r.ECSAgent.Running, SSMAgentVersion: r.SSMAgent.Running, DockerVersion: r.Docker.Version,
	}, "", "  ")
	if err != nil {
		return false, err
	}
	text = append(text, '\n')
	if old, err := d.Host.Files.ReadFile(FactsPath); err == nil && bytes.Equal(old, text) {
		return false, nil
	}
	return true, d.Host.Disk.WriteFile(FactsPath, bytes.NewReader(text), 0o644, host.Owner{})
}
