// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// goldenVersion and goldenSum belong together: other bytes for the same layers need
// another formatVersion, or hosts go on using the disks that they have.
const (
	goldenVersion = 2
	goldenSum     = "d607db55cd33728aec00d79580ef22f921a9aea5b40df73bdc6e8df7bb54b008"
)

// goldenLayers have something of everything.
func goldenLayers(t testing.TB) [][]byte {
	t.Helper()
	var low []file
	for i := range 300 {
		low = append(low, reg("d/"+itoa(int64(i*7919%1000)), strings.Repeat("b", i)))
	}
	attributes := map[string]string{}
	for _, name := range []string{"user.a", "user.b", "trusted.c", "security.capability", "user.long"} {
		attributes[paxXattr+name] = strings.Repeat(name, 20)
	}
	low = append(low, dir("old/deep"), reg("old/deep/x", "1"), sym("s", "d"), sym("far", strings.Repeat("t/", 90)),
		file{tar.Header{Name: "tool", Mode: 0o4755, Uid: 1000, Gid: 70000, ModTime: time.Unix(1700000000, 5), Format: tar.FormatPAX, PAXRecords: attributes}, "x"},
		file{tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
		file{tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600}, ""})
	return [][]byte{makeTar(t, low...), makeTar(t, hard("s/link", "d/0"), hard("kept", "old/deep/x"), reg(".wh.old", ""),
		reg("implied/by/name", "2"), reg("d/7", "other"))}
}

func sumOf(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	h := sha256.New()
	_, err = io.Copy(h, f)
	require.NoError(t, err)
	return hex.EncodeToString(h.Sum(nil))
}

// TestGolden: the bytes are those of the format's version, on every host.
func TestGolden(t *testing.T) {
	t.Parallel()
	for range 3 { // maps of Go come in another order each time
		img := build(t, goldenLayers(t)...)
		require.Equal(t, goldenSum, sumOf(t, img.path), "other bytes: raise formatVersion, then change both constants")
		require.Contains(t, filepath.Base(img.path), "-v"+itoa(formatVersion)+".")
	}
	require.Equal(t, goldenVersion, formatVersion)
}
