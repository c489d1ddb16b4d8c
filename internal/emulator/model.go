package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

// kind is what a value of the model is in JSON.
type kind uint8

const (
	text kind = iota
	number
	flag
	moment // seconds since 1970, as a number
	structure
	sequence
	dictionary // of strings to elements
	anything
)

func (k kind) String() string {
	return [...]string{"String", "Number", "Boolean", "Timestamp", "Structure", "List", "Map", "Document"}[k]
}

// shape is a part of the services' models: what requests and answers are made of.
type shape struct {
	kind     kind
	members  map[string]*shape
	required []string
	element  *shape // of lists and dictionaries
}

// model is what an operation takes and answers.
type model struct{ input, output *shape }

// library is the shapes of one service, each read from the SDK when an operation first needs it.
type library struct {
	mu      sync.Mutex
	shapes  map[string]*shape   // by the SDK's name
	must    map[string][]string // required members in Go's spelling, by the SDK's name of the structure
	learned map[string]bool     // operations whose input was looked at
}

// The libraries have room for what is learned; nothing is done before an operation is called.
var ecsLibrary, ssmLibrary library

// sdkModel is where an operation's model is in the SDK.
type sdkModel struct {
	library       *library
	input, output *smithy.Schema
	in            reflect.Type
	try           func(input any) error // has the SDK validate an input; nothing is sent
}

// errNotSent ends a call of the SDK when it has validated the input.
var errNotSent = errors.New("not sent")

type unsent struct{}

func (unsent) Do(*http.Request) (*http.Response, error) { return nil, errNotSent }

func ecsModel[In, Out any](
	input, output *smithy.Schema, call func(*ecs.Client, context.Context, *In, ...func(*ecs.Options)) (*Out, error),
) sdkModel {
	return sdkModel{&ecsLibrary, input, output, reflect.TypeFor[In](), func(in any) error {
		client := ecs.New(ecs.Options{
			Region: "us-east-1", HTTPClient: unsent{}, Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1,
		})
		_, err := call(client, context.Background(), in.(*In))
		return err
	}}
}

func ssmModel[In, Out any](
	input, output *smithy.Schema, call func(*ssm.Client, context.Context, *In, ...func(*ssm.Options)) (*Out, error),
) sdkModel {
	return sdkModel{&ssmLibrary, input, output, reflect.TypeFor[In](), func(in any) error {
		client := ssm.New(ssm.Options{
			Region: "us-east-1", HTTPClient: unsent{}, Credentials: aws.AnonymousCredentials{}, RetryMaxAttempts: 1,
		})
		_, err := call(client, context.Background(), in.(*In))
		return err
	}}
}

// read makes the model of an operation out of the SDK's.
func (m sdkModel) read() *model {
	l := m.library
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shapes == nil {
		l.shapes, l.must, l.learned = map[string]*shape{}, map[string][]string{}, map[string]bool{}
	}
	if !l.learned[m.in.Name()] {
		l.learn(m)
	}
	in := l.shape(m.input)
	in.require(l.must[m.in.Name()])
	return &model{input: in, output: l.shape(m.output)}
}

// learn finds out what is required in an input and in the structures below it. The SDK knows, in code only: so it is shown
// inputs that have every structure down to some depth, and nothing in the lowest of them, and tells what it misses.
func (l *library) learn(m sdkModel) {
	l.learned[m.in.Name()] = true
	for depth, more := 0, true; more; depth++ {
		input := reflect.New(m.in)
		more = unfold(input.Elem(), nil, depth)
		var invalid smithy.InvalidParamsError
		if !errors.As(m.try(input.Interface()), &invalid) {
			continue // nothing is missing, and the SDK came as far as sending
		}
		for _, e := range invalid.Errs() {
			var missing *smithy.ParamRequiredError
			if errors.As(e, &missing) {
				holder, member := holderOf(m.in, steps.Split(missing.Field(), -1)[1:])
				l.needs(holder, member)
			}
		}
	}
}

// needs notes a required member of a structure, which another operation may have used before.
func (l *library) needs(holder, member string) {
	if slices.Contains(l.must[holder], member) {
		return
	}
	l.must[holder] = append(l.must[holder], member)
	if known := l.shapes[holder]; known != nil {
		known.require(l.must[holder])
	}
}

// steps separate the members in a path of the SDK's: "RunTaskInput.Overrides.ContainerOverrides[0].Name".
var steps = lazyRegexp(`(?:\[[^\]]*\])*\.`)

// lazyRegexp is compiled when it is used: every start of the program would pay for it.
type lazyPattern struct {
	once    sync.Once
	pattern string
	re      *regexp.Regexp
}

