// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/edge"
)

// TestNumbersOutOfRange: a caller is told which number it is, in its own terms.
func TestNumbersOutOfRange(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, edge.Config{})
	for _, era := range []string{legacy, modern} {
		for _, number := range []string{"1e400", "-1E+999", "1" + strings.Repeat("0", 400)} {
			_, body, _ := post(t, url, callBody(era, 7, "count", `{"n":`+number+`}`), headers(era, "", "count"))
			var answer struct {
				ID    int
				Error struct {
					Code    int
					Message string
				}
			}
			require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
			require.Equal(t, 7, answer.ID)
			require.Equal(t, -32602, answer.Error.Code)
			require.Contains(t, answer.Error.Message, "the number "+number[:5])
			require.Contains(t, answer.Error.Message, "is out of range")
			require.NotContains(t, body, "Go ")
		}
		for _, fine := range []string{`{"n":1e2}`, `{"s":"1e400"}`, `{"s":"\\\\\"1e400\\\\"}`, `{"n":1e-400}`} {
			_, body, _ := post(t, url, callBody(era, 7, "count", fine), headers(era, "", "count"))
			require.NotContains(t, body, "out of range", fine)
		}
	}
}
