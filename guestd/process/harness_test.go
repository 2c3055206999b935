// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/cgroup"
	"github.com/stacklok/waggle/guestd/process"
	"github.com/stacklok/waggle/guestd/reap"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

type runClient = connect.BidiStreamForClient[guestv1.ProcessRunRequest, guestv1.ProcessRunResponse]

// fixture is a Service behind a real HTTP/2 server.
type fixture struct {
	guestv1connect.ProcessClient
	service *process.Service
	tree    *cgroup.Tree // nil: sessions
	client  *http.Client
}

// newFixture starts a service with control groups where this machine lets a
// test have some, and with sessions elsewhere.
func newFixture(t testing.TB, adjust ...func(*process.Config)) *fixture {
	t.Helper()
	return newFixtureWith(t, privateTree(t), adjust...)
}

func newFixtureWith(t testing.TB, tree *cgroup.Tree, adjust ...func(*process.Config)) *fixture {
	t.Helper()
	reaper := reap.New()
	cfg := process.Config{
		Reaper:   reaper,
		Tree:     tree,
		SpoolDir: t.TempDir(),
		Defaults: process.NewDefaults(fmt.Sprint(os.Geteuid())),
	}
	cfg.Defaults.SetCwd("/")
	for _, f := range adjust {
		f(&cfg)
	}
	service, err := process.New(cfg)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(guestv1connect.NewProcessHandler(service,
		connect.WithReadMaxBytes(process.ReadMaxBytes), connect.WithCompression("gzip", nil, nil)))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	f := &fixture{
		service: service,
		tree:    tree,
		client:  &http.Client{Transport: transport},
	}
	f.ProcessClient = guestv1connect.NewProcessClient(f.client, server.URL)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		server.CloseClientConnections()
		transport.CloseIdleConnections()
		server.Close()
		require.NoError(t, service.Close(ctx))
		require.Zero(t, service.Running())
		left, err := os.ReadDir(cfg.SpoolDir)
		require.NoError(t, err)
		require.Empty(t, left)
		if tree != nil {
			n, err := tree.Count()
			require.NoError(t, err)
			require.Zero(t, n, "control groups are left")
		}
		reaper.Close()
	})
	return f
}

// privateTree returns a tree in a mount of cgroup v2 that no namespace shows,
// or nil when that cannot be had.
func privateTree(t testing.TB) *cgroup.Tree {
	t.Helper()
	fs, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fs)
	if unix.FsconfigCreate(fs) != nil {
		return nil
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(mnt), "cgroup2")
	root := fmt.Sprintf("/proc/self/fd/%d/waggle-test-%d-%d", mnt, os.Getpid(), serial.Add(1))
	tree, err := cgroup.Open(root)
	if err != nil {
		_ = dir.Close()
		return nil
	}
	t.Cleanup(func() {
		require.NoError(t, tree.Close())
		if t.Failed() {
			_ = os.WriteFile(root+"/cgroup.kill", []byte("1"), 0)
		}
		require.NoError(t, os.Remove(root))
		require.NoError(t, dir.Close())
	})
	return tree
}

// both runs a test with control groups, where they are to be had, and with
// sessions.
func both(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Run("cgroup", func(t *testing.T) {
		t.Parallel()
		tree := privateTree(t)
		if tree == nil {
			t.Skip("no cgroup v2 for tests here; run as root, or rely on the tests in a VM")
		}
		test(t, newFixtureWith(t, tree))
	})
	t.Run("session", func(t *testing.T) {
		t.Parallel()
		test(t, newFixtureWith(t, nil))
	})
}

var serial atomic.Int64

func newID() string { return fmt.Sprintf("exec-%d", serial.Add(1)) }

func shell(script string) *guestv1.Start {
	return &guestv1.Start{ExecId: newID(), Command: &guestv1.Start_Shell{Shell: script}}
}

