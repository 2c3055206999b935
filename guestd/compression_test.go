// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd_test

import (
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// TestNoCompression sends every service a message that is small only while it is
// compressed, and asks for a compressed answer.
func TestNoCompression(t *testing.T) {
	t.Parallel()
	client := start(t)
	bomb := strings.Repeat("x", 64<<10) // far below the limits: the encoding is refused
	gzip := connect.WithSendGzip()
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"system": func() error {
			_, err := guestv1connect.NewSystemClient(client, "http://guest", gzip).
				Configure(ctx, connect.NewRequest(&guestv1.SystemConfigureRequest{Hostname: &bomb}))
			return err
		},
		"filesystem": func() error {
			_, err := guestv1connect.NewFilesystemClient(client, "http://guest", gzip).
				Stat(ctx, connect.NewRequest(&guestv1.FilesystemStatRequest{Path: bomb}))
			return err
		},
		"process": func() error {
			_, err := guestv1connect.NewProcessClient(client, "http://guest", gzip).
				Get(ctx, connect.NewRequest(&guestv1.ProcessGetRequest{ExecId: bomb}))
			return err
		},
		"packages": func() error {
			stream, err := guestv1connect.NewPackagesClient(client, "http://guest", gzip).
				Install(ctx, connect.NewRequest(&guestv1.PackagesInstallRequest{Packages: []string{bomb}}))
			if err != nil {
				return err
			}
			defer stream.Close()
			for stream.Receive() {
			}
			return stream.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := call()
			require.Equal(t, connect.CodeUnimplemented, connect.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, "gzip")
		})
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest"+guestv1connect.SystemInfoProcedure, strings.NewReader("{}"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := client.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Empty(t, res.Header.Get("Content-Encoding"))
}
