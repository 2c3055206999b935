// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
)

// TestCheckText: what encoding/json would replace without a word is refused.
func TestCheckText(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`{"a": "text \\ud800 \n \" é"}`: "",
		`{"a": "\ud83d\ude00"}`:         "",
		`{"a": "\u00e9"}`:               "",
		`{"a": "\ud800"}`:               "lone surrogate, \\ud800",
		`{"a": "\ude00\ud83d"}`:         "lone surrogate",
		`{"a": "\ud83d\n"}`:             "lone surrogate",
		`{"a": "\ud83d`:                 "lone surrogate",
		"{\"a\": \"\xff\"}":             "not UTF-8",
	} {
		err := checkText([]byte(raw))
		if want == "" {
			require.NoError(t, err, raw)
			continue
		}
		require.ErrorIs(t, err, environment.ErrInvalidArgument, raw)
		require.ErrorContains(t, err, want)
	}
}
