// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// fake answers what a test sets; every other call is Unimplemented.
type fake struct {
	guestv1connect.UnimplementedFilesystemHandler
	guestv1connect.UnimplementedPackagesHandler

	run     func(context.Context, *runStream) error
	signal  func(*guestv1.ProcessSignalRequest)
	read    func(*guestv1.FilesystemReadRequest, *connect.ServerStream[guestv1.FilesystemReadResponse]) error
	write   func(*connect.ClientStream[guestv1.FilesystemWriteRequest]) (*guestv1.FilesystemWriteResponse, error)
	list    func(*guestv1.FilesystemListRequest) (*guestv1.FilesystemListResponse, error)
	install func(*connect.ServerStream[guestv1.PackagesInstallResponse]) error
}

type runStream = connect.BidiStream[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse]

// fakeProcess is apart because two services have a List.
type fakeProcess struct {
	guestv1connect.UnimplementedProcessHandler
	run    func(context.Context, *runStream) error
	signal func(*guestv1.ProcessSignalRequest)
}

func (f fakeProcess) Signal(
	ctx context.Context, req *connect.Request[guestv1.ProcessSignalRequest],
) (*connect.Response[guestv1.ProcessSignalResponse], error) {
	if f.signal == nil {
		return f.UnimplementedProcessHandler.Signal(ctx, req)
	}
	f.signal(req.Msg)
	return connect.NewResponse(&guestv1.ProcessSignalResponse{}), nil
}

func (f fakeProcess) Run(ctx context.Context, s *runStream) error { return f.run(ctx, s) }

func (f *fake) Read(
	_ context.Context, req *connect.Request[guestv1.FilesystemReadRequest],
	s *connect.ServerStream[guestv1.FilesystemReadResponse],
) error {
	return f.read(req.Msg, s)
}

func (f *fake) Write(
	_ context.Context, s *connect.ClientStream[guestv1.FilesystemWriteRequest],
) (*connect.Response[guestv1.FilesystemWriteResponse], error) {
	resp, err := f.write(s)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

func (f *fake) List(
	_ context.Context, req *connect.Request[guestv1.FilesystemListRequest],
) (*connect.Response[guestv1.FilesystemListResponse], error) {
	resp, err := f.list(req.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

func (f *fake) Install(
	_ context.Context, _ *connect.Request[guestv1.PackagesInstallRequest],
	s *connect.ServerStream[guestv1.PackagesInstallResponse],
) error {
	return f.install(s)
}

// conns is what a test can cut.
type conns struct {
	mu    sync.Mutex
	open  []net.Conn
	dials int
}

func (c *conns) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.open = nil
}

// serve runs f on a Unix socket and returns a client of it.
func serve(t *testing.T, f *fake) (*guest.Client, *conns) {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(guestv1connect.NewProcessHandler(fakeProcess{run: f.run, signal: f.signal}))
	mux.Handle(guestv1connect.NewFilesystemHandler(f))
	mux.Handle(guestv1connect.NewPackagesHandler(f))
	mux.Handle(guestv1connect.NewSystemHandler(guestv1connect.UnimplementedSystemHandler{}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: mux, Protocols: &protocols}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	track := &conns{}
	c := guest.New(func(ctx context.Context) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			track.mu.Lock()
			track.open = append(track.open, conn)
			track.dials++
			track.mu.Unlock()
		}
		return conn, err
	})
	t.Cleanup(func() {
		require.NoError(t, c.Close())
		require.NoError(t, srv.Close())
		<-done
	})
	return c, track
}
