// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun"
	"github.com/stacklok/waggle/host/krunbundle"
)

// TestFetchKrun: without checksums nothing is asked for and nothing made; with the
// file of somebody who vouches for them, the libraries lie where they are looked for.
func TestFetchKrun(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the archives of this test are those of Linux")
	}
	archives, sums := map[string][]byte{}, ""
	for kind, files := range map[string][]string{"runtime": {"libkrun.so.1"}, "firmware": {"libkrunfw.so.5", "LICENSE-GPL"}} {
		name := "go-microvm-" + kind + "-linux-" + runtime.GOARCH + ".tar.gz"
		var out bytes.Buffer
		zipped := gzip.NewWriter(&out)
		w := tar.NewWriter(zipped)
		for _, f := range files {
			require.NoError(t, w.WriteHeader(&tar.Header{Name: "top/" + f, Typeflag: tar.TypeReg, Mode: 0o644}))
		}
		require.NoError(t, w.Close())
		require.NoError(t, zipped.Close())
		archives["/bees/"+name] = out.Bytes()
		sums += fmt.Sprintf("%x  %s\n", sha256.Sum256(out.Bytes()), name)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(archives[r.URL.Path])
	}))
	defer server.Close()
	pins, err := krunbundle.Pinned()
	require.NoError(t, err)
	dir := t.TempDir()
	c := fetchKrunCmd{dataFlags: dataFlags{DataDir: filepath.Join(dir, "data")}, Mirror: server.URL + "/bees", Quiet: true}
	for _, sum := range pins.SHA256 {
		if sum != "" {
			t.Skip("checksums are pinned now: the archives of this test are not those")
		}
	}
	require.ErrorIs(t, c.Run(t.Context()), krunbundle.ErrNotPinned)
	require.NoDirExists(t, krunDir(c.DataDir))

	c.Sums = filepath.Join(dir, "sha256sums.txt")
	require.ErrorContains(t, c.Run(t.Context()), "read checksums")
	require.NoError(t, os.WriteFile(c.Sums, []byte(sums+"garbage\n"), 0o600))
	require.ErrorContains(t, c.Run(t.Context()), "WAGGLE_KRUN_SUMS (--sums), "+c.Sums+": line 3: \"garbage\" is not a SHA-256")
	require.NoDirExists(t, krunDir(c.DataDir))
	require.NoError(t, os.WriteFile(c.Sums, []byte(sums), 0o600))
	require.NoError(t, c.Run(t.Context()))
	libs, _, err := findLibraries("", c.DataDir)
	require.ErrorIs(t, err, krun.ErrUnfit, "they are empty")
	require.Equal(t, krunbundle.Current(krunDir(c.DataDir)), filepath.Dir(libs.Krun.Path))
	require.Equal(t, pins.Krun, libs.Krun.Version)
	require.Equal(t, pins.Firmware, libs.Firmware.Version)
}
