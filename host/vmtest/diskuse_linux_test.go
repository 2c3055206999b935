// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	// nextEnvironment is what one more environment of an image may add to the host's
	// disk before it has done any work.
	nextEnvironment = 1 << 20
	// sharers is how many environments of one image there are, in the gate and in the
	// soak.
	sharers, sharersSoak = 3, 12
)

// TestDiskUse: environments of one image share its disk, and the next one adds next to
// nothing. What the guest has not written yet it is made to.
func TestDiskUse(t *testing.T) {
	all := Install(t)
	in := ofImages(t, all) // where nobody else makes anything
	require.NoError(t, os.Symlink(filepath.Join(all.Data, "images"), filepath.Join(in.Data, "images")))
	c := in.Serve(t).Connect(t)
	n := sharers
	if soaking() {
		n = sharersSoak
	}
	of := map[string]any{"runtime": "shell"}
	for i := range n {
		before := diskUse(t, in.Data)
		var m made
		c.Call(t, "create_environment", of, &m)
		of = map[string]any{"image": m.Digest} // its name may come to mean another
		var ran executed
		c.Call(t, "execute", map[string]any{"environment_id": m.ID, "language": "shell", "code": "sync"}, &ran)
		require.Zero(t, ran.ExitCode, ran.Stderr)
		added := diskUse(t, in.Data) - before
		t.Logf("environment %d: %d KiB more", i+1, added>>10)
		if i > 0 {
			require.Less(t, added, int64(nextEnvironment), "environment %d", i+1)
			require.Greater(t, added, int64(nextEnvironment/16), "its own disk has been looked at")
		}
	}
	disks, err := filepath.Glob(filepath.Join(in.Data, "disks", "sha256-*"))
	require.NoError(t, err)
	require.Len(t, disks, 1)
}

// diskUse is what the files in dir take of the host's disk, in bytes; what symbolic
// links point to is not counted.
func diskUse(t *testing.T, dir string) int64 {
	t.Helper()
	var total int64
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary one
		}
		total += st.Blocks * 512
		return err
	})
	require.NoError(t, err)
	return total
}
