// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/guestd/process"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// TestInnerNoCompression: guestd's own way to Process takes nothing that grows,
// and its own client asks for nothing that does.
func TestInnerNoCompression(t *testing.T) {
	t.Parallel()
	in := startInner(&process.Service{}) // no call gets as far as the service
	t.Cleanup(in.close)

	zipped := guestv1connect.NewProcessClient(&http.Client{Transport: in.transport}, "http://guestd",
		connect.WithGRPC(), connect.WithSendGzip())
	_, err := zipped.Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: strings.Repeat("x", 64<<10)}))
	require.Equal(t, connect.CodeUnimplemented, connect.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "gzip")

	var asked http.Header
	in.server.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r.Header })
	_, err = in.client().Get(t.Context(), connect.NewRequest(&guestv1.ProcessGetRequest{}))
	require.Error(t, err)
	for name, values := range asked {
		require.NotContains(t, strings.Join(values, ","), "gzip", name)
	}
	require.NotEmpty(t, asked)
}