func lazyRegexp(pattern string) *lazyPattern { return &lazyPattern{pattern: pattern} }

// Split is that of a regular expression.
func (l *lazyPattern) Split(s string, n int) []string {
	l.once.Do(func() { l.re = regexp.MustCompile(l.pattern) })
	return l.re.Split(s, n)
}

// unfold puts an empty structure everywhere in v where there can be one, as deep as it is told, and reports whether there
// can be more below. above are the structures that v is in.
func unfold(v reflect.Value, above []reflect.Type, depth int) (more bool) {
	if v.Kind() != reflect.Struct || slices.Contains(above, v.Type()) {
		return false
	}
	above = append(slices.Clip(above), v.Type())
	for i := range v.NumField() {
		f := v.Field(i)
		kind := f.Kind()
		if !f.CanSet() || kind != reflect.Pointer && kind != reflect.Slice && kind != reflect.Map || !isModel(f.Type().Elem()) {
			continue
		}
		if depth == 0 {
			more = more || !slices.Contains(above, f.Type().Elem())
			continue
		}
		one := reflect.New(f.Type().Elem())
		more = unfold(one.Elem(), above, depth-1) || more
		switch kind {
		case reflect.Pointer:
			f.Set(one)
		case reflect.Slice:
			f.Set(reflect.Append(f, one.Elem()))
		default:
			f.Set(reflect.MakeMap(f.Type()))
			f.SetMapIndex(reflect.ValueOf("x").Convert(f.Type().Key()), one.Elem())
		}
	}
	return more
}

// isModel tells the structures of a service's model from others, such as times.
func isModel(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasSuffix(t.PkgPath(), "/types")
}

// holderOf follows a path in Go's spelling: the structure that holds the last member, and that member.
func holderOf(t reflect.Type, path []string) (holder, member string) {
	for _, name := range path[:len(path)-1] {
		f, _ := t.FieldByName(name)
		for t = f.Type; t.Kind() != reflect.Struct; {
			t = t.Elem()
		}
	}
	return t.Name(), path[len(path)-1]
}

// shape reads a schema. Structures are known by name, so that one which holds itself has an end.
func (l *library) shape(s *smithy.Schema) *shape {
	name := s.TargetID().Name
	if name == "" {
		name = s.ID().Name
	}
	if known := l.shapes[name]; known != nil {
		return known
	}
	made := &shape{}
	l.shapes[name] = made
	switch s.Type() {
	case smithy.ShapeTypeStructure, smithy.ShapeTypeUnion:
		made.kind, made.members = structure, map[string]*shape{}
		for member, schema := range s.Members() {
			made.members[member] = l.shape(schema)
		}
		made.require(l.must[name])
	case smithy.ShapeTypeList, smithy.ShapeTypeSet:
		made.kind, made.element = sequence, l.shape(s.ListMember())
	case smithy.ShapeTypeMap:
		made.kind, made.element = dictionary, l.shape(s.MapValue())
	case smithy.ShapeTypeBoolean:
		made.kind = flag
	case smithy.ShapeTypeTimestamp:
		made.kind = moment
	case smithy.ShapeTypeByte, smithy.ShapeTypeShort, smithy.ShapeTypeInteger, smithy.ShapeTypeLong, smithy.ShapeTypeFloat,
		smithy.ShapeTypeDouble, smithy.ShapeTypeIntEnum, smithy.ShapeTypeBigDecimal, smithy.ShapeTypeBigInteger:
		made.kind = number
	case smithy.ShapeTypeDocument:
		made.kind = anything
	default:
		made.kind = text // enumerations and blobs too
	}
	return made
}

// require notes members that Go spells with a capital letter.
func (s *shape) require(members []string) {
	for _, goName := range members {
		for name := range s.members {
			if strings.EqualFold(name, goName) && !slices.Contains(s.required, name) {
				s.required = append(s.required, name)
			}
		}
	}
	slices.Sort(s.required)
}

// encoded is an answer's JSON, in pieces, which were held to the model when they were made.
type encoded [][]byte

// fault is what is wrong with a value: where, and how.
type fault struct {
	path string
	is   faultKind
	want kind
}

type faultKind uint8

const (
	unknownMember faultKind = iota
	missingMember
	wrongKind
)

func (f fault) String() string {
	switch f.is {
	case unknownMember:
		return f.path + " is not in the model"
	case missingMember:
		return f.path + " is missing"
	}
	return f.path + " is no " + f.want.String()
}

