// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCache(t *testing.T) {
	t.Parallel()
	c := Cache{Dir: filepath.Join(t.TempDir(), "cache"), Kind: "thing", Ext: ".bin", Mode: 0o444}
	write := func(text string) func(*os.File) error {
		return func(f *os.File) error {
			_, err := f.WriteString(text)
			return err
		}
	}
	paths, errs := make([]string, 8), make([]error, 8)
	var wg sync.WaitGroup
	for i := range paths {
		wg.Go(func() { paths[i], errs[i] = c.Get("one", write("the same")) })
	}
	wg.Wait()
	for i := range paths {
		require.NoError(t, errs[i])
		require.Equal(t, filepath.Join(c.Dir, "thing-one.bin"), paths[i])
	}
	info, err := os.Stat(paths[0])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o444), info.Mode())
	_, err = c.Get("one", func(*os.File) error { return errors.New("made again") })
	require.NoError(t, err, "what is there is not made again")

	_, err = c.Get("two", func(*os.File) error { return errors.New("disk full") })
	require.ErrorContains(t, err, "write thing: disk full")
	require.NoFileExists(t, filepath.Join(c.Dir, "thing-two.bin"))

	other := filepath.Join(c.Dir, "other-1.bin")
	require.NoError(t, os.WriteFile(other, nil, 0o600))
	stale := filepath.Join(c.Dir, ".thing-1.tmp")
	require.NoError(t, os.WriteFile(stale, nil, 0o600))
	require.NoError(t, os.Chtimes(stale, time.Time{}, time.Now().Add(-2*staleAfter)))
	for i := range 2 * keep {
		last, err := c.Get(fmt.Sprint("version", i), write("v"))
		require.NoError(t, err)
		require.FileExists(t, last)
	}
	require.FileExists(t, other, "another cache's")
	entries, err := os.ReadDir(c.Dir)
	require.NoError(t, err)
	require.Len(t, entries, keep+1, "old files and temporary ones are gone")
}
