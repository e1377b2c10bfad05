// Starlark runs a file in the language and the dialect of Tilt's files. It knows none of Tilt's functions: whoever starts
// it names them and answers each call.
//
// Messages are lines of JSON. The first line that it reads says what to run: {"file": path, "names": names}, where a name
// stands for {"call": "name to ask for"}, {"value": value} or {"module": names}. Then it writes
//
//	{"op": "call", "name": …, "args": […], "kwargs": {…}, "file": …, "at": …}   a call; wants an answer
//	{"op": "load", "path": …, "file": …, "at": …}                               a load statement; wants an answer
//	{"op": "print", "text": …}
//	{"op": "end", "error": … or null}                                           the last line
//
// An answer is {"value": value}, {"error": text}, {"stop": true}, which ends the run without an error, or {"run": path},
// which runs another file; with "globals": true its variables are the value.
//
// Values are JSON. {"$": type, "value": …} is one of the caller's own types, whose text is the value; functions are
// {"$": "function", "value": name}.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"
	"go.starlark.net/syntax"
)

// What Tilt turns on.
var dialect = &syntax.FileOptions{
	Set: true, While: true, TopLevelControl: true, GlobalReassign: true, Recursion: true,
}

// A file that does not end is refused: Tilt would wait for it forever.
const maxSteps = 50_000_000

var errStop = errors.New("stop")

type name struct {
	Call   string           `json:"call"`
	Value  *json.RawMessage `json:"value"`
	Module map[string]name  `json:"module"`
}

type answer struct {
	Value   json.RawMessage `json:"value"`
	Error   *string         `json:"error"`
	Stop    bool            `json:"stop"`
	Run     string          `json:"run"`
	Globals bool            `json:"globals"`
}

type host struct {
	in     *bufio.Reader
	out    *json.Encoder
	names  starlark.StringDict
	loaded map[string]*loaded
}

type loaded struct {
	globals starlark.StringDict
	err     error
	done    bool
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "starlark:", err)
		os.Exit(1)
	}
}

func run() error {
	h := &host{
		in:     bufio.NewReader(os.Stdin),
		out:    json.NewEncoder(os.Stdout),
		loaded: map[string]*loaded{},
	}
	var task struct {
		File  string          `json:"file"`
		Names map[string]name `json:"names"`
	}
	if err := h.read(&task); err != nil {
		return err
	}
	names, err := h.members(task.Names)
	if err != nil {
		return err
	}
	names["struct"] = starlark.NewBuiltin("struct", starlarkstruct.Make)
	h.names = names
	_, err = h.exec(task.File, "__main__")
	var text *string
	if err != nil && !errors.Is(err, errStop) {
		said := err.Error()
		var traced *starlark.EvalError
		if errors.As(err, &traced) {
			said = traced.Backtrace()
		}
		text = &said
	}
	return h.out.Encode(map[string]any{"op": "end", "error": text})
}

func (h *host) read(into any) error {
	line, err := h.in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return json.Unmarshal(line, into)
}

func (h *host) members(names map[string]name) (starlark.StringDict, error) {
	members := starlark.StringDict{}
	for key, of := range names {
		switch {
		case of.Module != nil:
			inner, err := h.members(of.Module)
			if err != nil {
				return nil, err
			}
			members[key] = &starlarkstruct.Module{Name: key, Members: inner}
		case of.Value != nil:
			value, err := decode(*of.Value)
			if err != nil {
				return nil, err
			}
			members[key] = value
		default:
			members[key] = starlark.NewBuiltin(of.Call, h.call)
		}
	}
	return members, nil
}

// Runs a file once; whoever wants it again gets what it left.
func (h *host) exec(path, name string) (starlark.StringDict, error) {
	path = filepath.Clean(path)
	if of, ok := h.loaded[path]; ok {
		if !of.done {
			return nil, fmt.Errorf("cycle of files in %s", path)
		}
		return of.globals, of.err
	}
	of := &loaded{}
	h.loaded[path] = of
	thread := &starlark.Thread{
		Name:  path,
		Load:  h.load,
		Print: func(_ *starlark.Thread, text string) { h.out.Encode(map[string]any{"op": "print", "text": text}) },
	}
	thread.SetLocal("file", path)
	thread.SetMaxExecutionSteps(maxSteps)
	names := starlark.StringDict{"__file__": starlark.String(path), "__name__": starlark.String(name)}
	for key, value := range h.names {
		names[key] = value
	}
	of.globals, of.err = starlark.ExecFileOptions(dialect, thread, path, nil, names)
	of.done = true
	return of.globals, of.err
}

func (h *host) ask(thread *starlark.Thread, depth int, question map[string]any) (starlark.Value, error) {
	question["file"] = thread.Local("file")
	question["at"] = thread.CallFrame(depth).Pos.String()
	if err := h.out.Encode(question); err != nil {
		return nil, err
	}
	var said answer
	if err := h.read(&said); err != nil {
		return nil, err
	}
	switch {
	case said.Error != nil:
		return nil, errors.New(*said.Error)
	case said.Stop:
		return nil, errStop
	case said.Run == "":
		return decode(said.Value)
	}
	globals, err := h.exec(said.Run, said.Run)
	if err != nil || !said.Globals {
		return starlark.None, err
	}
	all := starlark.NewDict(len(globals))
	for _, key := range globals.Keys() {
		if err := all.SetKey(starlark.String(key), globals[key]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (h *host) call(thread *starlark.Thread, fn *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	positional := []any{}
	for _, arg := range args {
		value, err := encode(arg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fn.Name(), err)
		}
		positional = append(positional, value)
	}
	named := map[string]any{}
	for _, pair := range kwargs {
		value, err := encode(pair[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %v: %w", fn.Name(), pair[0], err)
		}
		named[string(pair[0].(starlark.String))] = value
	}
	value, err := h.ask(thread, 1, map[string]any{"op": "call", "name": fn.Name(), "args": positional, "kwargs": named})
	if err != nil && !errors.Is(err, errStop) {
		return nil, fmt.Errorf("%s: %w", fn.Name(), err)
	}
	return value, err
}

func (h *host) load(thread *starlark.Thread, path string) (starlark.StringDict, error) {
	value, err := h.ask(thread, 0, map[string]any{"op": "load", "path": path})
	if err != nil {
		return nil, err
	}
	globals, ok := value.(*starlark.Dict)
	if !ok {
		return nil, fmt.Errorf("%s cannot be loaded", path)
	}
	names := starlark.StringDict{}
	for _, pair := range globals.Items() {
		names[string(pair[0].(starlark.String))] = pair[1]
	}
	return names, nil
}
