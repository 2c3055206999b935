// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/mark3labs/mcp-go/mcp"
)

// tooLarge returns the first number of a message that is too large for 64 bit
// floating point, which is what JSON has in practice, or "". mcp-go would say so in
// words about Go's types.
func tooLarge(body []byte) string {
	for len(body) > 0 {
		switch c := body[0]; {
		case c == '"':
			body = afterString(body)
		case c == '-' || c >= '0' && c <= '9':
			n := len(body) - len(bytes.TrimLeft(body, "+-.eE0123456789"))
			if _, err := strconv.ParseFloat(string(body[:n]), 64); errors.Is(err, strconv.ErrRange) {
				return string(body[:n])
			}
			body = body[n:]
		default:
			body = body[1:]
		}
	}
	return ""
}

// afterString returns what follows a string, with whose quote b begins. The content
// of a file is one, so it is skipped from quote to quote.
func afterString(b []byte) []byte {
	for b = b[1:]; ; {
		end := bytes.IndexByte(b, '"')
		if end < 0 {
			return nil
		}
		escapes := end - len(bytes.TrimRight(b[:end], `\`))
		b = b[end+1:]
		if escapes%2 == 0 {
			return b
		}
	}
}

// refuseNumber answers a request with such a number.
func (e *Edge) refuseNumber(w http.ResponseWriter, id json.RawMessage, number string, status int) {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{
		"code": mcp.INVALID_PARAMS, "message": fmt.Sprintf("the number %.40s is out of range: give one below 1e308", number),
	}})
	if err != nil {
		e.log.Error("answer not written", "error", err)
		http.Error(w, "a number is out of range", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
