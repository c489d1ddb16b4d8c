package report

import (
	"encoding"
	"encoding/json"
	"reflect"
)

// tidy returns a copy of v in which every string went through clean and no slice or map is nil. It works on the values
// and not on the encoded text, because what hides a secret in a line of text may well eat the quote after it.
func tidy(v any, clean func(string) string) any {
	if v == nil {
		return nil
	}
	return tidied(reflect.ValueOf(v), clean).Interface()
}

func tidied(v reflect.Value, clean func(string) string) reflect.Value {
	if encodesItself(v.Type()) {
		return v
	}
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.SetString(clean(v.String()))
	case reflect.Slice:
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(tidied(v.Index(i), clean))
		}
	case reflect.Array:
		for i := range v.Len() {
			out.Index(i).Set(tidied(v.Index(i), clean))
		}
	case reflect.Map:
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for entries := v.MapRange(); entries.Next(); {
			out.SetMapIndex(entries.Key(), tidied(entries.Value(), clean))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(tidied(v.Field(i), clean))
			}
		}
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(tidied(v.Elem(), clean))
	case reflect.Interface:
		if v.IsNil() {
			return v
		}
		out.Set(tidied(v.Elem(), clean))
	default:
		return v
	}
	return out
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// encodesItself is for types whose unexported fields are their content, like time.Time and secret.Text.
func encodesItself(t reflect.Type) bool {
	return t.Kind() != reflect.Interface && (t.Implements(jsonMarshaler) || t.Implements(textMarshaler))
}
