package cli_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
	"github.com/anywhere-ecs/anywhere/internal/rehearsal"
	"github.com/anywhere-ecs/anywhere/internal/report"
)

var update = flag.Bool("update", false, "rewrite docs/schema, docs/man and completions")

// schemaHome is where the schemas can be read; it is the beginning of their ids.
const schemaHome = "https://raw.githubusercontent.com/anywhere-ecs/anywhere/main/docs/schema/"

// documented says of every command what the "result" of its document can be. A command that is not here has no schema,
// and a test says so. Commands without results can only fail with -o json: they hold others, or print a text.
//
// The schemas are made from these types, their JSON names and the comments of their fields; from "forms" below comes
// what the types do not say; from "rules", what holds between fields.
var documented = map[string][]any{
	"":                  {cli.VersionResult{}}, // --version
	"activate":          {lifecycle.DrainResult{}},
	"adopt":             {lifecycle.AdoptResult{}},
	"activation":        nil,
	"activation create": {lifecycle.CreateActivationResult{}},
	"activation delete": {lifecycle.DeleteActivationsResult{}},
	"activation list":   {lifecycle.ListActivationsResult{}},
	"completion":        nil,
	"config":            nil,
	"config show":       {cli.ConfigResult{}},
	"deregister":        {lifecycle.DeregisterResult{}},
	"doctor":            {lifecycle.DoctorResult{}},
	"emulator faults":   {cli.EmulatorFaultsResult{}},
	"drain":             {lifecycle.DrainResult{}},
	"emulator":          {cli.EmulatorResult{}},
	"help":              nil,
	"mirror":            {lifecycle.MirrorResult{}},
	"move":              {lifecycle.MoveResult{}},
	"operation":         nil,
	"operation abandon": {lifecycle.OperationResult{}},
	"operation show":    {lifecycle.OperationResult{}},
	"operation tend":    {lifecycle.OperationResult{}},
	"platforms":         {cli.PlatformsResult{}},
	"preflight":         {lifecycle.PreflightResult{}},
	"register":          {lifecycle.RegisterResult{}},
	"rehearse":          {rehearsal.Result{}},
	"rollback":          {lifecycle.RollbackResult{}, lifecycle.UpgradeResult{}},
	"status":            {lifecycle.StatusResult{}},
	"upgrade":           {lifecycle.UpgradeResult{}},
	"version":           {cli.VersionResult{}},
}

// Forms of texts. Where a text may be empty, the empty one says "not known" or "none".
const (
	accountForm    = `[0-9]{12}`
	regionForm     = `[a-z]{2,4}(-[a-z]+)+-[0-9]+`
	activationForm = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	timeForm       = `[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z`
	arnForm        = `arn:aws[a-z-]*:ecs:` + regionForm + `:` + accountForm + `:container-instance/[^ ]+`
)

