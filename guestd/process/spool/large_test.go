// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/guestd/process/spool"
)

// commit appends data as a pump does that reads them into the spool's memory, in
// pieces of at most most bytes.
func commit(s *spool.Spool, which spool.Stream, data []byte, most int) {
	for len(data) > 0 {
		n := copy(s.Room(which), data[:min(most, len(data))])
		s.Commit(which, n)
		data = data[n:]
	}
}

// check compares what a new reader gets with what must be left of want.
func check(t *testing.T, s *spool.Spool, want []byte, limit int) {
	t.Helper()
	want = bytes.Clone(want)
	lost := max(len(want)-limit, 0)
	copy(want[min(limit/2, len(want)):], bytes.Repeat([]byte{'?'}, lost))
	require.EqualValues(t, lost, s.Totals().Dropped[0])
	r := s.Reader(0, 0)
	defer r.Close()
	got, err := readAll(t.Context(), r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got.data[0]), "%d of %d bytes", len(got.data[0]), len(want))
}

// TestLarge holds that output that is collected in blocks is kept as any other:
// below, at and above a limit, whether or not blocks fit in it, behind output that
// was not collected, before and after it went to the file, on file systems with
// direct writes and on those without.
func TestLarge(t *testing.T) {
	t.Parallel()
	const block = 124 << 10
	for name, dir := range map[string]string{"disk": "", "memory": "/dev/shm"} {
		for _, limit := range []int{1000, block, 3*block + 1, 8 * block, 64 << 20} {
			for _, total := range []int{1, block, 4 * block, 9*block + 77} {
				for _, before := range []int{0, 5000} {
					t.Run(fmt.Sprintf("%s/%d of %d behind %d", name, limit, total, before), func(t *testing.T) {
						t.Parallel()
						testLarge(t, dir, limit, total, before)
					})
				}
			}
		}
	}
}

func testLarge(t *testing.T, dir string, limit, total, before int) {
	t.Helper()
	dir, err := os.MkdirTemp(dir, "spool")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	pool, err := spool.NewPool(dir, 1<<30, nil)
	require.NoError(t, err)
	s := pool.New(uint64(limit))
	want := randomBytes(before + total)
	s.Write(spool.Stdout, want[:before])
	rnd := rand.New(rand.NewPCG(2, uint64(limit)))
	for at := before; at < len(want); {
		n := min(1+rnd.IntN(200_000), len(want)-at)
		if rnd.IntN(4) == 0 {
			s.Write(spool.Stdout, want[at:at+n])
		} else {
			commit(s, spool.Stdout, want[at:at+n], 1+rnd.IntN(200_000))
		}
		at += n
	}
	s.End()
	check(t, s, want, limit)
	s.CloseWrite()
	check(t, s, want, limit)
	s.Remove()
	require.Zero(t, pool.Used())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestLargeReaders has followers look on that keep up as well as they can, one that
// stands still on its first piece, whose bytes must stay what they are, and one
// that comes late.
func TestLargeReaders(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1 << 20, 300_000, 64 << 20} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			pool, _ := newPool(t, 1<<30)
			s := pool.New(uint64(limit))
			defer s.Remove()
			want := randomBytes(3 << 20)
			still := s.Reader(0, 0)
			defer still.Close()
			commit(s, spool.Stdout, want[:1000], 1000)
			first, err := still.Next(t.Context())
			require.NoError(t, err)
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					r := s.Reader(0, 0)
					defer r.Close()
					got, err := readAll(t.Context(), r)
					if err != nil || len(got.data[0]) != len(want) || !same(want, got.data[0]) {
						t.Errorf("a follower saw wrong bytes: %v", err)
					}
				})
			}
			commit(s, spool.Stdout, want[1000:], 100_000)
			s.End()
			wg.Wait()
			require.True(t, bytes.Equal(want[:1000], first.Data))
			s.CloseWrite()
			check(t, s, want, limit)
		})
	}
}

// TestLargeOnFullDisk: no byte can be written. All are counted as dropped, and none
// is shown that is not there.
func TestLargeOnFullDisk(t *testing.T) {
	t.Parallel()
	pool, dir := newPool(t, 1<<30)
	require.NoError(t, os.Symlink("/dev/full", filepath.Join(dir, "1.1.spool")))
	s := pool.New(64 << 20)
	defer s.Remove()
	commit(s, spool.Stdout, randomBytes(1<<20), 100_000)
	s.End()
	s.CloseWrite()
	require.EqualValues(t, 1<<20, s.Totals().Dropped[0])
	r := s.Reader(0, 0)
	defer r.Close()
	_, err := r.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
}

// TestLargeWithoutDirect: a file that refuses to be opened for direct writes, with
// EINVAL as file systems do, is written as any other, and so are those behind it.
func TestLargeWithoutDirect(t *testing.T) {
	t.Parallel()
	pool, dir := newPool(t, 1<<30)
	require.NoError(t, os.Symlink(os.DevNull, filepath.Join(dir, "1.1.spool")))
	for range 2 {
		s := pool.New(64 << 20)
		defer s.Remove()
		want := randomBytes(1 << 20)
		commit(s, spool.Stdout, want, len(want))
		s.End()
		s.CloseWrite()
		require.Zero(t, s.Totals().Dropped[0])
		if target, err := os.Readlink(filepath.Join(dir, "1.1.spool")); err == nil && target == os.DevNull {
			s.Remove() // it holds nothing
			continue
		}
		check(t, s, want, 64<<20)
	}
}
