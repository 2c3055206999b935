// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"
	"github.com/mark3labs/mcp-go/mcp"

	"github.com/stacklok/waggle/host/environment"
)

var readFile = spec{
	name: "read_file", title: "Read file",
	description: "Reads a file of an environment: text as it is, a picture (PNG, JPEG, GIF, WebP) as an image, other content as base64. " +
		"A file larger than 1 MiB is read in pieces, with offset.",
	readOnly: true, idempotent: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{
			"path": pathBounds, "offset": {"minimum": 0},
			"limit": {
				"minimum": 1, "maximum": environment.MaxRead,
				"description": fmt.Sprintf("Most bytes to read, 1 to %d. Default: %[1]d.", environment.MaxRead),
			},
		}
	},
}

type readFileInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Path          string `json:"path" jsonschema_description:"Absolute path, such as /home/sandbox/data.csv."`
	Offset        int64  `json:"offset,omitempty" jsonschema_description:"First byte to read. Default 0."`
	Limit         *int64 `json:"limit,omitempty"`
	Encoding      string `json:"encoding,omitempty" jsonschema:"enum=utf-8,enum=base64" jsonschema_description:"How content is to be written. Default: utf-8 for text, an image for a picture, base64 for the rest."`
}

type readFileOutput struct {
	Path       string `json:"path"`
	Content    string `json:"content"`
	Encoding   string `json:"encoding" jsonschema_description:"How content is written here: utf-8, base64, or image: content is then empty, and the picture stands beside the result."`
	MIMEType   string `json:"mime_type,omitempty" jsonschema_description:"Kind of the file, judged by its first bytes."`
	Size       int64  `json:"size" jsonschema_description:"Bytes of the whole file; 0 where that is not known, as below /proc."`
	Offset     int64  `json:"offset"`
	Truncated  bool   `json:"truncated" jsonschema_description:"The file goes on: read again from next_offset."`
	NextOffset int64  `json:"next_offset,omitempty"`
}

// pictures are those that models are shown.
var pictures = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}

func (t *tools) readFile(ctx context.Context, call *call, in readFileInput) (readFileOutput, string, error) {
	switch in.Encoding {
	case "", encodingText, encodingBase64:
	default:
		return readFileOutput{}, "", invalid("encoding %.32q is not one of utf-8, base64", in.Encoding)
	}
	c, err := t.manager.ReadFile(ctx, in.EnvironmentID, in.Path, in.Offset, given(in.Limit))
	if err != nil {
		return readFileOutput{}, "", err
	}
	out := readFileOutput{
		Path: c.File.Path, Content: string(c.Data), Encoding: encodingText,
		Size: int64(c.File.Size), Offset: int64(c.Offset), Truncated: c.Truncated,
	}
	if c.Offset == 0 {
		out.MIMEType = mimetype.Detect(c.Data).String()
	}
	switch {
	case in.Encoding == encodingBase64:
		out.Content, out.Encoding = base64.StdEncoding.EncodeToString(c.Data), encodingBase64
	case in.Encoding == "" && c.Offset == 0 && !c.Truncated && slices.Contains(pictures, out.MIMEType):
		call.attached = append(call.attached, mcp.NewImageContent(base64.StdEncoding.EncodeToString(c.Data), out.MIMEType))
		out.Content, out.Encoding = "", encodingImage
		return out, fmt.Sprintf("%s is a picture, %s of %d bytes.", out.Path, out.MIMEType, len(c.Data)), nil
	case utf8.Valid(c.Data):
	case in.Encoding == encodingText:
		return readFileOutput{}, "", fmt.Errorf("%w: %s holds bytes that are not UTF-8, from byte %d on", environment.ErrNotText, out.Path, out.Offset)
	default:
		out.Content, out.Encoding = base64.StdEncoding.EncodeToString(c.Data), encodingBase64
	}
	text := out.Content
	if c.Truncated {
		out.NextOffset = out.Offset + int64(len(c.Data))
		far := fmt.Sprintf("%d of %d bytes", out.NextOffset, out.Size)
		if out.Size <= out.NextOffset {
			far = fmt.Sprintf("%d bytes, of a number that is not known,", out.NextOffset)
		}
		text += fmt.Sprintf("\n[the file goes on: %s so far, read again with offset %d]", far, out.NextOffset)
	}
	return out, text, nil
}
