// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/stacklok/waggle/host/environment"
)

// decode reads the arguments of a call into In. It is strict: a misspelt
// optional parameter would otherwise be ignored without a word.
func decode[In any](tool string, req mcp.CallToolRequest) (In, error) {
	var in In
	raw, ok := req.GetRawArguments().(json.RawMessage)
	if !ok {
		var err error
		if raw, err = json.Marshal(req.GetRawArguments()); err != nil {
			return in, fmt.Errorf("encode arguments of %s: %w", tool, err)
		}
	}
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		raw = []byte("{}")
	}
	if err := checkText(raw); err != nil {
		return in, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return in, invalid("arguments must be a JSON object")
	}
	if err := checkNames(tool, reflect.TypeFor[In](), fields); err != nil {
		return in, err
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			// Of a list, the field may be that of an element.
			name, _, _ := strings.Cut(wrong.Field, ".")
			if whole := fieldType(reflect.TypeFor[In](), name); whole != nil && whole != wrong.Type && kindName(whole) != kindName(wrong.Type) {
				return in, invalid("%s must be %s, not with %s in it", name, kindName(whole), givenName(wrong.Value))
			}
			return in, invalid("%s must be %s, not %s", wrong.Field, kindName(wrong.Type), givenName(wrong.Value))
		}
		return in, invalid("arguments are not understood: %v", err)
	}
	return in, nil
}

// checkText refuses what encoding/json would replace without a word: bytes that are
// not UTF-8, and halves of UTF-16 pairs.
func checkText(raw []byte) error {
	if !utf8.Valid(raw) {
		return invalid("arguments are not UTF-8: give binary content as base64, with encoding base64 where the tool has it")
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		unit, ok := escaped(raw[i:])
		switch {
		case !ok:
			i++ // another escape, of one character
		case !utf16.IsSurrogate(unit):
			i += 5
		default:
			second, _ := escaped(raw[min(i+6, len(raw)):])
			if utf16.DecodeRune(unit, second) == utf8.RuneError {
				return invalid("arguments hold a lone surrogate, \\u%04x, which is no character: give the whole pair, or binary content as base64", unit)
			}
			i += 11
		}
	}
	return nil
}

// escaped is the UTF-16 unit of the \uXXXX that raw begins with.
func escaped(raw []byte) (unit rune, ok bool) {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(raw[2:6]), 16, 16)
	return rune(n), err == nil
}

// checkNames says which arguments are missing and which ones the tool does not
// have.
func checkNames(tool string, in reflect.Type, given map[string]json.RawMessage) error {
	var errs []error
	var names, missing []string
	for f := range in.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
		v, present := given[name]
		if !strings.Contains(options, "omitempty") && (!present || string(v) == "null") {
			missing = append(missing, name)
		}
		delete(given, name)
	}
	switch len(missing) {
	case 0:
	case 1:
		errs = append(errs, invalid("%s is missing", missing[0]))
	default:
		errs = append(errs, invalid("%s are missing", strings.Join(missing, ", ")))
	}
	// Of the unknown ones the first is enough to see that something is wrong.
	if unknown := slices.Sorted(maps.Keys(given)); len(unknown) > 0 {
		if len(names) == 0 {
			return invalid("%s takes no parameters", tool)
		}
		errs = append(errs, invalid("%.64q is not a parameter of %s, which takes %s", unknown[0], tool, strings.Join(names, ", ")))
	}
	return errors.Join(errs...)
}

// fieldType is the type of a parameter, or nil if there is none of that name.
func fieldType(in reflect.Type, name string) reflect.Type {
	for f := range in.Fields() {
		if own, _, _ := strings.Cut(f.Tag.Get("json"), ","); own == name {
			return f.Type
		}
	}
	return nil
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return kindName(t.Elem())
	case reflect.Slice:
		return "a list of strings"
	case reflect.Map:
		return "an object of strings"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	default:
		return "of another type"
	}
}

// givenName is what a caller gave, in the words of encoding/json: "number 1.5",
// "string".
func givenName(value string) string {
	if _, number, ok := strings.Cut(value, "number "); ok {
		return number
	}
	return map[string]string{
		"number": "a number", "string": "a string", "bool": "true or false", "array": "a list", "object": "an object",
	}[value]
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", environment.ErrInvalidArgument, fmt.Sprintf(format, args...))
}

// given is a number that may be left out, which is 0 for the manager. A 0 that was
// given is out of range like any other number below 1.
func given(n *int64) int64 {
	switch {
	case n == nil:
		return 0
	case *n == 0:
		return -1
	}
	return *n
}

// timeout turns a number of units, which may be left out, into a duration; what
// does not fit stays out of range rather than wrapping round.
func timeout(of *int64, unit time.Duration) time.Duration {
	switch n := given(of); {
	case n < 0:
		return -1
	case n > int64(math.MaxInt64/unit):
		return math.MaxInt64
	default:
		return time.Duration(n) * unit
	}
}
