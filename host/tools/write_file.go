// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/stacklok/waggle/host/environment"
)

var writeFile = spec{
	name: "write_file", title: "Write file",
	description: "Writes a file in an environment. An existing file is replaced as a whole, or added to with append; missing directories are made.",
	destructive: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{"path": pathBounds, "mode": {"pattern": "^0?[0-7]{3}$"}}
	},
}

// The encodings of file contents.
const (
	encodingText   = "utf-8"
	encodingBase64 = "base64"
	// encodingImage is that of a picture, which stands beside the structured result.
	encodingImage = "image"
)

type writeFileInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Path          string `json:"path" jsonschema_description:"Absolute path, such as /home/sandbox/data.csv."`
	Content       string `json:"content" jsonschema_description:"The whole content. May be empty."`
	Encoding      string `json:"encoding,omitempty" jsonschema:"enum=utf-8,enum=base64" jsonschema_description:"How content is written here: utf-8 (default) or base64 for binary files."`
	Mode          string `json:"mode,omitempty" jsonschema_description:"Permission bits in octal, such as 0755 for a program. Default: those of the file that is replaced, else 0644."`
	Append        bool   `json:"append,omitempty" jsonschema_description:"Add to the end of the file. Default: false."`
}

type writeFileOutput struct {
	Path string `json:"path"`
	Size int64  `json:"size" jsonschema_description:"Bytes of the file now."`
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
	o := environment.WriteOptions{Append: in.Append}
	if in.Mode != "" {
		mode, err := strconv.ParseUint(in.Mode, 8, 32)
		if err != nil || mode > 0o777 {
			return writeFileOutput{}, "", invalid("mode %.16q is not three octal digits, such as 644 or 0755", in.Mode)
		}
		o.Mode = new(uint32(mode))
	}
	f, err := t.manager.WriteFile(ctx, in.EnvironmentID, in.Path, data, o)
	if err != nil {
		return writeFileOutput{}, "", err
	}
	text := fmt.Sprintf("Wrote %d bytes to %s.", f.Size, f.Path)
	if in.Append {
		text = fmt.Sprintf("Added %d bytes to %s, which has %d now.", len(data), f.Path, f.Size)
	}
	return writeFileOutput{Path: f.Path, Size: int64(f.Size)}, text, nil
}
