package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
)

// The key that tells a value of the caller's own types.
const tag = "$"

// A value of a type that the language does not have.
type own struct {
	kind  string
	value any
}

func (o own) String() string {
	if text, ok := o.value.(string); ok {
		return text
	}
	text, _ := json.Marshal(o.value)
	return string(text)
}
func (o own) Type() string          { return o.kind }
func (o own) Freeze()               {}
func (o own) Truth() starlark.Bool  { return o.String() != "" }
func (o own) Hash() (uint32, error) { return starlark.String(o.String()).Hash() }

func encode(value starlark.Value) (any, error) {
	switch value := value.(type) {
	case starlark.NoneType:
		return nil, nil
	case starlark.Bool:
		return bool(value), nil
	case starlark.String:
		return string(value), nil
	case starlark.Float:
		return float64(value), nil
	case starlark.Int:
		number, ok := value.Int64()
		if !ok {
			return nil, fmt.Errorf("the number %s is too large", value)
		}
		return number, nil
	case own:
		return map[string]any{tag: value.kind, "value": value.value}, nil
	case *starlark.Dict:
		return object(value.Items())
	case *starlarkstruct.Struct:
		fields := starlark.StringDict{}
		value.ToStringDict(fields)
		inner := map[string]any{}
		for key, field := range fields {
			encoded, err := encode(field)
			if err != nil {
				return nil, err
			}
			inner[key] = encoded
		}
		return map[string]any{tag: "struct", "value": inner}, nil
	case starlark.Callable:
		return map[string]any{tag: "function", "value": value.Name()}, nil
	case starlark.Iterable:
		list := []any{}
		iterator := value.Iterate()
		defer iterator.Done()
		var item starlark.Value
		for iterator.Next(&item) {
			encoded, err := encode(item)
			if err != nil {
				return nil, err
			}
			list = append(list, encoded)
		}
		return list, nil
	}
	return nil, fmt.Errorf("a value of type %s is not expected here", value.Type())
}

func object(items []starlark.Tuple) (any, error) {
	all := map[string]any{}
	for _, pair := range items {
		key, ok := pair[0].(starlark.String)
		if !ok {
			return nil, fmt.Errorf("a key of type %s is not expected here", pair[0].Type())
		}
		value, err := encode(pair[1])
		if err != nil {
			return nil, err
		}
		all[string(key)] = value
	}
	return all, nil
}

func decode(text json.RawMessage) (starlark.Value, error) {
	if len(text) == 0 {
		return starlark.None, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return built(value)
}

func built(value any) (starlark.Value, error) {
	switch value := value.(type) {
	case nil:
		return starlark.None, nil
	case bool:
		return starlark.Bool(value), nil
	case string:
		return starlark.String(value), nil
	case json.Number:
		if number, err := value.Int64(); err == nil {
			return starlark.MakeInt64(number), nil
		}
		number, err := value.Float64()
		return starlark.Float(number), err
	case []any:
		list := starlark.NewList(nil)
		for _, item := range value {
			inner, err := built(item)
			if err != nil {
				return nil, err
			}
			if err := list.Append(inner); err != nil {
				return nil, err
			}
		}
		return list, nil
	case map[string]any:
		if kind, ok := value[tag].(string); ok {
			return own{kind: kind, value: value["value"]}, nil
		}
		dict := starlark.NewDict(len(value))
		for key, item := range value {
			inner, err := built(item)
			if err != nil {
				return nil, err
			}
			if err := dict.SetKey(starlark.String(key), inner); err != nil {
				return nil, err
			}
		}
		return dict, nil
	}
	return nil, fmt.Errorf("%T is no value", value)
}
