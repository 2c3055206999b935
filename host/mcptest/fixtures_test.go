// SPDX-License-Identifier: Apache-2.0

package mcptest_test

import (
	"context"
	"fmt"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/stacklok/waggle/host/edge"
)

const (
	// onePixel is a PNG of one pixel, and oneSample a WAV of none to speak of.
	onePixel  = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
	oneSample = "UklGRiYAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQIAAAAAAA=="
	// between is what the suite wants between two notifications of a call.
	between = 50 * time.Millisecond
)

type handler = server.ToolHandlerFunc

// addFixtures puts what the conformance suite asks for by name beside the tools of the
// product. What only they have is claimed here, not by the product.
func addFixtures(s *server.MCPServer) {
	for _, claim := range []server.ServerOption{
		server.WithResourceCapabilities(true, true), server.WithPromptCapabilities(true),
		server.WithToolCapabilities(true), server.WithCompletions(), server.WithLogging(), server.WithElicitation(),
	} {
		claim(s)
	}
	s.EnableSampling()
	for name, fn := range map[string]handler{
		"test_simple_text":            content(mcp.NewTextContent("This is a simple text response for testing.")),
		"test_image_content":          content(mcp.NewImageContent(onePixel, "image/png")),
		"test_audio_content":          content(mcp.NewAudioContent(oneSample, "audio/wav")),
		"test_embedded_resource":      content(embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
		"test_multiple_content_types": content(mcp.NewTextContent("Multiple content types test:"), mcp.NewImageContent(onePixel, "image/png"), embedded("test://mixed-content-resource", "application/json", `{"test":"data","value":123}`)),
		"test_error_handling": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			return mcp.NewToolResultError("This tool intentionally returns an error for testing"), nil
		},
		"test_tool_with_progress":    withProgress,
		"test_tool_with_logging":     withLogging,
		"test_logging_tool":          withLogging,
		"test_missing_capability":    missingCapability,
		"test_streaming_elicitation": streamingElicitation,
		"test_trigger_tool_change": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			s.AddTool(mcp.NewTool("test_changed", mcp.WithDescription("comes when the tools change")), content(mcp.NewTextContent("changed")))
			return mcp.NewToolResultText("changed"), nil
		},
		"test_trigger_prompt_change": func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			addPrompt(s, "test_changed", mcp.NewTextContent("changed"))
			return mcp.NewToolResultText("changed"), nil
		},
		"count": count,
	} {
		s.AddTool(mcp.NewTool(name, mcp.WithDescription("A fixture of the conformance suite.")), fn)
	}
	addSchemaFixture(s)
	addQuestions(s)
	addResources(s)
	addPrompts(s)
}

func content(c ...mcp.Content) handler {
	return func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return &mcp.CallToolResult{Content: c}, nil
	}
}

func embedded(uri, kind, text string) mcp.Content {
	return mcp.NewEmbeddedResource(mcp.TextResourceContents{URI: uri, MIMEType: kind, Text: text})
}

// pause waits between two notifications, unless the call ends first.
func pause(ctx context.Context) error {
	select {
	case <-time.After(between):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func progress(ctx context.Context, req mcp.CallToolRequest, done, total int) error {
	if req.Params.Meta == nil || req.Params.Meta.ProgressToken == nil {
		return nil
	}
	return edge.Notify(ctx, "notifications/progress", map[string]any{
		"progressToken": req.Params.Meta.ProgressToken, "progress": done, "total": total,
	})
}

func withProgress(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	for _, done := range []int{0, 50, 100} {
		if err := progress(ctx, req, done, 100); err != nil {
			return nil, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
	return mcp.NewToolResultText("done"), nil
}

// count sends as many notifications as it is told, without a pause.
func count(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	n := req.GetInt("n", 1)
	for i := range n {
		if err := progress(ctx, req, i+1, n); err != nil {
			return nil, err
		}
	}
	return mcp.NewToolResultText(fmt.Sprint("counted to ", n)), nil
}

// withLogging sends log messages: in the newer era only to who asks for them.
func withLogging(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	asked := !server.IsModernRequest(ctx) || req.Params.Meta != nil && req.Params.Meta.LogLevel() != ""
	for _, message := range []string{"Tool execution started", "Tool processing data", "Tool execution completed"} {
		if asked {
			if err := edge.Notify(ctx, "notifications/message", map[string]any{"level": "info", "logger": "fixtures", "data": message}); err != nil {
				return nil, err
			}
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
	return mcp.NewToolResultText("logged"), nil
}

// missingCapability needs a client that samples.
func missingCapability(_ context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if c := capabilities(req); c == nil || c.Sampling == nil {
		return nil, mcp.MissingRequiredClientCapabilityError{Capability: "sampling"}
	}
	return mcp.NewToolResultText("the client samples"), nil
}

func capabilities(req mcp.CallToolRequest) *mcp.ClientCapabilities {
	if req.Params.Meta == nil {
		return nil
	}
	return req.Params.Meta.ClientCapabilities()
}

// streamingElicitation has a notification on its stream before it asks the client.
func streamingElicitation(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	if err := progress(ctx, req, 1, 2); err != nil {
		return nil, err
	}
	if a := server.ElicitationResponse(req.Params.InputResponses, "go_on"); a != nil {
		return mcp.NewToolResultText("went on"), nil
	}
	return server.NewInputRequestBuilder("").Elicit("go_on", question("Go on?", "ok", "boolean")).ToolResult(), nil
}
