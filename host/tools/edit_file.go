// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"fmt"

	"github.com/stacklok/waggle/host/environment"
)

var editFile = spec{
	name: "edit_file", title: "Edit file",
	description: "Replaces text in a text file of an environment, exactly as it is written there, white space included. " +
		"The text must be there as often as expected, once unless expected_count says otherwise; else nothing is changed.",
	destructive: true,
	bounds: func(*environment.Manager) parameters {
		return parameters{
			"path": pathBounds, "old_text": {"minLength": 1},
			"expected_count": {"minimum": 1, "description": "How often old_text is in the file; all are replaced. Default: 1."},
		}
	},
}

type editFileInput struct {
	EnvironmentID string `json:"environment_id" jsonschema_description:"The environment, as create_environment returned it."`
	Path          string `json:"path" jsonschema_description:"Absolute path, such as /home/sandbox/main.py."`
	OldText       string `json:"old_text" jsonschema_description:"The text to replace, with enough of the lines around it to be there once."`
	NewText       string `json:"new_text" jsonschema_description:"What comes in its place. May be empty."`
	ExpectedCount *int64 `json:"expected_count,omitempty"`
}

type editFileOutput struct {
	Path         string `json:"path"`
	Replacements int    `json:"replacements"`
	FirstLine    int    `json:"first_line" jsonschema_description:"The line of the first one, counted from 1."`
	Size         int64  `json:"size" jsonschema_description:"Bytes of the file now."`
}

func (t *tools) editFile(ctx context.Context, _ *call, in editFileInput) (editFileOutput, string, error) {
	r, err := t.manager.EditFile(ctx, in.EnvironmentID, in.Path, environment.Edit{
		Old: in.OldText, New: in.NewText, Count: int(given(in.ExpectedCount)),
	})
	if err != nil {
		return editFileOutput{}, "", err
	}
	out := editFileOutput{Path: r.File.Path, Replacements: r.Count, FirstLine: r.Line, Size: int64(r.File.Size)}
	return out, fmt.Sprintf("Replaced %d in %s, from line %d on.", r.Count, r.File.Path, r.Line), nil
}
