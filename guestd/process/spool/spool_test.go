// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spool_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/guestd/process/spool"
)

// result is what one reader saw, gaps filled with '?'.
type result struct {
	data    [2][]byte
	dropped [2]uint64
	order   []byte // one letter for each change of streams
	lastSeq uint64
}

func readAll(ctx context.Context, r *spool.Reader) (*result, error) {
	var res result
	for {
		p, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return &res, nil
		}
		if err != nil {
			return nil, err
		}
		got := res.data[p.Stream]
		got = append(got, bytes.Repeat([]byte{'?'}, int(p.Dropped))...)
		if uint64(len(got)) != p.Offset {
			return nil, fmt.Errorf("offset %d after %d bytes", p.Offset, len(got))
		}
		if p.Seq < res.lastSeq {
			return nil, fmt.Errorf("sequence %d after %d", p.Seq, res.lastSeq)
		}
		res.lastSeq = p.Seq
		res.data[p.Stream] = append(got, p.Data...)
		res.dropped[p.Stream] += p.Dropped
		if letter := "oe"[p.Stream]; len(res.order) == 0 || res.order[len(res.order)-1] != letter {
			res.order = append(res.order, letter)
		}
	}
}

func newPool(t testing.TB, max int64) (*spool.Pool, string) {
	dir := t.TempDir()
	p, err := spool.NewPool(dir, max, nil)
	require.NoError(t, err)
	return p, dir
}

func TestOrderAcrossStreams(t *testing.T) {
	t.Parallel()
	pool, dir := newPool(t, 1<<30)
	s := pool.New(1 << 20)
	for _, w := range []struct {
		to   spool.Stream
		text string
	}{{0, "a"}, {0, "b"}, {1, "X"}, {0, "c"}, {1, "Y"}, {1, "Z"}} {
		s.Write(w.to, []byte(w.text))
	}
	s.End()
	r := s.Reader(0, 0)
	defer r.Close()
	got, err := readAll(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, "abc", string(got.data[0]))
	require.Equal(t, "XYZ", string(got.data[1]))
	require.Equal(t, "oeoe", string(got.order))

	s.Remove()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Zero(t, pool.Used())
}

func TestCursor(t *testing.T) {
	t.Parallel()
	pool, _ := newPool(t, 1<<30)
	s := pool.New(1 << 20)
	defer s.Remove()
	s.Write(spool.Stdout, []byte("0123456789"))
	s.Write(spool.Stderr, []byte("abc"))
	s.End()
	r := s.Reader(7, 3)
	defer r.Close()
	p, err := r.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, "789", string(p.Data))
	require.EqualValues(t, 7, p.Offset)
	require.Zero(t, p.Dropped)
	_, err = r.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
}

// TestLimit writes more than the limit in pieces of all sizes and compares a
// late reader with what must be left.
func TestLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []uint64{1, 2, 7, 1000, 4096, 100_001} {
		for _, total := range []int{0, 1, 6, 7, 8, 999, 5000, 300_000} {
			t.Run(fmt.Sprintf("%d of %d", limit, total), func(t *testing.T) {
				t.Parallel()
				pool, _ := newPool(t, 1<<30)
				s := pool.New(limit)
				defer s.Remove()
				want := randomBytes(total)
				rnd := rand.New(rand.NewPCG(1, limit))
				for at := 0; at < total; {
					n := min(1+rnd.IntN(1+rnd.IntN(100_000)), total-at)
					s.Write(spool.Stdout, want[at:at+n])
					at += n
				}
				s.End()
				if lost := total - int(limit); lost > 0 {
					for i := range lost {
						want[int(limit/2)+i] = '?'
					}
					require.EqualValues(t, lost, s.Totals().Dropped[0])
				} else {
					require.Zero(t, s.Totals().Dropped[0])
				}
				r := s.Reader(0, 0)
				defer r.Close()
				got, err := readAll(t.Context(), r)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got.data[0]))
			})
		}
	}
}

// TestReadersWhileWriting has followers of different speed look on. Each must
// see right bytes at right offsets; the stalled one learns what it missed.
func TestReadersWhileWriting(t *testing.T) {
	t.Parallel()
	pool, _ := newPool(t, 1<<30)
	const total, limit = 8 << 20, 256 << 10
	s := pool.New(limit)
	defer s.Remove()
	want := randomBytes(total)

	stalled := s.Reader(0, 0)
	defer stalled.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			r := s.Reader(0, 0)
			defer r.Close()
			got, err := readAll(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			if len(got.data[0]) != total || !same(want, got.data[0]) {
				t.Errorf("a follower saw wrong bytes (%d of %d)", len(got.data[0]), total)
			}
		})
	}
	for at := 0; at < total; at += 40_000 {
		s.Write(spool.Stdout, want[at:min(at+40_000, total)])
	}
	s.End()
	wg.Wait()
	got, err := readAll(t.Context(), stalled)
	require.NoError(t, err)
	require.EqualValues(t, total-limit, got.dropped[0])
	require.True(t, same(want, got.data[0]))
}

