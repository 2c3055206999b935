// SPDX-License-Identifier: Apache-2.0

package environment_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/supervisor"
	"github.com/stacklok/waggle/host/vm"
	"github.com/stacklok/waggle/proto"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
	"github.com/stacklok/waggle/proto/gen/waggle/guest/v1/guestv1connect"
)

// TestMain makes this binary the supervisor that Launcher starts: the real one,
// of a machine that is a goroutine.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "supervise" {
		if err := supervise(os.Args[3]); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func supervise(dir string) error {
	report := supervisor.OpenReport()
	spec, err := supervisor.ReadSpec(os.Stdin)
	if err != nil {
		report.Failed(err)
		return err
	}
	disks, err := disk.Open(filepath.Join(filepath.Dir(spec.ScratchPath), "disks"), disk.Limits{})
	if err != nil {
		report.Failed(err)
		return err
	}
	return supervisor.Run(context.Background(), supervisor.Config{
		Dir: dir, Backend: goroutines(spec.Backend), Disks: disks, Listening: report.Listening,
		BootTimeout: 3 * time.Second,
	}, spec)
}

// goroutines is a backend whose guest does as its text says: "boot", "fail" to
// start, or "hang".
type goroutines string

func (goroutines) Name() string { return "goroutines" }

func (g goroutines) Start(_ context.Context, spec vm.Spec) (vm.Machine, error) {
	if g == `"fail"` {
		_ = spec.Guest.Close()
		return nil, errors.New("no VMM here: install one")
	}
	mux := http.NewServeMux()
	mux.Handle(guestv1connect.NewSystemHandler(configurable{}))
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	m := &machine{srv: &http.Server{Handler: mux, Protocols: &protocols}, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		_ = m.srv.Serve(spec.Guest)
	}()
	if g == `"boot"` {
		host, guest := net.Pipe()
		go func() {
			_, _ = protodelim.MarshalTo(guest, &guestv1.Ready{Agent: &guestv1.AgentInfo{
				ProtocolMin: proto.GuestProtocolMin, ProtocolMax: proto.GuestProtocolMax,
			}})
			_ = protodelim.UnmarshalFrom(bufio.NewReader(guest), &guestv1.Welcome{})
			_ = guest.Close()
		}()
		spec.Ready(host)
	}
	return m, nil
}

type configurable struct {
	guestv1connect.UnimplementedSystemHandler
}

func (configurable) Configure(
	context.Context, *connect.Request[guestv1.SystemConfigureRequest],
) (*connect.Response[guestv1.SystemConfigureResponse], error) {
	return connect.NewResponse(&guestv1.SystemConfigureResponse{}), nil
}

type machine struct {
	srv  *http.Server
	done chan struct{}
}

func (m *machine) PID() int              { return os.Getpid() }
func (m *machine) Resume() error         { return nil }
func (m *machine) Done() <-chan struct{} { return m.done }
func (m *machine) Err() error            { return vm.ErrStopped }

func (m *machine) Stop(context.Context) error {
	_ = m.srv.Close()
	<-m.done
	return nil
}

// newLauncher has a store with the image waggle/shell.
func newLauncher(t *testing.T, backend string) *environment.Launcher {
	t.Helper()
	dir, err := os.MkdirTemp("", "wl") // short: it holds sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	store, err := image.Open(filepath.Join(dir, "images"))
	require.NoError(t, err)
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}))
	require.NoError(t, w.Close())
	_, err = store.ImportRootfs(t.Context(), &root, "waggle/shell", "", image.Config{
		Env: []string{"PATH=/bin", "HOME=/root", "broken"}, WorkingDir: "/srv",
	})
	require.NoError(t, err)
	scratch := filepath.Join(dir, "scratch")
	disks, err := disk.Open(filepath.Join(scratch, "disks"), disk.Limits{})
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	run := filepath.Join(dir, "run")
	require.NoError(t, os.Mkdir(run, 0o700))
	raw, err := json.Marshal(backend)
	require.NoError(t, err)
	l := &environment.Launcher{
		Store: store, Disks: disks, Exe: exe, RunDir: run, ScratchDir: scratch, Backend: raw, NoNetwork: true, Holder: "test",
		Images: map[string]string{"node": "no/such:image"},
	}
	l.Resolve.LocalOnly = true
	l.Defaults.CPUs, l.Defaults.MemoryMiB, l.Defaults.DiskMiB = 1, 128, 32
	return l
}