// forms are what a field's type does not say, by the name of the struct and the field's JSON name, or by that name alone.
var forms = map[string]node{
	"account":              {{"description", "AWS account id"}, {"pattern", maybe(accountForm)}},
	"region":               {{"description", "AWS Region"}, {"pattern", maybe(regionForm)}},
	"cluster":              {{"description", "name of the ECS cluster"}},
	"managedInstanceId":    {{"description", "the managed node's id in Systems Manager"}, {"pattern", maybe(`mi-[0-9a-f]{17}`)}},
	"containerInstanceArn": {{"description", "the container instance's ARN in ECS"}, {"pattern", maybe(arnForm)}},
	"ecsAgentVersion":      {{"description", "installed version of the package amazon-ecs-init"}},
	"ssmAgentVersion":      {{"description", "installed version of the SSM agent"}},
	"dockerVersion":        {{"description", "version of the Docker daemon"}},
	"verified":             {{"description", "who vouches for the registration"}},
	"rebootNeeded":         {{"description", "the machine must be started anew before the work can go on"}},
	"activationId":         {{"description", "the activation's id"}, {"pattern", maybe(activationForm)}},
	"activationCode":       {{"description", "the activation's code, a secret; AWS tells it this once"}},
	"token":                {{"description", "the join token, a secret"}, {"pattern", `^anywhere1\.([A-Za-z0-9_-]+|\[redacted\])$`}},
	"outputFile":           {{"description", "the file that has the secret"}, {"minLength", 1}},
	"expires":              {{"description", "RFC 3339, UTC; empty is never"}, {"pattern", maybe(timeForm)}},
	"created":              {{"description", "RFC 3339, UTC"}, {"pattern", `^` + timeForm + `$`}},
	"limit":                {{"description", "how many hosts can join with the activation"}},
	"used":                 {{"description", "how many hosts have joined with it"}},
	"expired":              {{"description", "the activation is over"}},
	"description":          {{"description", "the activation's description"}},
	"startedAt":            {{"pattern", maybe(timeForm)}},
	"durationMs":           {{"description", "how long it took, in milliseconds"}},
	"id":                   {{"description", "stable id"}},
	"title":                {{"description", "for people"}, {"minLength", 1}},
	"detail":               {{"description", "what was seen or done"}},
	"remedy":               {{"description", "what to type or do next"}},
	"evidence":             {{"description", "what shows it: a log line, an API error, a file"}},
	"name":                 {{"description", "name"}},
	"version":              {{"description", "version of the program"}, {"minLength", 1}},
	"line":                 {{"description", "as it would be typed"}, {"minLength", 1}},
	"rc":                   {{"description", "exit status"}, {"enum", exitStatuses()}},

	"Document.schema":    {{"description", "version of the form"}, {"const", report.Schema}},
	"Document.command":   {{"enum", commands()}},
	"Document.runId":     {{"description", "names this run in the log, the journal and AWS"}, {"minLength", 1}},
	"Document.changed":   {{"description", "whether anything was changed"}},
	"Document.failed":    {{"description", "false for the exit statuses 0, 10, 11 and 14"}},
	"Document.msg":       {{"description", "one sentence for people: what is so now, or what went wrong"}, {"minLength", 1}},
	"Document.dryRun":    {{"description", "nothing was to be changed"}},
	"Document.warnings":  {{"description", "what should be known, though it stopped nothing"}},
	"Document.startedAt": {{"format", "date-time"}, {"pattern", `Z$`}},
	"Document.steps":     {{"description", "in the order of the plan"}},
	"Document.error":     {{"description", "why it failed; only then"}},

	"Step.id":     {{"description", "stable id"}, {"pattern", `^[a-z]+([.-][a-z]+)*$`}},
	"Step.status": {{"enum", list("done", "unchanged", "planned", "skipped", "failed", "undone", "kept")}},

	"Error.code":       {{"description", "the cause; docs/errors.md has them all"}, {"enum", codes()}},
	"Error.message":    {{"description", "what was tried and what went wrong"}, {"minLength", 1}},
	"Error.remedy":     {{"description", "what to type or do next"}, {"minLength", 1}},
	"Error.retryable":  {{"description", "the same command may do better later"}},
	"Error.rolledBack": {{"description", "what was changed is undone; the host is as it was"}},
	"Error.kept":       {{"description", "what was changed and stays"}},

	"PreflightResult.checks":  {{"description", "in the order of docs/checks.md"}},
	"PreflightCheck.id":       {{"description", "stable id"}, {"enum", checks()}},
	"PreflightCheck.status":   {{"enum", list("pass", "warn", "fail", "skip")}},
	"PreflightCheck.ignored":  {{"description", "a failure that --ignore made a warning"}},
	"PreflightCheck.docs":     {{"description", "URL to read on; empty when there is none"}, {"pattern", maybe(`https?://[^ ]+`)}},
	"PreflightCheck.evidence": {{"description", "facts behind the finding, by name"}},
	"PreflightCheck.detail":   {{"description", "what was seen"}, {"minLength", 1}},

	"StatusDocker.version": {{"minLength", 0}},
	"StatusExec.version":   {{"minLength", 0}},

	"DeregisterResult.owed":      {{"items", node{{"type", "string"}, {"pattern", "^aws "}}}},
	"UpgradeResult.owed":         {{"items", node{{"type", "string"}, {"pattern", "^aws "}}}},
	"RegisterResult.owed":        {{"items", node{{"type", "string"}, {"pattern", "^aws "}}}},
	"iamRole":                    {{"description", "the hosts' IAM role, with its path"}},
	"activations":                {{"description", "the oldest first"}},
	"deleted":                    {{"description", "ids of activations that are gone now"}},
	"ActivationItem.expires":     {{"description", "RFC 3339, UTC"}, {"pattern", `^` + timeForm + `$`}},
	"OperationResult.unfinished": {{"description", "there is one to finish or to undo"}},
	"OperationResult.verb":       {{"description", "the command that began it"}},
	"OperationResult.runId":      {{"description", "the run that began it"}},
	"OperationResult.lastStep":   {{"description", "the step that it came to"}},
	"OperationResult.undoable":   {{"description", "anywhere rollback can undo it"}},
	"configResult.values":        {{"description", "every value that is not only a command's default"}},
	"configValue.value":          {{"description", "the value; secrets are masked"}},
	"configValue.origin":         {{"enum", list("flag", "environment", "config", "default")}},
	"configValue.name":           {{"description", "the flag, without its dashes"}, {"minLength", 1}},
	"versionResult.commit":       {{"description", "the program's commit; empty when unknown"}},
	"versionResult.go":           {{"description", "version of the compiler"}},
	"pinnedKey.fingerprint":      {{"description", "of the OpenPGP key"}, {"pattern", `^[0-9A-F]{40}$`}},
	"pinnedKey.userId":           {{"description", "the key's user id"}},
	"platformsResult.platforms":  {{"description", "one row for each system, in some of its versions"}},
	"platformRow.system":         {{"description", "name for people"}, {"minLength", 1}},
	"platformRow.family":         {{"description", "kind of packages"}},
	"platformRow.manager":        {{"description", "package manager; empty when there is none"}},
	"platformRow.aws":            {{"enum", list("listed", "was-listed", "never")}},
	"platformRow.since":          {{"description", "since when AWS lists it"}},
	"platformRow.until":          {{"description", "until when AWS listed it"}},
	"platformRow.dockerSources":  {{"description", "where Docker can come from, the better first"}},
	"platformRow.broken":         {{"description", "known not to work; the notes say why"}},
	"platformRow.notes":          {{"description", "what its operator should know"}},
	"platformRow.source":         {{"description", "where these facts are from"}},
	"Result.scenario":            {{"description", "the story that was played"}, {"minLength", 1}},
	"Result.commands":            {{"description", "command lines, in the order in which they were run"}},
	"Command.document":           {{"description", "what the command printed"}, {"anyOf", rehearsed()}},
}

