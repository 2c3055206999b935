// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

func addResources(s *server.MCPServer) {
	fixed := func(c mcp.ResourceContents) server.ResourceHandlerFunc {
		return func(context.Context, mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			return []mcp.ResourceContents{c}, nil
		}
	}
	s.AddResource(mcp.NewResource("test://static-text", "static text", mcp.WithMIMEType("text/plain")),
		fixed(mcp.TextResourceContents{URI: "test://static-text", MIMEType: "text/plain", Text: "This is the content of the static text resource."}))
	s.AddResource(mcp.NewResource("test://static-binary", "static binary", mcp.WithMIMEType("image/png")),
		fixed(mcp.BlobResourceContents{URI: "test://static-binary", MIMEType: "image/png", Blob: onePixel}))
	s.AddResourceTemplate(mcp.NewResourceTemplate("test://template/{id}/data", "template", mcp.WithTemplateMIMEType("application/json")),
		func(_ context.Context, req mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
			id := strings.TrimSuffix(strings.TrimPrefix(req.Params.URI, "test://template/"), "/data")
			text, err := json.Marshal(map[string]any{"id": id, "templateTest": true, "data": "Data for ID: " + id})
			if err != nil {
				return nil, err
			}
			return []mcp.ResourceContents{mcp.TextResourceContents{URI: req.Params.URI, MIMEType: "application/json", Text: string(text)}}, nil
		})
}

// described says what a prompt is.
var described = mcp.WithPromptDescription("A fixture of the conformance suite.")

// addPrompt adds a prompt that always says the same.
func addPrompt(s *server.MCPServer, name string, contents ...mcp.Content) {
	prompt := mcp.NewPrompt(name, described)
	s.AddPrompt(prompt, func(context.Context, mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return says(contents...), nil
	})
}

func says(contents ...mcp.Content) *mcp.GetPromptResult {
	r := &mcp.GetPromptResult{}
	for _, c := range contents {
		r.Messages = append(r.Messages, mcp.PromptMessage{Role: mcp.RoleUser, Content: c})
	}
	return r
}

func addPrompts(s *server.MCPServer) {
	addPrompt(s, "test_simple_prompt", mcp.NewTextContent("This is a simple prompt for testing."))
	addPrompt(s, "test_prompt_with_image", mcp.NewImageContent(onePixel, "image/png"), mcp.NewTextContent("Please analyze the image above."))
	s.AddPrompt(mcp.NewPrompt("test_prompt_with_arguments", described,
		mcp.WithArgument("arg1", mcp.RequiredArgument()), mcp.WithArgument("arg2", mcp.RequiredArgument())),
		func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			given := req.Params.Arguments
			return says(mcp.NewTextContent(fmt.Sprintf("Prompt with arguments: arg1='%s', arg2='%s'", given["arg1"], given["arg2"]))), nil
		})
	s.AddPrompt(mcp.NewPrompt("test_prompt_with_embedded_resource", described, mcp.WithArgument("resourceUri", mcp.RequiredArgument())),
		func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			return says(embedded(req.Params.Arguments["resourceUri"], "text/plain", "Embedded resource content for testing."),
				mcp.NewTextContent("Please process the embedded resource above.")), nil
		})
	s.AddPrompt(mcp.NewPrompt("test_input_required_result_prompt", described),
		func(_ context.Context, req mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
			if a := server.ElicitationResponse(req.Params.InputResponses, "user_context"); a != nil {
				return says(mcp.NewTextContent(fmt.Sprint("In this context: ", a.Content))), nil
			}
			return server.NewInputRequestBuilder("").
				Elicit("user_context", question("What context should the prompt use?", "context", "string")).PromptResult(), nil
		})
}

// schema2020 has the keywords that a server must not lose on the way.
const schema2020 = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object",
	"$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}},
	"properties": {
		"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"},
		"contactMethod": {"type": "string", "enum": ["phone", "email"]}, "phone": {"type": "string"}, "email": {"type": "string"}
	},
	"allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
	"if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
	"then": {"required": ["phone"]},
	"else": {"required": ["email"]},
	"additionalProperties": false
}`

func addSchemaFixture(s *server.MCPServer) {
	s.AddTool(mcp.NewToolWithRawSchema("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", json.RawMessage(schema2020)),
		content(mcp.NewTextContent("ok")))
}
