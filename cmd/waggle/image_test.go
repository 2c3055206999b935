// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/image"
)

// TestImageCommands imports a root file system, bakes guestd into it and looks
// at the result in the store. Any static binary stands for guestd here: what is
// baked is only read in a machine.
func TestImageCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := dataFlags{DataDir: filepath.Join(dir, "data")}
	rootfs := filepath.Join(dir, "root.tar")
	writeTar(t, rootfs)

	imp := imageImportCmd{dataFlags: data, Tar: rootfs, Ref: "waggle/tiny", Env: []string{"A=1"}}
	require.NoError(t, imp.Run(t.Context()))

	bake := imageBakeCmd{dataFlags: data, Src: "waggle/tiny", GuestdDir: dir}
	err := bake.Run(t.Context())
	require.ErrorContains(t, err, "WAGGLE_GUESTD_DIR", "the remedy")

	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "guestd-linux-"+runtime.GOARCH), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	check := imageCheckCmd{dataFlags: data, Ref: "waggle/tiny"}
	require.ErrorContains(t, check.Run(t.Context()), "guestd, guestd.json")
	require.NoError(t, bake.Run(t.Context()))
	require.NoError(t, check.Run(t.Context()))
	layout := "oci:" + filepath.Join(dir, "layout")
	to := imageBakeCmd{dataFlags: data, Src: "waggle/tiny", Dst: layout, GuestdDir: dir, JSON: true}
	require.NoError(t, to.Run(t.Context()))
	check.Ref = layout
	require.NoError(t, check.Run(t.Context()))
	rmLayout := imageRmCmd{dataFlags: data, Refs: []string{layout}}
	require.NoError(t, rmLayout.Run(t.Context()))
	guestd := imageGuestdCmd{Dir: filepath.Join(dir, "context"), GuestdDir: dir}
	require.NoError(t, guestd.Run())
	require.FileExists(t, filepath.Join(dir, "context", "guestd.json"))

	store, err := data.openStore()
	require.NoError(t, err)
	images, err := store.List()
	require.NoError(t, err)
	require.Len(t, images, 1)
	require.Len(t, images[0].Layers, 2)
	require.Equal(t, "1-1", images[0].Config.Labels[image.LabelProtocol])
	require.Contains(t, strings.Join(images[0].Config.Env, " "), "A=1")

	rm := imageRmCmd{dataFlags: data, Refs: []string{images[0].Ref}}
	require.NoError(t, rm.Run(t.Context()))
	images, err = store.List()
	require.NoError(t, err)
	require.Empty(t, images)
}

// TestImportOfPart: whichever part of a tar is missing, it is said which file is not
// whole and what to do, and nothing is stored.
func TestImportOfPart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := dataFlags{DataDir: filepath.Join(dir, "data")}
	rootfs := filepath.Join(dir, "root.tar")
	writeTar(t, rootfs)
	plain, err := os.ReadFile(rootfs)
	require.NoError(t, err)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err = z.Write(plain)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	packed := zipped.Bytes()
	flipped := bytes.Clone(packed)
	flipped[len(flipped)-6] ^= 1 // of the checksum
	for name, part := range map[string][]byte{
		"header alone":   packed[:8],
		"half":           packed[:len(packed)/2],
		"half of it":     packed[:len(packed)-4],
		"other checksum": flipped,
		"plain":          plain[:700],
		"no tar":         []byte("hello"),
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, part, 0o600))
		err := (&imageImportCmd{dataFlags: data, Tar: file, Ref: "mine/part"}).Run(t.Context())
		require.ErrorIs(t, err, image.ErrCorrupt, name)
		for _, want := range []string{file, "mine/part", "damaged or was cut short", "fetch it again"} {
			require.ErrorContains(t, err, want, name)
		}
	}
	store, err := data.openStore()
	require.NoError(t, err)
	images, err := store.List()
	require.NoError(t, err)
	require.Empty(t, images)
	none := filepath.Join(dir, "none")
	err = (&imageImportCmd{dataFlags: dataFlags{DataDir: filepath.Join(dir, "other")}, Tar: none, Ref: "mine/none"}).Run(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoDirExists(t, filepath.Join(dir, "other"))
}

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		uid  int
		env  map[string]string
		want string
	}{
		"root":     {0, map[string]string{"XDG_DATA_HOME": "/x"}, "/var/lib/waggle"},
		"xdg":      {1000, map[string]string{"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/waggle"},
		"relative": {1000, map[string]string{"XDG_DATA_HOME": "x", "HOME": "/h"}, "/h/.local/share/waggle"},
		"home":     {1000, map[string]string{"HOME": "/h"}, "/h/.local/share/waggle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, defaultDataDir(tt.uid, func(k string) string { return tt.env[k] }))
		})
	}
}

func writeTar(t *testing.T, path string) {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}))
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "etc/hostname", Mode: 0o644, Size: 5}))
	_, err := w.Write([]byte("tiny\n"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(path, buf.Bytes(), 0o600))
}