// check holds a value to a shape. Values are what encoding/json reads, and what the operations answer with.
func (s *shape) check(value any, path string, faults []fault) []fault {
	switch v := value.(type) {
	case nil, encoded:
		return faults
	case string:
		return s.expect(s.kind == text, path, faults)
	case bool:
		return s.expect(s.kind == flag, path, faults)
	case float64, json.Number, int, int64:
		return s.expect(s.kind == number || s.kind == moment, path, faults)
	case []string:
		return s.expect(s.kind == sequence && s.element.kind == text, path, faults)
	case map[string]string:
		if s.kind == structure {
			for name := range v {
				if m := s.members[name]; m == nil || m.kind != text {
					faults = append(faults, fault{join(path, name), unknownMember, 0})
				}
			}
			return s.complete(func(name string) bool { _, has := v[name]; return has }, path, faults)
		}
		return s.expect(s.kind == dictionary && s.element.kind == text, path, faults)
	case map[string]any:
		return s.checkMap(v, path, faults)
	case []any:
		if s.kind != sequence {
			return s.expect(false, path, faults)
		}
		for i, e := range v {
			faults = s.element.check(e, fmt.Sprintf("%s.%d.member", path, i+1), faults)
		}
		return faults
	}
	var plain any
	data, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(data, &plain)
	}
	if err != nil {
		return s.expect(false, path, faults)
	}
	return s.check(plain, path, faults)
}

func (s *shape) checkMap(v map[string]any, path string, faults []fault) []fault {
	switch s.kind {
	case dictionary:
		for name, e := range v {
			faults = s.element.check(e, join(path, name), faults)
		}
		return faults
	case structure:
		for name, e := range v {
			if m := s.members[name]; m != nil {
				faults = m.check(e, join(path, name), faults)
			} else {
				faults = append(faults, fault{join(path, name), unknownMember, 0})
			}
		}
		return s.complete(func(name string) bool { return v[name] != nil }, path, faults)
	}
	return s.expect(false, path, faults)
}

func (s *shape) complete(has func(string) bool, path string, faults []fault) []fault {
	for _, name := range s.required {
		if !has(name) {
			faults = append(faults, fault{join(path, name), missingMember, 0})
		}
	}
	return faults
}

func (s *shape) expect(good bool, path string, faults []fault) []fault {
	if good || s.kind == anything {
		return faults
	}
	return append(faults, fault{path, wrongKind, s.kind})
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// checkInput refuses a request that is not as the model has it, in AWS's words where it has them: Systems Manager tells of
// members that are missing as every service does that validates by the model; ECS has words of its own, which are known for
// lists ("Tasks cannot be empty."). Of members that are not in the model AWS says nothing; a client that sends one means a
// feature that is not here.
func (c *call) checkInput(m *model) *apiError {
	var value any
	decoder := json.NewDecoder(strings.NewReader(string(c.body)))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		return newError("SerializationException", "the request is not JSON: %v", err)
	}
	if _, ok := value.(map[string]any); !ok {
		return newError("SerializationException", "the request is no JSON object")
	}
	faults := m.input.check(value, "", nil)
	if len(faults) == 0 {
		return nil
	}
	slices.SortFunc(faults, func(a, b fault) int { return strings.Compare(a.path, b.path) })
	for _, f := range faults {
		if f.is == wrongKind {
			return newError("SerializationException", "%s can not be converted to a %s", f.path, f.want)
		}
	}
	for _, f := range faults {
		if f.is == unknownMember {
			return newError(validationCode(c.service), "Unknown parameter in input: \"%s\": %s:%s has none of this name", f.path,
				c.service, c.name)
		}
	}
	if c.service == "ecs" {
		name := faults[0].path
		return newError("InvalidParameterException", "%s%s cannot be empty.", strings.ToUpper(name[:1]), name[1:])
	}
	said := make([]string, len(faults))
	for i, f := range faults {
		said[i] = fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", wireCase(f.path))
	}
	errs := "error"
	if len(said) > 1 {
		errs = "errors"
	}
	return newError("ValidationException", "%d validation %s detected: %s", len(said), errs, strings.Join(said, "; "))
}

// wireCase is how the services name a member in such a message: with a small letter.
func wireCase(path string) string { return strings.ToLower(path[:1]) + path[1:] }

func validationCode(service string) string {
	if service == "ecs" {
		return "InvalidParameterException"
	}
	return "ValidationException"
}

// checkOutput refuses an answer that AWS would not give. Only the emulator itself, or a seed, can be wrong then.
func (c *call) checkOutput(m *model, out any) *apiError {
	faults := m.output.check(out, "", nil)
	if len(faults) == 0 {
		return nil
	}
	return &apiError{http.StatusInternalServerError, "InternalFailure",
		fmt.Sprintf("the emulator's answer to %s:%s is not AWS's: %s", c.service, c.name, faults[0])}
}
