// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestNoCompression answers with what is small only while it is compressed, as a
// hostile guest can unasked.
func TestNoCompression(t *testing.T) {
	t.Parallel()
	plain, err := proto.Marshal(&guestv1.SystemInfoResponse{Kernel: strings.Repeat("x", 1<<20)})
	require.NoError(t, err)
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	_, err = w.Write(plain)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	asked := make(chan http.Header, 1)
	c := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header
		w.Header().Set("Content-Type", "application/proto")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	_, err = c.Info(t.Context())
	require.ErrorContains(t, err, "gzip")
	requireNoGzip(t, <-asked)

	stream := c.Process().Run(t.Context())
	_ = stream.Send(&guestv1.ProcessRunRequest{}) // Receive tells what came of it
	_, err = stream.Receive()
	require.Error(t, err)
	requireNoGzip(t, <-asked)

	read, err := c.Filesystem().Read(t.Context(), connect.NewRequest(&guestv1.FilesystemReadRequest{}))
	require.NoError(t, err)
	require.False(t, read.Receive())
	require.Error(t, read.Err())
	require.NoError(t, read.Close())
	requireNoGzip(t, <-asked)
}

func requireNoGzip(t *testing.T, asked http.Header) {
	t.Helper()
	for name, values := range asked {
		require.NotContains(t, strings.Join(values, ","), "gzip", name)
	}
}

// serveHTTP answers all calls with one handler and returns a client of it.
func serveHTTP(t *testing.T, handler http.HandlerFunc) *guest.Client {
	t.Helper()
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: handler, Protocols: &protocols}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	c := guest.New(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	})
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		require.NoError(t, srv.Close())
		<-done
	})
	return c
}
