// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// stateKey signs what a client brings back.
var stateKey = []byte(rand.Text())

func sign(state string) string {
	mac := hmac.New(sha256.New, stateKey)
	mac.Write([]byte(state))
	return state + "." + hex.EncodeToString(mac.Sum(nil))
}

// signed returns what was signed.
func signed(token string) (state string, ok bool) {
	state, _, _ = strings.Cut(token, ".")
	return state, hmac.Equal([]byte(sign(state)), []byte(token))
}

// question is an elicitation of one value.
func question(message, name, kind string) mcp.ElicitationParams {
	return mcp.ElicitationParams{Message: message, RequestedSchema: map[string]any{
		"type": "object", "properties": map[string]any{name: map[string]any{"type": kind}}, "required": []string{name},
	}}
}

func sample(text string, tokens int) mcp.CreateMessageParams {
	return mcp.CreateMessageParams{MaxTokens: tokens, Messages: []mcp.SamplingMessage{{Role: mcp.RoleUser, Content: mcp.NewTextContent(text)}}}
}

// addQuestions adds the tools that ask the client, in both eras: mcp-go asks an older
// client with requests of its own. Waggle's own tools ask nothing.
func addQuestions(s *server.MCPServer) {
	ask := server.NewInputRequestBuilder
	for name, fn := range map[string]handler{
		"test_sampling": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if r := server.SamplingResponse(req.Params.InputResponses, "llm"); r != nil {
				return mcp.NewToolResultText(fmt.Sprint("LLM response: ", r.Content)), nil
			}
			return ask("").Sample("llm", sample(req.GetString("prompt", ""), 100)).ToolResult(), nil
		},
		"test_elicitation": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return elicit(req, req.GetString("message", ""), map[string]any{
				"response": map[string]any{"type": "string", "description": "User's response"},
			})
		},
		"test_elicitation_sep1034_defaults": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return elicit(req, "Defaults", map[string]any{
				"name":     map[string]any{"type": "string", "default": "John Doe"},
				"age":      map[string]any{"type": "integer", "default": 30},
				"score":    map[string]any{"type": "number", "default": 95.5},
				"status":   map[string]any{"type": "string", "enum": []string{"active", "inactive", "pending"}, "default": "active"},
				"verified": map[string]any{"type": "boolean", "default": true},
			})
		},
		"test_elicitation_sep1330_enums": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return elicit(req, "Choices", choices())
		},
		"test_input_required_result_elicitation": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if a := server.ElicitationResponse(req.Params.InputResponses, "user_name"); a != nil {
				return mcp.NewToolResultText(fmt.Sprint("Hello, ", a.Content)), nil
			}
			return ask("").Elicit("user_name", question("What is your name?", "name", "string")).ToolResult(), nil
		},
		"test_input_required_result_sampling": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if a := server.SamplingResponse(req.Params.InputResponses, "capital_question"); a != nil {
				return mcp.NewToolResultText(fmt.Sprint(a.Content)), nil
			}
			return ask("").Sample("capital_question", sample("What is the capital of France?", 100)).ToolResult(), nil
		},
		"test_input_required_result_list_roots": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			if a := server.RootsResponse(req.Params.InputResponses, "client_roots"); a != nil {
				return mcp.NewToolResultText(fmt.Sprint(a.Roots)), nil
			}
			return ask("").Roots("client_roots").ToolResult(), nil
		},
		"test_input_required_result_request_state":   confirmed,
		"test_input_required_result_tampered_state":  confirmed,
		"test_input_required_result_multiple_inputs": several,
		"test_input_required_result_multi_round":     rounds,
		"test_input_required_result_capabilities": func(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			b, c := ask(""), capabilities(req)
			if c != nil && c.Sampling != nil {
				b.Sample("sampled", sample("Say anything.", 10))
			}
			if c != nil && c.Elicitation != nil {
				b.Elicit("said", question("Say anything.", "text", "string"))
			}
			return b.ToolResult(), nil
		},
	} {
		s.AddTool(mcp.NewTool(name, mcp.WithDescription("A fixture of the conformance suite, which asks the client.")), fn)
	}
}

// elicit asks one question and returns the answer.
func elicit(req mcp.CallToolRequest, message string, properties map[string]any) (*mcp.CallToolResult, error) {
	if a := server.ElicitationResponse(req.Params.InputResponses, "answer"); a != nil {
		return mcp.NewToolResultText(fmt.Sprintf("Elicitation completed: action=%s, content=%v", a.Action, a.Content)), nil
	}
	return server.NewInputRequestBuilder("").Elicit("answer", mcp.ElicitationParams{
		Message: message, RequestedSchema: map[string]any{"type": "object", "properties": properties, "required": []string{}},
	}).ToolResult(), nil
}

func choices() map[string]any {
	titled := []any{
		map[string]any{"const": "value1", "title": "First Option"}, map[string]any{"const": "value2", "title": "Second Option"},
		map[string]any{"const": "value3", "title": "Third Option"},
	}
	names := []string{"option1", "option2", "option3"}
	return map[string]any{
		"untitledSingle": map[string]any{"type": "string", "enum": names},
		"titledSingle":   map[string]any{"type": "string", "oneOf": titled},
		"legacyEnum":     map[string]any{"type": "string", "enum": []string{"opt1", "opt2"}, "enumNames": []string{"Option One", "Option Two"}},
		"untitledMulti":  map[string]any{"type": "array", "items": map[string]any{"type": "string", "enum": names}},
		"titledMulti":    map[string]any{"type": "array", "items": map[string]any{"anyOf": titled}},
	}
}

// refuseState is a state that this server has not made, or that was changed.
func refuseState() error {
	return fmt.Errorf("requestState is not of this server: %w", mcp.ErrInvalidParams)
}

// confirmed takes an answer only with the state that it gave out.
func confirmed(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if a := server.ElicitationResponse(req.Params.InputResponses, "confirm"); a != nil {
		if _, ok := signed(req.Params.RequestState); !ok {
			return nil, refuseState()
		}
		return mcp.NewToolResultText("state-ok"), nil
	}
	return server.NewInputRequestBuilder(sign("confirm")).Elicit("confirm", question("Please confirm", "ok", "boolean")).ToolResult(), nil
}

// several asks three things at once.
func several(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	r := req.Params.InputResponses
	name, greeting, roots := server.ElicitationResponse(r, "user_name"), server.SamplingResponse(r, "greeting"), server.RootsResponse(r, "client_roots")
	if name != nil && greeting != nil && roots != nil {
		if _, ok := signed(req.Params.RequestState); !ok {
			return nil, refuseState()
		}
		return mcp.NewToolResultText(fmt.Sprint(name.Content, greeting.Content, roots.Roots)), nil
	}
	return server.NewInputRequestBuilder(sign("several")).
		Elicit("user_name", question("What is your name?", "name", "string")).
		Sample("greeting", sample("Generate a greeting", 50)).Roots("client_roots").ToolResult(), nil
}

// rounds asks one thing after the other; the state says which was last.
func rounds(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	state, ok := signed(req.Params.RequestState)
	switch {
	case req.Params.RequestState == "":
		return server.NewInputRequestBuilder(sign("1")).Elicit("step1", question("Step 1: What is your name?", "name", "string")).ToolResult(), nil
	case !ok:
		return nil, refuseState()
	case state == "1":
		return server.NewInputRequestBuilder(sign("2")).Elicit("step2", question("Step 2: What is your favorite color?", "color", "string")).ToolResult(), nil
	}
	return mcp.NewToolResultText("both steps done"), nil
}
