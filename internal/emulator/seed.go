package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// seed is a file of what an account has from the start: YAML, of which JSON is a part. What AWS has an operation for is
// written in that operation's own words.
type seed struct {
	Operators       []seedOperator   `yaml:"operators"`
	Roles           []string         `yaml:"roles"`
	Clusters        []seedCluster    `yaml:"clusters"`
	Activations     []seedActivation `yaml:"activations"`
	Instances       []seedInstances  `yaml:"instances"`
	TaskDefinitions []map[string]any `yaml:"taskDefinitions"` // RegisterTaskDefinition
	Services        []map[string]any `yaml:"services"`        // CreateService
	Tasks           []map[string]any `yaml:"tasks"`           // RunTask
}

type seedOperator struct {
	AccessKeyID     string   `yaml:"accessKeyId"`
	SecretAccessKey string   `yaml:"secretAccessKey"`
	Deny            []string `yaml:"deny"`
}

type seedCluster struct {
	Name   string `yaml:"name"`
	Status string `yaml:"status"`
}

type seedActivation struct {
	ID          string            `yaml:"id"`
	Code        string            `yaml:"code"`
	Role        string            `yaml:"role"`
	Name        string            `yaml:"name"`
	Description string            `yaml:"description"`
	Limit       int               `yaml:"limit"`
	Expires     string            `yaml:"expires"` // from now
	Tags        map[string]string `yaml:"tags"`
}

// seedInstances are machines that are there without one: their agents count as connected, and run what is placed on them.
type seedInstances struct {
	Cluster    string            `yaml:"cluster"`
	Count      int               `yaml:"count"`
	Attributes map[string]string `yaml:"attributes"`
	Tags       map[string]string `yaml:"tags"`
}

// Seed fills the account from a file. It is strict: a word that it does not know, and what AWS would refuse, is an error
// that says where.
func (e *Emulator) Seed(data []byte) error {
	var s seed
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&s); err != nil && !errors.Is(err, io.EOF) { // an empty file seeds nothing
		return errors.New(readable(err))
	}
	for i, o := range s.Operators {
		if !accessKeyID(o.AccessKeyID) || o.SecretAccessKey == "" {
			return fmt.Errorf("operators[%d]: expected accessKeyId, of 16 to 128 letters and digits, and secretAccessKey", i)
		}
		e.AddOperator(Key{ID: o.AccessKeyID, Secret: secret.NewText(o.SecretAccessKey), Deny: o.Deny})
	}
	for _, role := range s.Roles {
		e.AddRole(role)
	}
	for i, c := range s.Clusters {
		if !clusterName(c.Name) {
			return fmt.Errorf("clusters[%d]: a name has up to 255 letters, digits, - and _", i)
		}
		e.AddCluster(c.Name)
		if c.Status != "" {
			e.SetClusterStatus(c.Name, c.Status)
		}
	}
	for i, a := range s.Activations {
		if err := e.seedActivation(a); err != nil {
			return fmt.Errorf("activations[%d]: %w", i, err)
		}
	}
	for i, in := range s.Instances {
		if err := e.seedInstances(in); err != nil {
			return fmt.Errorf("instances[%d]: %w", i, err)
		}
	}
	for _, part := range []struct {
		name, operation string
		fill            map[string]any
		list            []map[string]any
	}{
		{"taskDefinitions", "RegisterTaskDefinition", map[string]any{"requiresCompatibilities": []string{"EXTERNAL"}}, s.TaskDefinitions},
		{"services", "CreateService", map[string]any{"launchType": "EXTERNAL"}, s.Services},
		{"tasks", "RunTask", map[string]any{"launchType": "EXTERNAL"}, s.Tasks},
	} {
		for i, in := range part.list {
			for name, value := range part.fill {
				if _, given := in[name]; !given {
					in[name] = value
				}
			}
			if err := e.ask(part.operation, in); err != nil {
				return fmt.Errorf("%s[%d]: %w", part.name, i, err)
			}
		}
	}
	return nil
}

// Where the YAML reader names our Go types.
var (
	unknownField = regexp.MustCompile(` not found in type .+`)
	otherForm    = regexp.MustCompile("cannot unmarshal !!\\w+ (`[^`]*` )?into .+")
)

// readable is an error of the YAML reader without our Go types.
func readable(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = otherForm.ReplaceAllString(text, "${1}is of another form than what belongs here")
	return unknownField.ReplaceAllString(text, " is not known here")
}

// ask does an operation of ECS as an operator who may do everything.
func (e *Emulator) ask(name string, in map[string]any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("it cannot be put into JSON: %w", err)
	}
	out, failed := e.perform(ecsOperations[name], &call{service: "ecs", name: name, body: body, key: &key{}})
	if failed != nil {
		return failed
	}
	if answer, ok := out.(map[string]any); ok {
		if failures, _ := answer["failures"].([]any); len(failures) > 0 {
			return fmt.Errorf("%s has no room for it: %v", name, failures[0])
		}
	}
	return nil
}

func (e *Emulator) seedActivation(a seedActivation) error {
	life := activationLife
	if a.Expires != "" {
		var err error
		if life, err = time.ParseDuration(a.Expires); err != nil {
			return fmt.Errorf("expires: expected a duration from now, like 24h, or -1h for one that is over")
		}
	}
	switch {
	case a.ID != "" && !matches(activationID, a.ID):
		return errors.New("id: expected a UUID in small letters")
	case a.Code != "" && (len(a.Code) < 20 || len(a.Code) > 250):
		return errors.New("code: expected 20 to 250 characters")
	case a.Limit < 0 || a.Limit > 1000:
		return errors.New("limit: expected 1 to 1000")
	case life > activationMost:
		return errors.New("expires: AWS has no activation that lives longer than 30 days")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	made := e.activate(or(lastPart(a.Role), "ecsAnywhereRole"), max(a.Limit, 1), e.opts.Now().Add(life))
	made.code, made.name, made.description = or(a.Code, made.code), a.Name, a.Description
	for _, name := range sortedNames(a.Tags) {
		made.tags = append(made.tags, tag{name, a.Tags[name]})
	}
	if a.ID != "" {
		delete(e.activations, made.id)
		made.id = a.ID
		e.activations[made.id] = made
	}
	return nil
}

func (e *Emulator) seedInstances(in seedInstances) error {
	if !clusterName(in.Cluster) {
		return errors.New("cluster: expected the name of one")
	}
	if in.Count < 0 || in.Count > mostInstances {
		return fmt.Errorf("count: a cluster has %d instances at most", mostInstances)
	}
	for range max(in.Count, 1) {
		arn := e.AddInstance(in.Cluster)
		e.Mark(arn, in.Attributes, in.Tags)
	}
	return nil
}

// mostInstances is ECS's quota of a cluster, which AWS does not raise. Source: developer guide, "Amazon ECS service
// quotas", read 2026-11-22.
const mostInstances = 5000

func clusterName(s string) bool { return matches(`^[A-Za-z0-9_-]{1,255}$`, s) }

func accessKeyID(s string) bool { return matches(`^[A-Za-z0-9_]{16,128}$`, s) }
