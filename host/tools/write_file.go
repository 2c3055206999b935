// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/stacklok/waggle/host/environment"
)

var writeFile = spec{
	name: "write_file", title: "Write file",
	description: "Writes a file in an environment. An existing file is replaced as a whole; missing directories are made.",
	destructive: true, idempotent: true,
	bounds: func(*environment.Manager) parameters { return parameters{"path": pathBounds} },
}

// The encodings of file contents.
const (
	encodingText   = "utf-8"
	encodingBase64 = "base64"
)

type writeFileInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Path          string `json:"path" jsonschema_description:"Absolute path, such as /home/sandbox/data.csv."`
	Content       string `json:"content" jsonschema_description:"The whole content. May be empty."`
	Encoding      string `json:"encoding,omitempty" jsonschema:"enum=utf-8,enum=base64" jsonschema_description:"How content is written here: utf-8 (default) or base64 for binary files."`
}

type writeFileOutput struct {
	Path string `json:"path"`
	Size int64  `json:"size" jsonschema_description:"Bytes."`
}

func (t *tools) writeFile(ctx context.Context, _ *call, in writeFileInput) (writeFileOutput, string, error) {
	data := []byte(in.Content)
	switch in.Encoding {
	case "", encodingText:
	case encodingBase64:
		var err error
		if data, err = base64.StdEncoding.DecodeString(in.Content); err != nil {
			return writeFileOutput{}, "", invalid("content is not base64: %v", err)
		}
	default:
		return writeFileOutput{}, "", invalid("encoding %.32q is not one of utf-8, base64", in.Encoding)
	}
	f, err := t.manager.WriteFile(ctx, in.EnvironmentID, in.Path, data)
	if err != nil {
		return writeFileOutput{}, "", err
	}
	return writeFileOutput{Path: f.Path, Size: int64(f.Size)}, fmt.Sprintf("Wrote %d bytes to %s.", f.Size, f.Path), nil
}