// same compares but for the bytes that were dropped.
func same(want, got []byte) bool {
	for i, b := range got {
		if b != '?' && b != want[i] {
			return false
		}
	}
	return true
}

// randomBytes returns bytes that are never '?'.
func randomBytes(n int) []byte {
	rnd := rand.New(rand.NewPCG(7, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rnd.IntN(26))
	}
	return b
}

func TestBudget(t *testing.T) {
	t.Parallel()
	pool, _ := newPool(t, 1<<20)
	first := pool.New(64 << 20)
	data := randomBytes(3 << 20)
	first.Write(spool.Stdout, data)
	require.EqualValues(t, 2<<20+960<<10, first.Totals().Dropped[0], "only 64 KiB were sure")

	second := pool.New(64 << 20)
	for at := 0; at < len(data); at += 64 << 10 {
		second.Write(spool.Stdout, data[at:at+64<<10])
	}
	second.End()
	require.LessOrEqual(t, pool.Used(), int64(1<<20+128<<10))
	r := second.Reader(0, 0)
	defer r.Close()
	got, err := readAll(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, got.data[0], len(data))
	require.True(t, same(data, got.data[0]))
	require.Equal(t, data[len(data)-1000:], got.data[0][len(data)-1000:])

	first.Remove()
	second.Remove()
	require.Zero(t, pool.Used())
}

func TestBudgetIsFreed(t *testing.T) {
	t.Parallel()
	var old []*spool.Spool
	pool, err := spool.NewPool(t.TempDir(), 8<<20, func() bool {
		if len(old) == 0 {
			return false
		}
		old[0].Remove()
		old = old[1:]
		return true
	})
	require.NoError(t, err)
	data := randomBytes(2 << 20)
	for range 20 {
		s := pool.New(64 << 20)
		for at := 0; at < len(data); at += 128 << 10 {
			s.Write(spool.Stdout, data[at:at+128<<10])
		}
		s.CloseWrite()
		require.Zero(t, s.Totals().Dropped[0])
		old = append(old, s)
	}
	require.LessOrEqual(t, pool.Used(), int64(8<<20))
	require.Len(t, old, 4)
}

func TestManyChangesStayBounded(t *testing.T) {
	t.Parallel()
	pool, _ := newPool(t, 1<<30)
	s := pool.New(1 << 20)
	defer s.Remove()
	for range 50_000 {
		s.Write(spool.Stdout, []byte("o"))
		s.Write(spool.Stderr, []byte("e"))
	}
	s.End()
	var got [2]int
	r := s.Reader(0, 0)
	defer r.Close()
	for {
		p, err := r.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got[p.Stream] += len(p.Data)
	}
	require.Equal(t, [2]int{50_000, 50_000}, got)
}

func TestUnwritableDirectory(t *testing.T) {
	t.Parallel()
	pool, dir := newPool(t, 1<<30)
	require.NoError(t, os.RemoveAll(dir))
	s := pool.New(1 << 20)
	s.Write(spool.Stdout, []byte("lost"))
	s.End()
	require.Equal(t, spool.Totals{Written: [2]uint64{4, 0}, Dropped: [2]uint64{4, 0}}, s.Totals())
	r := s.Reader(0, 0)
	defer r.Close()
	_, err := r.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
	s.Remove()
	require.NoError(t, os.MkdirAll(dir, 0o700))
}

func TestOldSpoolsAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(dir+"/3.1.spool", nil, 0o600))
	require.NoError(t, os.WriteFile(dir+"/other", nil, 0o600))
	_, err := spool.NewPool(dir, 1, nil)
	require.NoError(t, err)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func BenchmarkFollow(b *testing.B) {
	pool, _ := newPool(b, 1<<30)
	s := pool.New(64 << 20)
	defer s.Remove()
	piece := make([]byte, 128<<10)
	b.SetBytes(int64(len(piece)))
	done := make(chan error, 1)
	go func() {
		r := s.Reader(0, 0)
		defer r.Close()
		for {
			if _, err := r.Next(b.Context()); err != nil {
				done <- err
				return
			}
		}
	}()
	for b.Loop() {
		s.Write(spool.Stdout, piece)
	}
	s.End()
	require.ErrorIs(b, <-done, io.EOF)
}
