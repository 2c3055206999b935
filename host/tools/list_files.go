// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stacklok/waggle/host/environment"
)

var listFiles = spec{
	name: "list_files", title: "List files",
	description: fmt.Sprintf("Lists a directory of an environment, at most %d entries.", environment.MaxEntries),
	readOnly:    true, idempotent: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{"path": {"maxLength": environment.MaxPath}} // empty is as if left out
	},
}

type listFilesInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Path          string `json:"path,omitempty" jsonschema_description:"Absolute path of the directory. Default: the environment's working directory."`
}

type listFilesOutput struct {
	Path      string       `json:"path"`
	Files     []fileOutput `json:"files"`
	Truncated bool         `json:"truncated" jsonschema_description:"There are more entries than files lists."`
}

type fileOutput struct {
	Path     string    `json:"path"`
	Type     string    `json:"type" jsonschema_description:"file, directory, symlink or other."`
	Size     int64     `json:"size"`
	Mode     string    `json:"mode" jsonschema_description:"Permission bits in octal, such as 0644."`
	Modified time.Time `json:"modified_at"`
	Target   string    `json:"target,omitempty" jsonschema_description:"Where a symlink points."`
}

func (t *tools) listFiles(ctx context.Context, _ *call, in listFilesInput) (listFilesOutput, string, error) {
	l, err := t.manager.ListFiles(ctx, in.EnvironmentID, in.Path)
	if err != nil {
		return listFilesOutput{}, "", err
	}
	out := listFilesOutput{Path: l.Path, Files: []fileOutput{}, Truncated: l.Truncated}
	var text strings.Builder
	for _, f := range l.Files {
		mode := fmt.Sprintf("%04o", f.Mode)
		out.Files = append(out.Files, fileOutput{
			Path: f.Path, Type: f.Type, Size: int64(f.Size), Mode: mode, Modified: f.Modified.UTC(), Target: f.Target,
		})
		fmt.Fprintf(&text, "%s %9s %10d %s\n", mode, f.Type, f.Size, f.Path)
	}
	switch {
	case len(l.Files) == 0:
		return out, l.Path + " is empty.", nil
	case l.Truncated:
		text.WriteString("There are more: list a directory below, or use execute with find.\n")
	}
	return out, text.String(), nil
}
