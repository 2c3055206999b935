// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/stacklok/waggle/host/environment"
)

// bounds are what a schema says of a parameter beside its type, by JSON Schema's
// keywords. What does not fit is still refused by decode or the manager, in words.
type bounds map[string]any

// parameters are the bounds of a tool's parameters. Some are settings of this
// server, so they cannot stand in the tags of the input's struct.
type parameters map[string]bounds

// pathBounds are those of every path. MaxPath counts bytes: a longer text is
// refused in any case, a shorter one may be.
var pathBounds = bounds{"minLength": 1, "maxLength": environment.MaxPath}

// inputSchema completes the schema made from a struct. A number that may be left
// out is a pointer there, so that 0 can be told from nothing; what is offered is a
// number, because null means no more and some clients refuse a choice of types.
func inputSchema(raw json.RawMessage, p parameters) (json.RawMessage, error) {
	var schema map[string]any
	if err := json.Unmarshal(raw, &schema); err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok { // some clients refuse a schema without properties
		properties = map[string]any{}
		schema["properties"] = properties
	}
	oneType(properties)
	for name, b := range p {
		property, ok := properties[name].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("bounds of %s: no such parameter", name)
		}
		maps.Copy(property, b)
	}
	return json.Marshal(schema)
}

// oneType leaves each property the type that it has when it is there.
func oneType(properties map[string]any) {
	for _, v := range properties {
		property, ok := v.(map[string]any)
		if kinds, several := property["type"].([]any); ok && several {
			property["type"] = kinds[len(kinds)-1] // after "null"
		}
	}
}
