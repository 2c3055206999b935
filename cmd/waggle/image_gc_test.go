// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/disk"
	"github.com/stacklok/waggle/host/image"
)

// gcFixture is a data directory with an image, its disk and that of another image.
type gcFixture struct {
	data  dataFlags
	run   runDirFlags
	store *image.Store
	disks *disk.Cache
	mine  digest.Digest
}

func newGC(t *testing.T) *gcFixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "wg") // short: sockets are to lie below it
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &gcFixture{data: dataFlags{DataDir: filepath.Join(dir, "data")}, run: runDirFlags{RunDir: filepath.Join(dir, "run")}}
	rootfs := filepath.Join(dir, "root.tar")
	writeTar(t, rootfs)
	require.NoError(t, (&imageImportCmd{dataFlags: f.data, Tar: rootfs, Ref: "mine"}).Run(t.Context()))
	f.store, err = f.data.openStore()
	require.NoError(t, err)
	img, err := f.store.Inspect("mine")
	require.NoError(t, err)
	f.mine = img.Digest
	f.disks, err = disk.Open(filepath.Join(f.data.DataDir, "disks"), disk.DefaultLimits)
	require.NoError(t, err)
	f.disk(t, f.mine)
	return f
}

// disk makes one that was last used long ago.
func (f *gcFixture) disk(t *testing.T, key digest.Digest) string {
	t.Helper()
	path, err := f.disks.Root(t.Context(), key, nil, nil)
	require.NoError(t, err)
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	return path
}

// TestImageGC deletes the disk of an image that is gone, and nothing that is used: not
// by an image, not by an environment that lives, not by one that is being made.
func TestImageGC(t *testing.T) {
	t.Parallel()
	f := newGC(t)
	gone, lives, dead := digest.FromString("gone"), digest.FromString("lives"), digest.FromString("dead")
	gonePath, livesPath, deadPath := f.disk(t, gone), f.disk(t, lives), f.disk(t, dead)
	fresh, err := f.disks.Root(t.Context(), digest.FromString("fresh"), nil, nil)
	require.NoError(t, err)
	f.environment(t, "env-aaaaaaaa", lives, os.Getpid())
	f.environment(t, "env-bbbbbbbb", dead, 1<<22+1) // above the highest pid
	stray := filepath.Join(f.data.DataDir, "images", "blobs", "sha256", strings.Repeat("0", 64))
	require.NoError(t, os.WriteFile(stray, []byte("no image has it"), 0o600))

	rows, err := (&imageDfCmd{dataFlags: f.data, runDirFlags: f.run}).rows()
	require.NoError(t, err)
	require.Equal(t, 1, rows[0].Count)
	require.EqualValues(t, len("no image has it"), rows[0].Reclaimable)
	require.Equal(t, 5, rows[1].Count)
	require.Greater(t, rows[1].Bytes, rows[1].Reclaimable)

	gc := imageGcCmd{dataFlags: f.data, runDirFlags: f.run}
	require.NoError(t, gc.Run())
	require.NoFileExists(t, gonePath)
	require.NoFileExists(t, deadPath)
	require.NoFileExists(t, stray)
	require.FileExists(t, livesPath)
	require.FileExists(t, fresh)
	left, err := f.disks.List()
	require.NoError(t, err)
	require.Len(t, left, 3)
	_, err = f.store.Inspect("mine")
	require.NoError(t, err)

	f.environment(t, "env-cccccccc", "", 0)
	require.NoError(t, os.WriteFile(filepath.Join(f.run.RunDir, "env-cccccccc", "vm.json"), []byte("{"), 0o600))
	require.NoError(t, (&imageRmCmd{dataFlags: f.data, Refs: []string{"mine"}}).Run(t.Context()))
	require.ErrorContains(t, gc.Run(), "waggle rm env-cccccccc", "it may use any disk")
	left, err = f.disks.List()
	require.NoError(t, err)
	require.Len(t, left, 3)
}