// rules hold between fields of a struct, or of a command's whole document.
var rules = map[string][]node{
	"Document": {
		when(properties("failed", is(true)),
			node{{"required", list("error")}, {"properties", node{{"rc", node{{"not", node{{"enum", answers()}}}}}}}},
			node{{"properties", node{{"error", false}, {"rc", node{{"enum", answers()}}}}}}),
		when(properties("rc", is(failure.ExitRolledBack)),
			node{{"properties", node{{"error", properties("rolledBack", is(true))}}}}, nil),
		when(properties("rc", is(failure.ExitKept)),
			node{{"properties", node{{"error", properties("kept", node{{"minItems", 1}})}}}}, nil),
		when(properties("dryRun", is(true)), properties("changed", is(false)), nil),
	},
	"PreflightCheck": {
		when(properties("status", is("fail")), properties("remedy", node{{"minLength", 1}}), nil),
		when(properties("ignored", is(true)), properties("status", is("fail")), nil),
	},
	"RegisterResult": {
		when(properties("verified", node{{"not", is("none")}}),
			filled("cluster", "region", "account", "managedInstanceId", "containerInstanceArn", "ecsAgentVersion", "ssmAgentVersion"), nil),
	},
	"AdoptResult": {
		when(properties("verified", node{{"not", is("none")}}),
			filled("cluster", "region", "account", "managedInstanceId", "containerInstanceArn"), nil),
	},
	"MoveResult": {
		when(properties("verified", node{{"not", is("none")}}),
			filled("cluster", "region", "account", "managedInstanceId", "containerInstanceArn", "ecsAgentVersion", "ssmAgentVersion"), nil),
	},
	"OperationResult": {
		when(properties("unfinished", is(true)), filled("verb", "runId", "startedAt", "journal"), properties("undoable", is(false))),
	},
	"ActivationItem": {when(properties("expired", is(true)), properties("left", is(0)), nil)},

	// Of a document that did not fail.
	"activation create": {
		filled("activationId", "region", "account", "cluster", "expires", "iamRole"),
		{{"oneOf", []node{required("activationCode"), required("token"), required("outputFile")}}},
	},
	"activation list":   {filled("region", "account")},
	"activation delete": {filled("region", "account")},
	"version":           {filled("version", "go")},
	"config show":       {properties("values", node{{"minItems", 1}})},
	"platforms":         {properties("platforms", node{{"minItems", 1}})},
	"rehearse":          {properties("commands", node{{"minItems", 1}})},
}

// causes ties codes to exit statuses: a failure has its code's own, or 7 or 8 when something was changed.
func causes() []node {
	byStatus := map[int][]string{}
	for code, entry := range failure.Catalogue {
		byStatus[entry.Exit] = append(byStatus[entry.Exit], string(code))
	}
	var all []node
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		slices.Sort(byStatus[status])
		allowed := []any{status, failure.ExitRolledBack, failure.ExitKept}
		if status == failure.ExitInterrupted || status == failure.ExitTerminated { // these stay what they are
			allowed = []any{status}
		}
		all = append(all, when(
			node{{"required", list("error")}, {"properties", node{{"error", properties("code", node{{"enum", byStatus[status]}})}}}},
			properties("rc", node{{"enum", allowed}}), nil))
	}
	return all
}

