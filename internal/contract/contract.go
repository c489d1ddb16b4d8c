// Package contract holds the documents that commands print to their JSON Schemas in docs/schema.
//
// Only tests import it: the program itself must not carry a validator.
package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Envelope is the name of the schema that every document meets, whatever the command.
const Envelope = "envelope.json"

// module is how the go.mod of the repository begins; other modules lie in it.
const module = "module github.com/anywhere-ecs/anywhere\n"

// FileName is the name of a command's schema; command is its path without the program's name, "" the program's alone.
func FileName(command string) string {
	if command == "" {
		return "anywhere.json"
	}
	return strings.ReplaceAll(command, " ", "-") + ".json"
}

// Dir is the folder of the schemas, found from anywhere in the repository.
func Dir() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		text, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && strings.HasPrefix(string(text), module) {
			return filepath.Join(dir, "docs", "schema"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("this is not in the repository: no go.mod of anywhere's is above it")
		}
	}
	return "", err
}

// Check holds one document, which must be all of what a command printed, to the schema of the command that it names.
func Check(document []byte) error {
	var head struct {
		Command *string `json:"command"`
	}
	if err := json.Unmarshal(document, &head); err != nil {
		return fmt.Errorf("not one JSON object: %w", err)
	}
	if head.Command == nil {
		return errors.New("the document names no command")
	}
	return CheckAgainst(FileName(*head.Command), document)
}

// CheckAgainst holds a document to the schema of that name.
func CheckAgainst(name string, document []byte) error {
	schema, err := compile(name)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return fmt.Errorf("not one JSON value: %w", err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("docs/schema/%s: %w\n%s", name, err, document)
	}
	return nil
}

var (
	mutex    sync.Mutex
	compiled = map[string]*jsonschema.Schema{}
)

func compile(name string) (*jsonschema.Schema, error) {
	mutex.Lock()
	defer mutex.Unlock()
	if schema := compiled[name]; schema != nil {
		return schema, nil
	}
	dir, err := Dir()
	if err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	id := ""
	for _, file := range names {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		root, _ := schema.(map[string]any)
		at, _ := root["$id"].(string)
		if err := compiler.AddResource(at, schema); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if filepath.Base(file) == name {
			id = at
		}
	}
	if id == "" {
		return nil, fmt.Errorf("there is no docs/schema/%s: make generate", name)
	}
	schema, err := compiler.Compile(id)
	if err != nil {
		return nil, err
	}
	compiled[name] = schema
	return schema, nil
}
