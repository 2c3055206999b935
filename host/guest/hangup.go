// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"io"
	"net/http"
)

// hangUp ends a stream with its context also while the stream is silent. Once the
// response has begun, net/http waits for the next piece of the request body before
// it looks at the context again, and Connect's bodies are pipes that stay open: a
// call whose client sends nothing more could not be cancelled.
//
// The pipe is broken, not closed: guestd must not take it for the end of the input.
type hangUp struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (h hangUp) RoundTrip(req *http.Request) (*http.Response, error) {
	if body, ok := req.Body.(*io.PipeReader); ok {
		// Each stream has a context of its own, with which this goes too.
		context.AfterFunc(req.Context(), func() { _ = body.Close() }) // never fails
	}
	return h.next.RoundTrip(req)
}