// envelope is the schema of what all documents have in common.
func envelope(t *testing.T) node {
	t.Helper()
	docs := &comments{t: t}
	body := docs.structure(reflect.TypeFor[report.Document](), append(rules["Document"], causes()...))
	return append(head(contract.Envelope, "Every document of anywhere"), body...)
}

// schema is the one of a command: the envelope, narrowed to the command's own result.
func schema(t *testing.T, cmd *cobra.Command, section string, results []any) node {
	t.Helper()
	docs := &comments{t: t}
	empty := node{{"description", "a failure that came before there was any result"}, {"type", "object"}, {"maxProperties", 0}}
	narrow := node{{"command", is(section)}}
	out := append(head(contract.FileName(section), strings.TrimSpace("anywhere "+section)+" -o json"),
		member{"description", cmd.Short}, member{"$ref", contract.Envelope})
	if len(results) == 0 {
		narrow = append(narrow, member{"failed", is(true)}, member{"changed", is(false)}, member{"result", empty})
		return append(out, member{"properties", narrow})
	}
	var names []any
	defs := node{}
	for _, r := range results {
		kind := reflect.TypeOf(r)
		defs = append(defs, member{kind.Name(), docs.structure(kind, rules[kind.Name()])})
		names = append(names, node{{"$ref", "#/$defs/" + kind.Name()}})
	}
	success := node{{"anyOf", names}}
	if more := rules[section]; len(more) > 0 {
		success = append(success, member{"allOf", more})
	}
	narrow = append(narrow, member{"result", node{{"anyOf", append(slices.Clone(names), empty)}}})
	return append(out,
		member{"properties", narrow},
		member{"if", properties("failed", is(false))},
		member{"then", properties("result", success)},
		member{"$defs", defs})
}

func head(file, title string) node {
	return node{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", schemaHome + file},
		{"title", title},
		{"$comment", "made from the program's types: make generate"},
	}
}

// structure is the schema of a struct. What the type does not say comes from forms; a field that nobody describes is an
// error.
func (c *comments) structure(kind reflect.Type, rules []node) node {
	described := c.of(kind)
	fields, needed := node{}, []any{}
	for i := range kind.NumField() {
		field := kind.Field(i)
		if field.Anonymous {
			inner := c.structure(field.Type, nil)
			fields = append(fields, inner.get("properties").(node)...)
			needed = append(needed, inner.get("required").([]any)...)
			continue
		}
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			c.t.Errorf("%s.%s has no JSON name", kind, field.Name)
			continue
		}
		value := c.value(field.Type).with(node{{"description", described[field.Name]}})
		value = value.with(forms[name]).with(forms[kind.Name()+"."+name])
		if own := described[field.Name]; own != "" && forms[kind.Name()+"."+name].get("description") == nil {
			value = value.with(node{{"description", own}})
		}
		if value.get("description") == "" {
			c.t.Errorf("%s.%s: give the field a comment, which is its description in docs/schema", kind, field.Name)
		}
		fields = append(fields, member{name, value})
		if options == "" {
			needed = append(needed, name)
		}
	}
	out := node{{"type", "object"}}
	if text := described[""]; text != "" && kind != reflect.TypeFor[report.Document]() {
		out = append(out, member{"description", strings.TrimPrefix(text, kind.Name()+" is ")})
	}
	out = append(out, member{"properties", fields}, member{"required", needed}, member{"additionalProperties", false})
	if len(rules) > 0 {
		out = append(out, member{"allOf", rules})
	}
	return out
}

// value is the schema of a field's type. Nothing is ever null.
func (c *comments) value(kind reflect.Type) node {
	if kind == reflect.TypeFor[json.RawMessage]() {
		return node{{"type", "object"}}
	}
	if kind.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return node{{"type", "string"}, {"minLength", 1}}
	}
	switch kind.Kind() {
	case reflect.String:
		if words := c.constants(kind); len(words) > 0 {
			return node{{"type", "string"}, {"enum", words}}
		}
		return node{{"type", "string"}}
	case reflect.Bool:
		return node{{"type", "boolean"}}
	case reflect.Int, reflect.Int64:
		return node{{"type", "integer"}, {"minimum", 0}}
	case reflect.Slice:
		return node{{"type", "array"}, {"items", c.value(kind.Elem())}}
	case reflect.Map:
		return node{{"type", "object"}, {"additionalProperties", c.value(kind.Elem())}}
	case reflect.Struct:
		return c.structure(kind, rules[kind.Name()])
	case reflect.Pointer:
		return c.value(kind.Elem())
	case reflect.Interface:
		return node{{"type", list("object", "array", "string", "number", "boolean")}}
	}
	c.t.Errorf("no schema for %s", kind)
	return nil
}

