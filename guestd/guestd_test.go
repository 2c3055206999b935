// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/guestd"
	"github.com/stacklok/waggle/guestd/boot"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// start serves as a plain process and returns a client for it.
func start(t *testing.T) *http.Client {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- guestd.Serve(ctx, l, guestd.Config{User: strconv.Itoa(os.Getuid())})
	}()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
		},
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		require.NoError(t, <-served)
	})
	return &http.Client{Transport: transport}
}

// TestNotOwner: what changes a machine is not to be had by any other process.
func TestNotOwner(t *testing.T) {
	t.Parallel()
	require.False(t, boot.Owner())
	m, err := boot.Start(nil)
	require.ErrorIs(t, err, boot.ErrNotFirst)
	require.Nil(t, m)
}

func TestInfo(t *testing.T) {
	t.Parallel()
	client := start(t)
	system := guestv1connect.NewSystemClient(client, "http://guest", connect.WithGRPC())
	processes := guestv1connect.NewProcessClient(client, "http://guest", connect.WithGRPC())
	info := func() *guestv1.SystemInfoResponse {
		res, err := system.Info(t.Context(), connect.NewRequest(&guestv1.SystemInfoRequest{}))
		require.NoError(t, err)
		return res.Msg
	}
	idle := info()
	require.False(t, idle.GetAgent().GetOwnsMachine())
	require.NotEmpty(t, idle.GetAgent().GetVersion())
	require.Positive(t, idle.GetMemoryTotalBytes())
	require.Positive(t, idle.GetMemoryAvailableBytes())
	require.Positive(t, idle.GetDiskTotalBytes())
	require.Positive(t, idle.GetAgentResidentBytes())
	require.Positive(t, idle.GetTasks())
	require.Positive(t, idle.GetUptime().AsDuration())
	require.NotEmpty(t, idle.GetKernel())
	require.Zero(t, idle.GetActiveCalls(), "Info is no activity")
	require.Positive(t, idle.GetIdle().AsDuration())

	run := processes.Run(t.Context())
	require.NoError(t, run.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: &guestv1.Start{
		ExecId: "cat", StdinMode: guestv1.StdinMode_STDIN_MODE_PIPE,
		Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"cat"}}},
	}}}))
	first, err := run.Receive()
	require.NoError(t, err)
	require.NotNil(t, first.GetStarted())
	busy := info()
	require.EqualValues(t, 1, busy.GetRunningExecs())
	require.EqualValues(t, 1, busy.GetActiveCalls())
	require.Zero(t, busy.GetIdle().AsDuration())

	require.NoError(t, run.CloseRequest())
	for {
		res, err := run.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if exited := res.GetExited(); exited != nil {
			require.Zero(t, exited.GetExitCode(), "%v", exited)
		}
	}
	// It is counted out after its end was told.
	require.Eventually(t, func() bool { return info().GetRunningExecs() == 0 }, 10*time.Second, time.Millisecond)
}

// TestNoPlaceForOutput: a guestd that cannot start says why.
func TestNoPlaceForOutput(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	err = guestd.Serve(t.Context(), l, guestd.Config{User: strconv.Itoa(os.Getuid())})
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "prepare services")
}
