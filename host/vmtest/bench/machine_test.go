// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/host/vmtest"
	"github.com/stacklok/waggle/host/vsock"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	memoryMiB  = 512
	scratchMiB = 10 << 10
	// callLimit is beyond any boot: it turns a hang into a failure.
	callLimit = 2 * time.Minute
)

// machine is a python machine without a supervisor.
type machine struct {
	client *guest.Client
	// calls are what the guest dials after the ready handshake.
	calls chan net.Conn
}

// startMachine boots with the defaults of `waggle serve`, but without a network.
func startMachine(b *testing.B) *machine {
	b.Helper()
	in := vmtest.Install(b)
	backend := newBackend(b, in)
	dir := b.TempDir()
	root, scratch := disks(b, in.Data, dir)
	sockets, err := os.MkdirTemp("", "wb") // a socket's path must be short
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, os.RemoveAll(sockets)) })
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(sockets, "guestd.sock")})
	require.NoError(b, err)
	addr, err := vsock.Unix(listener.Addr().String())
	require.NoError(b, err)

	m := &machine{client: guest.New(addr.Dial), calls: make(chan net.Conn, 1)}
	vmm, err := backend.Start(b.Context(), vm.Spec{
		ID: "bench", Dir: dir, CPUs: 1, MemoryMiB: memoryMiB,
		Disks: []vm.Disk{{Path: root, ReadOnly: true}, {Path: scratch}},
		Guest: listener, Console: io.Discard,
		Ready: func(conn net.Conn) { m.calls <- conn },
	})
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, m.client.Close())
		require.NoError(b, vmm.Stop(context.Background()))
	})
	conn, err := m.call(b.Context())
	require.NoError(b, err)
	peer, err := guest.Welcome(b.Context(), conn)
	require.NoError(b, err)
	require.NotZero(b, peer.Protocol)
	require.NoError(b, m.client.Configure(b.Context(), &guestv1.SystemConfigureRequest{
		User: &guestv1.WorkloadUser{},
	}))
	return m
}

// call waits for the guest to dial.
func (m *machine) call(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	select {
	case conn := <-m.calls:
		return conn, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the guest to dial: %w", ctx.Err())
	}
}

// throughVsock measures a plain stream.
func (m *machine) throughVsock(b *testing.B, helper string, way direction) float64 {
	b.Helper()
	t := &transfer{way: way}
	ended := make(chan error, 1)
	go func() {
		conn, err := m.call(b.Context())
		if err == nil {
			err = t.overConn(conn)
		}
		ended <- err
	}()
	runHelper(b, m.client, []string{helper, "vsock", string(way), fmt.Sprint(streamSize)}, nil)
	require.NoError(b, <-ended)
	return t.rate()
}

func newBackend(b *testing.B, in *vmtest.Installation) *qemu.Backend {
	b.Helper()
	backend, err := qemu.New(qemu.Config{
		Kernel:     filepath.Join(in.Data, "kernel", "current"),
		Guestd:     filepath.Join(filepath.Dir(in.Waggle), "guestd-linux-"+runtime.GOARCH),
		GuestdInfo: json.RawMessage(`{}`),
		CacheDir:   filepath.Join(in.Data, "initramfs"),
	})
	require.NoError(b, err)
	return backend
}

// disks returns the disk of the python image and an empty one in dir.
func disks(b *testing.B, data, dir string) (root, scratch string) {
	b.Helper()
	store, err := image.Open(filepath.Join(data, "images"))
	require.NoError(b, err)
	img, err := store.Resolve(b.Context(), "waggle/python", image.ResolveOptions{LocalOnly: true})
	require.NoError(b, err)
	var layers []disk.Layer
	for _, l := range img.Layers {
		layers = append(layers, disk.Layer{Open: l.Open})
	}
	cache, err := disk.Open(filepath.Join(data, "disks"), disk.DefaultLimits)
	require.NoError(b, err)
	root, err = cache.Root(b.Context(), img.Digest, layers, nil)
	require.NoError(b, err)
	scratch = filepath.Join(dir, "scratch.ext4")
	require.NoError(b, cache.Scratch(b.Context(), scratch, scratchMiB))
	return root, scratch
}