func is(value any) node                    { return node{{"const", value}} }
func properties(name string, of node) node { return node{{"properties", node{{name, of}}}} }
func required(name string) node            { return node{{"required", list(name)}} }
func maybe(form string) string             { return `^(` + form + `)?$` }
func list(words ...string) []string        { return words }
func when(condition, then node, otherwise node) node {
	rule := node{{"if", condition}, {"then", then}}
	if otherwise != nil {
		rule = append(rule, member{"else", otherwise})
	}
	return rule
}

// filled demands texts that are not empty.
func filled(names ...string) node {
	fields := node{}
	for _, name := range names {
		fields = append(fields, member{name, node{{"minLength", 1}}})
	}
	return node{{"properties", fields}}
}

// exitStatuses are all that there are, answers those that are no failures.
func exitStatuses() (all []int) {
	for _, row := range cli.ExitStatuses {
		all = append(all, row.Status)
	}
	return all
}

func answers() []int {
	return slices.DeleteFunc(exitStatuses(), report.Failed)
}

func codes() (all []string) {
	for code := range failure.Catalogue {
		all = append(all, string(code))
	}
	slices.Sort(all)
	return all
}

func checks() (all []string) {
	for _, c := range preflight.All() {
		all = append(all, c.ID)
	}
	return all
}

func commands() []string {
	return slices.Sorted(maps.Keys(documentedNames))
}

// documentedNames breaks the circle between documented and forms.
var documentedNames = func() map[string]bool {
	names := map[string]bool{}
	everyCommand(tree(), func(cmd *cobra.Command) { names[section(cmd)] = true })
	return names
}()

// rehearsed are the schemas of the commands that a rehearsal can run.
func rehearsed() (all []node) {
	for _, name := range commands() {
		if name != "rehearse" && name != "emulator" {
			all = append(all, node{{"$ref", contract.FileName(name)}})
		}
	}
	return all
}

// TestGeneratedSchemas makes docs/schema, or says that it is stale.
func TestGeneratedSchemas(t *testing.T) {
	files := map[string][]byte{contract.Envelope: encode(t, envelope(t))}
	everyCommand(tree(), func(cmd *cobra.Command) {
		results, known := documented[section(cmd)]
		if !known {
			t.Errorf("%s prints JSON and has no schema: say in documented what its result is", cmd.CommandPath())
		}
		files[contract.FileName(section(cmd))] = encode(t, schema(t, cmd, section(cmd), results))
	})
	for name := range documented {
		if !documentedNames[name] {
			t.Errorf("documented has %q, which is no command", name)
		}
	}
	dir, err := contract.Dir()
	if err != nil {
		t.Fatal(err)
	}
	upToDate(t, dir, files)
}

// upToDate holds a folder to its files, or with -update makes it so.
func upToDate(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if len(files) < 3 {
		t.Fatalf("only %d files for %s", len(files), dir)
	}
	if *update {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("%v: make generate", err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		want, known := files[entry.Name()]
		have, err := os.ReadFile(path)
		switch {
		case !known && *update:
			err = os.Remove(path)
		case !known:
			t.Errorf("%s is made from nothing any more: make generate", path)
		case err == nil && !bytes.Equal(have, want):
			t.Errorf("%s is stale: make generate", path)
		}
		if err != nil {
			t.Error(err)
		}
		delete(files, entry.Name())
	}
	for name := range files {
		t.Errorf("%s is missing: make generate", filepath.Join(dir, name))
	}
}

func encode(t *testing.T, value any) []byte {
	t.Helper()
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// node is a JSON object whose members keep their order.
type node []member

type member struct {
	name  string
	value any
}

func (n node) get(name string) any {
	for _, m := range n {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// with returns n with the other's members, which replace n's own of the same name.
func (n node) with(other node) node {
	out := slices.Clone(n)
	for _, m := range other {
		if at := slices.IndexFunc(out, func(o member) bool { return o.name == m.name }); at >= 0 {
			out[at] = m
		} else {
			out = append(out, m)
		}
	}
	return out
}

func (n node) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	out.WriteByte('{')
	for i, m := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%q:", m.name)
		if err := enc.Encode(m.value); err != nil {
			return nil, err
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