// leftovers are what a failed or ended machine must not leave.
func leftovers(t *testing.T, l *environment.Launcher) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(l.RunDir, "*"))
	require.NoError(t, err)
	disks, err := filepath.Glob(filepath.Join(l.ScratchDir, "*.ext4"))
	require.NoError(t, err)
	return append(dirs, disks...)
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, "boot")
	var steps []string
	m, err := l.Launch(t.Context(), environment.Request{ID: "env-a", Name: "n", Runtime: "shell", MemoryMiB: 256},
		func(s string) { steps = append(steps, s) })
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	require.Contains(t, steps, "starting the machine") // later phases may pass unseen
	record, err := supervisor.ReadRecord(m.Dir())
	require.NoError(t, err)
	s := record.Spec
	require.Equal(t, "env-a", s.ID)
	require.Equal(t, 1, s.CPUs, "from the defaults")
	require.Equal(t, 256, s.MemoryMiB, "from the request")
	require.Equal(t, map[string]string{"PATH": "/bin"}, s.Env)
	require.Empty(t, s.Cwd, "a runtime works in the user's home")
	require.FileExists(t, s.RootDisk)
	require.FileExists(t, s.ScratchPath)
	_, err = m.Stop(t.Context(), 0, "test")
	require.NoError(t, err)
	require.Empty(t, leftovers(t, l))
	require.FileExists(t, s.RootDisk, "the image's disk stays")

	// By reference, and from the disk that is there already.
	m, err = l.Launch(t.Context(), environment.Request{ID: "env-b", Image: "waggle/shell"}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	record, err = supervisor.ReadRecord(m.Dir())
	require.NoError(t, err)
	require.Equal(t, s.RootDisk, record.Spec.RootDisk)
	require.Equal(t, "/srv", record.Spec.Cwd)
	require.NoError(t, supervisor.Discard(t.Context(), m.Dir()))
	require.Empty(t, leftovers(t, l))
}

func TestLaunchFails(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, backend string
		req           environment.Request
		want          string
	}{
		{"backend", "fail", environment.Request{ID: "env-a", Runtime: "shell"}, "no VMM here: install one"},
		{"boot", "hang", environment.Request{ID: "env-a", Runtime: "shell"}, "no progress"},
		{"size", "boot", environment.Request{ID: "env-a", Runtime: "shell", DiskMiB: 1}, "choose a size"},
		{"memory", "boot", environment.Request{ID: "env-a", Runtime: "shell", MemoryMiB: 10}, "give at least"},
		{"no image", "boot", environment.Request{ID: "env-a", Runtime: "python"}, "task images"},
		{"setting", "boot", environment.Request{ID: "env-a", Runtime: "node"}, "no/such:image"},
		{"host's file", "boot", environment.Request{ID: "env-a", Image: "oci:/some/where", Stranger: true}, "the person who runs the server"},
		{"id", "boot", environment.Request{ID: "../x", Runtime: "shell"}, "malformed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLauncher(t, tc.backend)
			_, err := l.Launch(t.Context(), tc.req, nil)
			require.ErrorContains(t, err, tc.want)
			require.Empty(t, leftovers(t, l))
		})
	}
}

// TestLaunchChecks: what the host lacks is said before an image is looked for.
func TestLaunchChecks(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, "boot")
	why := errors.New("no kernel, no certificates")
	l.Check = func() error { return why }
	_, err := l.Launch(t.Context(), environment.Request{ID: "env-a", Runtime: "python"}, func(s string) {
		t.Errorf("%s, although nothing can come of it", s)
	})
	require.ErrorIs(t, err, why)
	require.Empty(t, leftovers(t, l))
}

// TestLaunchCancelled: whoever gives up leaves no machine behind.
func TestLaunchCancelled(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, "hang")
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the client went")
	_, err := l.Launch(ctx, environment.Request{ID: "env-a", Runtime: "shell"}, func(s string) {
		if s == "booting" {
			cancel(why)
		}
	})
	require.ErrorIs(t, err, why)
	require.Empty(t, leftovers(t, l))
}
