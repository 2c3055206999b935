// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
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
	helper string // path of testdata/stream in the guest
	// ready and raw are the calls of guestd and of `stream raw`.
	ready, raw chan net.Conn
	plain      net.Conn
}

// startMachine boots with the defaults of `waggle serve`, but without a network.
func startMachine(b *testing.B) *machine {
	b.Helper()
	in := vmtest.Install(b)
	dir := b.TempDir()
	helper := buildHelper(b)
	backend := newBackend(b, in, helper)
	root, scratch := disks(b, in.Data, dir)
	sockets, err := os.MkdirTemp("", "wb") // a socket's path must be short
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, os.RemoveAll(sockets)) })
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(sockets, "guestd.sock")})
	require.NoError(b, err)
	addr, err := vsock.Unix(listener.Addr().String())
	require.NoError(b, err)

	m := &machine{client: guest.New(addr.Dial), ready: make(chan net.Conn, 1), raw: make(chan net.Conn, 1)}
	vmm, err := backend.Start(b.Context(), vm.Spec{
		ID: "bench", Dir: dir, CPUs: 1, MemoryMiB: memoryMiB,
		Disks: []vm.Disk{{Path: root, ReadOnly: true}, {Path: scratch}},
		Guest: listener, Console: io.Discard, Ready: m.called,
	})
	require.NoError(b, err)
	b.Cleanup(func() {
		require.NoError(b, m.client.Close())
		require.NoError(b, vmm.Stop(context.Background()))
	})
	peer, err := guest.Welcome(b.Context(), await(b, m.ready))
	require.NoError(b, err)
	require.NotZero(b, peer.Protocol)
	require.NoError(b, m.client.Configure(b.Context(), &guestv1.SystemConfigureRequest{User: &guestv1.WorkloadUser{}}))
	m.plain = await(b, m.raw)
	b.Cleanup(func() { _ = m.plain.Close() })
	m.helper = copyHelper(b, m.client, helper)
	return m
}

// called sorts the guest's calls: the first byte of `stream raw` is zero, which
// guestd's, the length of a message, never is.
func (m *machine) called(conn net.Conn) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		_ = conn.Close()
		return
	}
	to := m.raw
	if first[0] != 0 {
		conn = &unread{Conn: conn, first: first}
		to = m.ready
	}
	select {
	case to <- conn:
	default:
		_ = conn.Close() // one of each is enough
	}
}

// unread is a connection of which the first byte was read already.
type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}

func (u *unread) CloseWrite() error {
	return u.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func await(b *testing.B, calls <-chan net.Conn) net.Conn {
	b.Helper()
	select {
	case conn := <-calls:
		return conn
	case <-time.After(callLimit):
		b.Fatal("the guest did not call")
		return nil
	}
}

// newBackend runs machines with the helper in front of guestd, see
// testdata/stream.
func newBackend(b *testing.B, in *vmtest.Installation, helper string) *qemu.Backend {
	b.Helper()
	init, err := os.ReadFile(helper)
	require.NoError(b, err)
	guestd, err := os.ReadFile(filepath.Join(filepath.Dir(in.Waggle), "guestd-linux-"+runtime.GOARCH))
	require.NoError(b, err)
	init = binary.LittleEndian.AppendUint64(append(init, guestd...), uint64(len(guestd)))
	dir := b.TempDir()
	path := filepath.Join(dir, "init")
	require.NoError(b, os.WriteFile(path, init, 0o755))
	backend, err := qemu.New(qemu.Config{
		Kernel:     filepath.Join(in.Data, "kernel", "current"),
		Guestd:     path,
		GuestdInfo: guestdInfo(b, guestd),
		CacheDir:   dir,
	})
	require.NoError(b, err)
	return backend
}

// guestdInfo tells guestd that it is the one in the image, so that it stays.
func guestdInfo(b *testing.B, guestd []byte) json.RawMessage {
	b.Helper()
	info, err := json.Marshal(map[string]any{"digest": digest.FromBytes(guestd)})
	require.NoError(b, err)
	return info
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
