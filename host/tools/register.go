// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/stacklok/waggle/host/environment"
)

// spec is what a client is told of a tool. All four hints are always sent:
// mcp-go's defaults call every tool destructive.
type spec struct {
	name, title, description string

	readOnly, destructive, idempotent, openWorld bool

	// bounds may be nil.
	bounds func(m *environment.Manager) parameters
}

// register adds a tool. fn returns the structured result and the same as a short
// text; an error of it goes through present.
func register[In, Out any](
	s *server.MCPServer, t *tools, sp spec, fn func(context.Context, *call, In) (Out, string, error),
) error {
	tool := mcp.NewTool(sp.name,
		mcp.WithToolTitle(sp.title),
		mcp.WithDescription(sp.description),
		mcp.WithInputSchema[In](),
		mcp.WithOutputSchema[Out](),
		mcp.WithTitleAnnotation(sp.title),
		mcp.WithReadOnlyHintAnnotation(sp.readOnly),
		mcp.WithDestructiveHintAnnotation(sp.destructive),
		mcp.WithIdempotentHintAnnotation(sp.idempotent),
		mcp.WithOpenWorldHintAnnotation(sp.openWorld),
	)
	oneType(tool.OutputSchema.Properties)
	var limits parameters
	if sp.bounds != nil {
		limits = sp.bounds(t.manager)
	}
	var err error
	if tool.RawInputSchema, err = inputSchema(tool.RawInputSchema, limits); err != nil {
		return fmt.Errorf("register %s: %w", sp.name, err)
	}
	s.AddTool(tool, func(ctx context.Context, req mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		outcome := OutcomeFault // of a panic, which mcp-go recovers from
		done := t.begun(sp.name)
		defer func() { done(outcome) }()
		in, err := decode[In](sp.name, req)
		if err != nil {
			outcome = outcomeOf(err)
			return t.present(sp.name, err)
		}
		c := t.newCall(ctx, req)
		out, text, err := fn(ctx, c, in)
		if outcome = outcomeOf(err); err != nil {
			return t.present(sp.name, err)
		}
		result := mcp.NewToolResultStructured(out, text)
		for _, l := range c.links {
			result.Content = append(result.Content, mcp.NewResourceLink(l.uri, l.name, l.description, l.mimeType))
		}
		result.Content = append(result.Content, c.attached...)
		return result, nil
	})
	return nil
}

// link points at a resource, beside the text of a result.
type link struct{ uri, name, description, mimeType string }

// call carries the progress of one call, and the links of its result. Its methods
// may be called concurrently, until the tool returns.
type call struct {
	t     *tools
	ctx   context.Context
	token mcp.ProgressToken
	// attached is what the result shows beside its text. The tool alone adds to it.
	attached []mcp.Content

	mu    sync.Mutex
	sent  int
	links []link
}

func (t *tools) newCall(ctx context.Context, req mcp.CallToolRequest) *call {
	c := &call{t: t, ctx: ctx}
	if req.Params.Meta != nil {
		c.token = req.Params.Meta.ProgressToken
	}
	return c
}

// link adds a link to the result.
func (c *call) link(l link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links = append(c.links, l)
}

// wantsProgress says whether the caller asked for it.
func (c *call) wantsProgress() bool { return c.token != nil }

// progress tells the caller what happens, if it asked. A notification that does
// not arrive is no reason to end the call.
func (c *call) progress(message string) {
	if !c.wantsProgress() || message == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	err := c.t.notify(c.ctx, "notifications/progress", map[string]any{
		"progressToken": c.token,
		"progress":      c.sent, // must increase; there is no known total
		"message":       message,
	})
	if err != nil {
		c.t.log.Debug("progress was not sent", "error", err)
	}
}
