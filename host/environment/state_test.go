// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStates goes through every pair of states.
func TestStates(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"creating running", "creating failed", "running stopping", "running failed",
		"failed stopping", "stopping gone", "stopping failed",
	}
	all := []State{StateCreating, StateRunning, StateStopping, StateFailed, StateGone}
	for _, from := range all {
		for _, to := range all {
			err := from.check(to)
			if slices.Contains(allowed, fmt.Sprintf("%s %s", from, to)) {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, ErrInvalidTransition, "%s to %s", from, to)
			}
		}
	}
}

// TestCollector compares with the plain way of cutting, for writes of all sizes.
func TestCollector(t *testing.T) {
	t.Parallel()
	for _, total := range []int{0, 1, maxOutput / 2, maxOutput, maxOutput + 1, 2*maxOutput + 77} {
		for _, piece := range []int{1000, 65536, maxOutput} {
			var whole strings.Builder
			for i := 0; whole.Len() < total; i++ {
				fmt.Fprintf(&whole, "%d ", i)
			}
			text := whole.String()[:total]
			var c collector
			for rest := text; rest != ""; {
				n, err := c.Write([]byte(rest[:min(piece, len(rest))]))
				require.NoError(t, err)
				rest = rest[n:]
			}
			o := c.output(0)
			require.Equal(t, int64(total), o.Bytes)
			if total <= maxOutput {
				require.Equal(t, text, o.Text)
				require.Zero(t, o.CutBytes)
				continue
			}
			require.Equal(t, int64(total-maxOutput), o.CutBytes)
			require.True(t, strings.HasPrefix(o.Text, text[:maxOutput/2]))
			require.True(t, strings.HasSuffix(o.Text, text[total-maxOutput/2:]))
		}
	}
}