// TestImageGCKilled: what a killed gc leaves is a store, and the next one does the rest.
func TestImageGCKilled(t *testing.T) {
	t.Parallel()
	f := newGC(t)
	blobs := filepath.Join(f.data.DataDir, "images", "blobs", "sha256")
	const strays = 20_000
	for i := range strays {
		require.NoError(t, os.WriteFile(filepath.Join(blobs, fmt.Sprintf("%064x", i)), nil, 0o600))
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "image", "gc", "--data-dir", f.data.DataDir, "--run-dir", f.run.RunDir)
	cmd.Env = append(os.Environ(), asWaggle+"=1")
	require.NoError(t, cmd.Start())
	first := filepath.Join(blobs, fmt.Sprintf("%064x", 0))
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := os.Lstat(first); err != nil {
			break
		}
		require.True(t, time.Now().Before(deadline), "gc deletes nothing")
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait(), "it was killed in the middle")

	left, err := os.ReadDir(blobs)
	require.NoError(t, err)
	require.Greater(t, len(left), 3, "it was killed in the middle")
	check := func() {
		img, err := f.store.Inspect("mine")
		require.NoError(t, err)
		r, err := img.Layers[0].Open(t.Context())
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, r)
		require.NoError(t, errors.Join(err, r.Close()))
	}
	check()
	require.NoError(t, (&imageGcCmd{dataFlags: f.data, runDirFlags: f.run}).Run())
	check()
	left, err = os.ReadDir(blobs)
	require.NoError(t, err)
	require.Len(t, left, 3, "manifest, configuration and layer")
}

// environment writes the record of one whose supervisor is a process.
func (f *gcFixture) environment(t *testing.T, id string, image digest.Digest, pid int) {
	t.Helper()
	dir := filepath.Join(f.run.RunDir, id)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	record := fmt.Sprintf(`{"version":1,"spec":{"id":%q,"image_digest":%q},"supervisor":%s}`, id, image, processJSON(t, pid))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vm.json"), []byte(record), 0o600))
}

// processJSON names a process as vm.json does.
func processJSON(t *testing.T, pid int) string {
	t.Helper()
	started := "1"
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		after := stat[strings.LastIndexByte(string(stat), ')')+2:]
		started = strings.Fields(string(after))[19]
	}
	return fmt.Sprintf(`{"pid":%d,"started":%s}`, pid, started)
}

// TestImageNames: inspect and tag, and gc and df where there is nothing.
func TestImageNames(t *testing.T) {
	t.Parallel()
	f := newGC(t)
	require.NoError(t, (&imageTagCmd{dataFlags: f.data, Src: "mine", Dst: "team/tools:2"}).Run(t.Context()))
	require.NoError(t, (&imageRmCmd{dataFlags: f.data, Refs: []string{"mine"}}).Run(t.Context()))
	img, err := f.store.Inspect("team/tools:2")
	require.NoError(t, err)
	require.Equal(t, f.mine, img.Digest)
	require.NoError(t, (&imageInspectCmd{dataFlags: f.data, Refs: []string{"team/tools:2", f.mine.String()}}).Run())
	require.ErrorIs(t, (&imageInspectCmd{dataFlags: f.data, Refs: []string{"mine"}}).Run(), image.ErrNotFound)
	require.ErrorIs(t, (&imageTagCmd{dataFlags: f.data, Src: "mine", Dst: "b"}).Run(t.Context()), image.ErrNotFound)
	require.ErrorIs(t, (&imageTagCmd{dataFlags: f.data, Src: "team/tools:2", Dst: "b@" + f.mine.String()}).Run(t.Context()), image.ErrReference)

	none := dataFlags{DataDir: filepath.Join(t.TempDir(), "none")}
	require.NoError(t, (&imageGcCmd{dataFlags: none, runDirFlags: f.run}).Run())
	require.NoError(t, (&imageDfCmd{dataFlags: none, runDirFlags: f.run}).Run())
	require.NoDirExists(t, none.DataDir)
}
