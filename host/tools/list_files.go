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
	description: "Lists a directory of an environment, in the order of paths. What does not fit comes with the cursor of the call before.",
	readOnly:    true, idempotent: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{
			"path": {"maxLength": environment.MaxPath}, // empty is as if left out
			"glob": {"maxLength": environment.MaxGlob},
			"limit": {
				"minimum": 1, "maximum": environment.MaxEntries,
				"description": fmt.Sprintf("Most files to list, 1 to %d. Default: %d.", environment.MaxEntries, environment.DefaultEntries),
			},
		}
	},
}

type listFilesInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Path          string `json:"path,omitempty" jsonschema_description:"Absolute path of the directory. Default: the environment's working directory."`
	Recursive     bool   `json:"recursive,omitempty" jsonschema_description:"List the directories below too. Default: false."`
	Glob          string `json:"glob,omitempty" jsonschema_description:"Only what fits: a pattern of names such as *.py, or of paths below such as src/**/*.py, which is recursive. {a,b} and [a-z] choose."`
	Limit         *int64 `json:"limit,omitempty"`
	Cursor        string `json:"cursor,omitempty" jsonschema_description:"next_cursor of the call before; everything else must be the same."`
}

type listFilesOutput struct {
	Path       string       `json:"path"`
	Files      []fileOutput `json:"files"`
	Truncated  bool         `json:"truncated" jsonschema_description:"There may be more: call again with next_cursor."`
	NextCursor string       `json:"next_cursor,omitempty"`
	Unreadable []string     `json:"unreadable,omitempty" jsonschema_description:"What could not be read, and why; at most 20."`
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
	l, err := t.manager.ListFiles(ctx, in.EnvironmentID, in.Path, environment.ListOptions{
		Recursive: in.Recursive, Glob: in.Glob, Limit: int(given(in.Limit)), Cursor: in.Cursor,
	})
	if err != nil {
		return listFilesOutput{}, "", err
	}
	out := listFilesOutput{
		Path: l.Path, Files: []fileOutput{}, Truncated: l.Next != "", NextCursor: l.Next, Unreadable: l.Unreadable,
	}
	var text strings.Builder
	for _, f := range l.Files {
		mode := fmt.Sprintf("%04o", f.Mode)
		out.Files = append(out.Files, fileOutput{
			Path: f.Path, Type: f.Type, Size: int64(f.Size), Mode: mode, Modified: f.Modified.UTC(), Target: f.Target,
		})
		fmt.Fprintf(&text, "%s %9s %10d %s\n", mode, f.Type, f.Size, f.Path)
	}
	switch {
	case len(l.Files) == 0 && l.Next == "" && in.Glob != "":
		text.WriteString("Nothing in " + l.Path + " fits the pattern.\n")
	case len(l.Files) == 0 && l.Next == "":
		text.WriteString(l.Path + " is empty.\n")
	case l.Next != "":
		text.WriteString("There may be more: call again with cursor " + l.Next + "\n")
	}
	for _, u := range l.Unreadable {
		text.WriteString("not readable: " + u + "\n")
	}
	return out, strings.TrimSuffix(text.String(), "\n"), nil
}
