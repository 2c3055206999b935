// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/stretchr/testify/require"
)

func content(t *testing.T, guestd string) Content {
	t.Helper()
	dir := t.TempDir()
	c := Content{Guestd: filepath.Join(dir, "guestd"), GuestdInfo: json.RawMessage(`{"version":"v1"}`)}
	require.NoError(t, os.WriteFile(c.Guestd, []byte(guestd), 0o755))
	for _, name := range []string{"00-a.ko", "01-b.ko"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("module "+name), 0o644))
		c.Modules = append(c.Modules, path)
	}
	return c
}

func TestWrite(t *testing.T) {
	t.Parallel()
	c := content(t, "the agent")
	var archive, again bytes.Buffer
	require.NoError(t, Write(&archive, c))
	require.NoError(t, Write(&again, c))
	require.Equal(t, archive.Bytes(), again.Bytes(), "the same content gives the same bytes")

	type entry struct {
		mode cpio.FileMode
		data string
	}
	got := make(map[string]entry)
	var order []string
	for r := cpio.NewReader(bytes.NewReader(archive.Bytes())); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		data, err := io.ReadAll(r)
		require.NoError(t, err)
		got[header.Name] = entry{header.Mode, string(data)}
		order = append(order, header.Name)
	}
	for _, dir := range directories {
		require.Equal(t, entry{cpio.TypeDir | 0o755, ""}, got[dir], dir)
	}
	require.Equal(t, entry{cpio.TypeChar | 0o600, ""}, got["dev/console"])
	require.Equal(t, entry{cpio.TypeReg | 0o755, "the agent"}, got["init"])
	require.Equal(t, entry{cpio.TypeReg | 0o644, "module 01-b.ko"}, got[ModuleDir+"/01-b.ko"])
	require.JSONEq(t, `{"modules":["00-a.ko","01-b.ko"],"guestd":{"version":"v1"}}`, got["lib/waggle/boot.json"].data)
	require.Len(t, order, len(directories)+5)

	// The library's reader has no field for the device's number either.
	at := bytes.Index(archive.Bytes(), []byte("dev/console\x00")) - 110
	require.Equal(t, "070701", string(archive.Bytes()[at:at+6]))
	require.Equal(t, "0000000500000001", string(archive.Bytes()[at+78:at+94]), "5:1")
}

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	c := content(t, "x")
	missing := c
	missing.Guestd = filepath.Join(t.TempDir(), "none")
	require.ErrorIs(t, Write(io.Discard, missing), os.ErrNotExist)
	directory := c
	directory.Modules = []string{t.TempDir()}
	require.ErrorContains(t, Write(io.Discard, directory), "not a regular file")
}

func TestCached(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	c := content(t, "one")
	var wg sync.WaitGroup
	paths := make([]string, 8)
	errs := make([]error, len(paths))
	for i := range paths {
		wg.Go(func() { paths[i], errs[i] = Cached(dir, c) })
	}
	wg.Wait()
	var want bytes.Buffer
	require.NoError(t, Write(&want, c))
	for i := range paths {
		require.NoError(t, errs[i])
		require.Equal(t, paths[0], paths[i])
	}
	got, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	require.Equal(t, want.Bytes(), got)

	// Another agent of the same size under the same name is another archive.
	require.NoError(t, os.WriteFile(c.Guestd, []byte("two"), 0o755))
	second, err := Cached(dir, c)
	require.NoError(t, err)
	require.NotEqual(t, paths[0], second)
	c.GuestdInfo = nil
	third, err := Cached(dir, c)
	require.NoError(t, err)
	require.NotEqual(t, second, third)
}
