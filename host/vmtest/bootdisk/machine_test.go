// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bootdisk

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/image"
	"github.com/stacklok/waggle/host/qemu"
	"github.com/stacklok/waggle/host/vm"
)

const (
	// bootLimit is far beyond any boot: it only turns a hang into a failure.
	bootLimit  = 2 * time.Minute
	memoryMiB  = 512
	scratchMiB = 1 << 10
)

// bootFile is what the host writes for guestd, /lib/waggle/boot.json.
type bootFile struct {
	Guestd   map[string]string `json:"guestd"`
	PowerOff string            `json:"power_off"`
}

// machine is one that has booted.
type machine struct {
	vm.Machine
	socket  string
	console *console
	peer    *guest.Peer
}

// parts is what the machines of this package are made of.
type parts struct {
	backend *qemu.Backend
	guestd  []byte
	root    string // the disk of the python image
	baked   string // digest of the guestd in it
	disks   *disk.Cache
}

// prepared makes the parts once. WAGGLE_TEST_DATA holds kernel and images.
var prepared = sync.OnceValues(func() (*parts, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	data := os.Getenv("WAGGLE_TEST_DATA")
	dir, err := os.MkdirTemp("", "wbd")
	if err != nil {
		return nil, err
	}
	scrap = dir
	for name, pkg := range map[string]string{"guestd": "../../../cmd/guestd", "init": "./testdata/init"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w: %s", pkg, err, out)
		}
	}
	p := &parts{}
	if p.guestd, err = os.ReadFile(filepath.Join(dir, "guestd")); err != nil {
		return nil, err
	}
	p.backend, err = qemu.New(qemu.Config{
		Kernel: filepath.Join(data, "kernel", "current"), Guestd: filepath.Join(dir, "init"), CacheDir: dir,
	})
	if err != nil {
		return nil, err
	}
	return p, p.image(ctx, data)
})

// image finds the python image and its disk.
func (p *parts) image(ctx context.Context, data string) error {
	store, err := image.Open(filepath.Join(data, "images"))
	if err != nil {
		return err
	}
	img, err := store.Resolve(ctx, "waggle/python", image.ResolveOptions{LocalOnly: true})
	if err != nil {
		return err
	}
	p.baked = img.Config.Labels[image.LabelDigest]
	var layers []disk.Layer
	for _, l := range img.Layers {
		layers = append(layers, disk.Layer{Open: l.Open})
	}
	if p.disks, err = disk.Open(filepath.Join(data, "disks"), disk.DefaultLimits); err != nil {
		return err
	}
	p.root, err = p.disks.Root(ctx, img.Digest, layers, nil)
	return err
}

// scrap is the directory of the parts, for TestMain to remove.
var scrap string

func TestMain(m *testing.M) {
	code := m.Run()
	if scrap != "" {
		_ = os.RemoveAll(scrap)
	}
	os.Exit(code)
}

func machineParts(t *testing.T) *parts {
	t.Helper()
	if os.Getenv("WAGGLE_TEST_DATA") == "" {
		const remedy = "WAGGLE_TEST_DATA is not set: run the tests with `task test`, which prepares the images"
		if strings.Contains(os.Getenv("WAGGLE_TEST_REQUIRE"), "qemu") {
			t.Fatal(remedy)
		}
		t.Skip(remedy)
	}
	p, err := prepared()
	require.NoError(t, err)
	return p
}

// writeBootDisk makes the disk that guestd is started from.
func writeBootDisk(t *testing.T, path string, guestd []byte, about bootFile) {
	t.Helper()
	text, err := json.Marshal(about)
	require.NoError(t, err)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, dir := range []string{"lib", "lib/waggle", "proc", "sys", "dev", "run", "tmp", "image", "scratch", "newroot"} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	for name, content := range map[string][]byte{"lib/waggle/guestd": guestd, "lib/waggle/boot.json": text} {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	file, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, tar2ext4.ConvertTarToExt4(&archive, file))
	require.NoError(t, file.Close())
}

// boot starts a machine, welcomes its guestd and stops it when the test ends.
func boot(t *testing.T, p *parts, about bootFile) *machine {
	t.Helper()
	return bootWith(t, p, about, true)
}

// bootWith boots with the image and a scratch disk, or without.
func bootWith(t *testing.T, p *parts, about bootFile, image bool) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "wbd") // short: it holds a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	disks := []vm.Disk{{Path: filepath.Join(dir, "boot.ext4"), ReadOnly: true}}
	writeBootDisk(t, disks[0].Path, p.guestd, about)
	if image {
		scratch := filepath.Join(dir, "scratch.ext4")
		require.NoError(t, p.disks.Scratch(t.Context(), scratch, scratchMiB))
		disks = append(disks, vm.Disk{Path: p.root, ReadOnly: true}, vm.Disk{Path: scratch})
	}

	m := &machine{socket: filepath.Join(dir, "guestd.sock"), console: &console{}}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.socket})
	require.NoError(t, err)
	calls := make(chan net.Conn, 1)
	m.Machine, err = p.backend.Start(t.Context(), vm.Spec{
		ID: t.Name(), Dir: dir, CPUs: 1, MemoryMiB: memoryMiB, Guest: listener, Console: m.console,
		Disks: disks, Ready: func(conn net.Conn) { calls <- conn },
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
		defer cancel()
		require.NoError(t, m.Stop(ctx))
	})
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	select {
	case conn := <-calls:
		m.peer, err = guest.Welcome(ctx, conn)
		require.NoError(t, err)
	case <-m.Done():
		require.FailNow(t, "machine ended before it was ready", "%v\n%s", m.Err(), m.console)
	case <-ctx.Done():
		require.FailNow(t, "guestd did not call", m.console.String())
	}
	return m
}

// awaitEnd returns why the machine has ended.
func (m *machine) awaitEnd(t *testing.T) error {
	t.Helper()
	select {
	case <-m.Done():
		return m.Err()
	case <-time.After(bootLimit):
		return errors.New("it has not ended")
	}
}

// console is a buffer that may be read while the machine writes.
type console struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}
