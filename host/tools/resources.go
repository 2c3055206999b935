// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/stacklok/waggle/host/environment"
)

const mimeText = "text/plain"

// addResources makes files and outputs readable as resources.
func (t *tools) addResources(s *server.MCPServer) {
	s.AddResourceTemplate(mcp.NewResourceTemplate("waggle://env/{id}/exec/{exec}/{stream}{?offset,limit}", "Output of an execution",
		mcp.WithTemplateDescription(fmt.Sprintf(
			"What an execution has written; stream is stdout or stderr. offset and limit choose a piece: one read returns at most %d bytes.", environment.MaxRead)),
		mcp.WithTemplateMIMEType(mimeText),
	), t.readResource)
	s.AddResourceTemplate(mcp.NewResourceTemplate("waggle://env/{id}/files/{+path}", "File of an environment",
		mcp.WithTemplateDescription(fmt.Sprintf(
			"A file by its absolute path, or the list of a directory. ?offset=N&limit=N chooses a piece: one read returns at most %d bytes.", environment.MaxRead)),
	), t.readResource)
}

// resourceHooks are those of the server. The list of resources is one for each
// caller: mcp-go's own is one for all.
func (t *tools) resourceHooks() *server.Hooks {
	hooks := &server.Hooks{}
	hooks.AddAfterListResources(func(ctx context.Context, _ any, _ *mcp.ListResourcesRequest, result *mcp.ListResourcesResult) {
		result.Resources = append(result.Resources, t.listResources(ctx)...)
	})
	hooks.AddBeforeReadResource(func(ctx context.Context, _ any, req *mcp.ReadResourceRequest) {
		// An error of a handler is an internal one for mcp-go, whatever it is. A
		// resource without a handler it reports as the caller's era has it, so what
		// is not there loses its handler, and its address gets the reason.
		if _, _, err := t.readURI(ctx, req.Params.URI, 1); isMissing(err) {
			req.Params.URI += ": " + err.Error()
		}
	})
	return hooks
}

func isMissing(err error) bool {
	return errors.Is(err, environment.ErrNotFound) || errors.Is(err, environment.ErrNoExecution) || errors.Is(err, environment.ErrFileNotFound)
}

// listResources is one resource for each environment that runs: the list of its
// working directory. From there a client finds the rest by the templates. Names are
// unique, since mcp-go turns pages by them.
func (t *tools) listResources(ctx context.Context) []mcp.Resource {
	resources := []mcp.Resource{}
	for _, info := range t.manager.List(ctx) {
		if info.State != environment.StateRunning || info.Dir == "" {
			continue
		}
		title := info.ID
		if info.Name != "" {
			title = info.Name
		}
		resources = append(resources, mcp.NewResource(fileURI(info.ID, info.Dir), info.ID+":"+info.Dir,
			mcp.WithResourceDescription("The files in "+info.Dir+" of the environment "+title+"."),
			mcp.WithMIMEType(mimeText),
		))
	}
	return resources
}

// readResource is the handler of both templates.
func (t *tools) readResource(ctx context.Context, req mcp.ReadResourceRequest) ([]mcp.ResourceContents, error) {
	data, mimeType, err := t.readURI(ctx, req.Params.URI, 0)
	if err != nil {
		t.log.Info("resource was not read", "uri", req.Params.URI, "error", err)
		return nil, err
	}
	if utf8.Valid(data) {
		return []mcp.ResourceContents{mcp.TextResourceContents{URI: req.Params.URI, MIMEType: mimeType, Text: string(data)}}, nil
	}
	if mimeType == mimeText {
		mimeType = "application/octet-stream"
	}
	return []mcp.ResourceContents{mcp.BlobResourceContents{URI: req.Params.URI, MIMEType: mimeType, Blob: base64.StdEncoding.EncodeToString(data)}}, nil
}

// readURI reads a resource. most, unless it is 0, is enough to know.
func (t *tools) readURI(ctx context.Context, uri string, most int64) (data []byte, mimeType string, err error) {
	a, err := parseURI(uri)
	if err != nil {
		return nil, "", err
	}
	if most > 0 {
		a.limit = most
	}
	if a.file == "" {
		p, err := t.manager.ReadOutput(ctx, a.env, a.execution, a.stream == streamStderr, a.offset, a.limit)
		return p.Data, mimeText, err
	}
	c, err := t.manager.ReadFile(ctx, a.env, a.file, a.offset, a.limit)
	switch {
	case errors.Is(err, environment.ErrFileKind) && a.offset == 0:
		return t.readDirectory(ctx, a)
	case err != nil:
		return nil, "", err
	case c.Truncated && a.limit == 0:
		return nil, "", invalid("limit is missing: %s has %d bytes, and one read returns at most %d; read it in pieces with ?offset=0&limit=%[3]d",
			a.file, c.File.Size, environment.MaxRead)
	}
	return c.Data, typeOf(a, c.Data), nil
}

// typeOf guesses a MIME type by the name, and of a whole file by its beginning.
func typeOf(a address, data []byte) string {
	if byName := mime.TypeByExtension(path.Ext(a.file)); byName != "" {
		return byName
	}
	if a.offset > 0 {
		return mimeText
	}
	return http.DetectContentType(data)
}

// readDirectory lists a directory as text, a name in each line.
func (t *tools) readDirectory(ctx context.Context, a address) ([]byte, string, error) {
	l, err := t.manager.ListFiles(ctx, a.env, a.file, environment.ListOptions{})
	if err != nil {
		return nil, "", err
	}
	var b strings.Builder
	for _, f := range l.Files {
		fmt.Fprintf(&b, "%04o %9s %10d %s\n", f.Mode, f.Type, f.Size, f.Path)
	}
	if l.Next != "" {
		fmt.Fprintf(&b, "There are more than %d entries.\n", environment.DefaultEntries)
	}
	return []byte(b.String()), mimeText, nil
}

// linkOutput adds a link to all of a stream to the result, and returns its address.
func (c *call) linkOutput(env, execution, stream string, size int64) string {
	uri := outputURI(env, execution, stream)
	c.link(link{
		uri: uri, name: execution + "/" + stream, mimeType: mimeText,
		description: fmt.Sprintf("All of %s, %d bytes, for as long as the execution is kept. With ?offset=N&limit=N a piece of it.", stream, size),
	})
	return uri
}
