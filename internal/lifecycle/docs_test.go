package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/control"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/platform"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

// steps are the ids of all steps of all verbs.
func steps(t *testing.T) map[string]bool {
	t.Helper()
	r := newMachine(t).registration(RegisterRequest{}).with(region, account, "shop")
	r.resumed = &engine.Operation{Verb: verbRegister}
	r.docker.sources = []string{platform.SourceDistro}
	r.fetched = map[artifact.Ref]*fetch{}
	ids := map[string]bool{}
	for _, s := range r.plan().Steps {
		ids[s.ID] = true
	}
	m := &moving{
		to: r, resumed: &engine.Operation{Verb: verbMove}, noted: map[string]string{}, drain: &draining{},
		carried: control.Belongings{Tags: map[string]string{"team": "a"}},
	}
	for _, s := range m.plan().Steps {
		ids[s.ID] = true
	}
	if len(ids) < 10 {
		t.Fatalf("found only the steps %v", ids)
	}
	gone := &farewell{deps: r.deps, gone: map[string]bool{}, pins: map[string]string{}}
	for _, s := range gone.plan().Steps {
		ids[s.ID] = true
	}
	ids[farewellStep] = true
	return ids
}

var (
	quotedWord = regexp.MustCompile("`([^`\n]+)`")
	codeForm   = regexp.MustCompile(`^[a-z]+(_[a-z]+)+$`)
	idForm     = regexp.MustCompile(`^([a-z]+)\.[a-z-]+$`)
	unitOrFile = regexp.MustCompile(`\.(service|socket|sock|timer|config|json|log|md|go|yaml|sh|io)$`)
)

// What the documents name in backquotes with the form of a code, or of the id of a step or a check, exists. Dotted names
// count when they begin like an id.
func TestDocumentsNameWhatExists(t *testing.T) {
	known := steps(t)
	for _, c := range preflight.All() {
		known[c.ID] = true
	}
	topics := map[string]bool{}
	for id := range known {
		if found := idForm.FindStringSubmatch(id); found != nil {
			topics[found[1]] = true
		}
	}
	words := map[string]bool{} // that have the form of a code and are none
	for _, state := range HealthStates {
		words[string(state)] = true
	}
	for _, kind := range DriftKinds {
		words[string(kind)] = true
	}
	for _, rule := range Rules {
		known[rule.ID] = true
	}
	for _, fix := range Fixes {
		known[fix.ID] = true
	}
	files, err := filepath.Glob("../../docs/*.md")
	readmes, readmeErr := filepath.Glob("../../*.md")
	if err := errors.Join(err, readmeErr); err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range append(files, readmes...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, quoted := range quotedWord.FindAllStringSubmatch(string(text), -1) {
			word := quoted[1]
			if codeForm.MatchString(word) && !words[word] && failure.Catalogue[failure.Code(word)].Cause == "" {
				t.Errorf("%s: there is no error code %s", file, word)
			}
			id := idForm.FindStringSubmatch(word)
			if id != nil && topics[id[1]] && !known[word] && !unitOrFile.MatchString(word) {
				t.Errorf("%s: there is no step and no check %s", file, word)
			}
		}
	}
}