func argv(args ...string) *guestv1.Start {
	return &guestv1.Start{ExecId: newID(), Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: args}}}
}

// result is a complete stream.
type result struct {
	started *guestv1.Started
	stdout  bytes.Buffer
	stderr  bytes.Buffer
	dropped uint64
	exited  *guestv1.Exited
}

func (f *fixture) open(ctx context.Context, first *guestv1.ProcessRunRequest) (*runClient, error) {
	stream := f.Run(ctx)
	err := stream.Send(first)
	if errors.Is(err, io.EOF) {
		err = nil // the server has answered already: Receive says what
	}
	return stream, err
}

func startRequest(s *guestv1.Start) *guestv1.ProcessRunRequest {
	return &guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: s}}
}

func attachRequest(id string, cursor *guestv1.Cursor) *guestv1.ProcessRunRequest {
	return &guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Attach{Attach: &guestv1.Attach{ExecId: id, Cursor: cursor}}}
}

// take adds one message to the result.
func (r *result) take(msg *guestv1.ProcessRunResponse) error {
	if r.exited != nil {
		return errors.New("a message follows exited")
	}
	switch m := msg.GetMessage().(type) {
	case *guestv1.ProcessRunResponse_Started:
		r.started = m.Started
	case *guestv1.ProcessRunResponse_Stdout:
		r.dropped += m.Stdout.GetDroppedBytes()
		r.stdout.Write(m.Stdout.GetData())
		if want := m.Stdout.GetOffset() + uint64(len(m.Stdout.GetData())); uint64(r.stdout.Len())+r.dropped != want {
			return fmt.Errorf("have %d bytes and %d dropped, offset says %d", r.stdout.Len(), r.dropped, want)
		}
	case *guestv1.ProcessRunResponse_Stderr:
		r.stderr.Write(m.Stderr.GetData())
	case *guestv1.ProcessRunResponse_Exited:
		r.exited = m.Exited
	}
	return nil
}

// follow reads a stream to its end. from is what the reader has of stdout.
func follow(stream *runClient, from []byte) (*result, error) {
	r := &result{}
	r.stdout.Write(from)
	for {
		msg, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			if r.started == nil || r.exited == nil {
				return nil, errors.New("the stream is not complete")
			}
			return r, stream.CloseResponse()
		}
		if err != nil {
			return nil, err
		}
		if err := r.take(msg); err != nil {
			return nil, err
		}
	}
}

// do runs a command to its end and closes its side first, as most clients do.
func (f *fixture) do(start *guestv1.Start) (*result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := f.open(ctx, startRequest(start))
	if err != nil {
		return nil, err
	}
	if err := stream.CloseRequest(); err != nil {
		return nil, err
	}
	return follow(stream, nil)
}

func (f *fixture) must(t testing.TB, start *guestv1.Start) *result {
	t.Helper()
	r, err := f.do(start)
	require.NoError(t, err)
	return r
}

// firstLine reads until stdout holds a line and returns it.
func firstLine(t testing.TB, stream *runClient, r *result) string {
	t.Helper()
	for {
		if line, _, ok := bytes.Cut(r.stdout.Bytes(), []byte("\n")); ok {
			return string(line)
		}
		msg, err := stream.Receive()
		require.NoError(t, err)
		require.NoError(t, r.take(msg))
		require.Nil(t, r.exited, "ended early: %v", r.exited)
	}
}

// cut breaks a stream off. The HTTP/2 client tells the server of a context that
// was cancelled only when the stream is used again or closed.
func cut(cancel context.CancelFunc, stream *runClient) {
	cancel()
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

// awaitExit waits until Get says that the exec has ended.
func (f *fixture) awaitExit(t testing.TB, id string) *guestv1.Exited {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := f.open(ctx, attachRequest(id, nil))
	require.NoError(t, err)
	r, err := follow(stream, nil)
	require.NoError(t, err)
	return r.exited
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}
