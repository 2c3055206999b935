// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"
)

func TestPrune(t *testing.T) {
	t.Parallel()
	c, err := Open(t.TempDir(), Limits{})
	require.NoError(t, err)
	old := time.Now().Add(-time.Hour)
	put := func(name string, version int, used time.Time) (digest.Digest, string) {
		key := digest.FromString(name)
		path := filepath.Join(c.Dir(), fmt.Sprintf("sha256-%s-v%d.ext4", key.Encoded(), version))
		require.NoError(t, os.WriteFile(path, []byte(name), 0o444))
		require.NoError(t, os.Chtimes(path, used, used))
		return key, path
	}
	image, imageDisk := put("image", formatVersion, old)
	machine, machineDisk := put("machine", formatVersion, old)
	_, recent := put("recent", formatVersion, time.Now())
	_, gone := put("gone", formatVersion, old)
	_, outdated := put("image", formatVersion+1, old)
	_, asked := put("asked", formatVersion, old)
	l := flock.New(filepath.Join(c.Dir(), lockDir, filepath.Base(asked)))
	ok, err := l.TryLock()
	require.NoError(t, err)
	require.True(t, ok)
	defer func() { _ = l.Close() }() // also keeps the lock: a collected file gives it back

	removed, err := c.Prune(map[digest.Digest]bool{image: true}, map[digest.Digest]bool{machine: true}, time.Now().Add(-Grace))
	require.NoError(t, err)
	var paths []string
	for _, d := range removed {
		paths = append(paths, d.Path)
	}
	require.ElementsMatch(t, []string{gone, outdated}, paths)
	for _, path := range []string{imageDisk, machineDisk, recent, asked} {
		require.FileExists(t, path)
	}
	require.NoFileExists(t, gone)
	require.NoFileExists(t, outdated)
}
