// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func pipeSource(t *testing.T) (*source, *os.File) {
	t.Helper()
	var fds [2]int
	require.NoError(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	w := os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { _ = w.Close() })
	s, err := newSource(fds[0])
	require.NoError(t, err)
	t.Cleanup(s.close)
	return s, w
}

type found struct {
	data string
	err  error
}

// reading reads once, beside the test.
func reading(s *source) <-chan found {
	c := make(chan found, 1)
	go func() {
		buf := make([]byte, 64)
		n, err := s.read(buf)
		c <- found{string(buf[:max(n, 0)]), err}
	}()
	return c
}

func await(t *testing.T, c <-chan found) found {
	t.Helper()
	select {
	case f := <-c:
		return f
	case <-time.After(10 * time.Second):
		require.FailNow(t, "read does not return")
		return found{}
	}
}

// TestSource waits for each event anew, many times, because each is asked for.
func TestSource(t *testing.T) {
	t.Parallel()
	s, w := pipeSource(t)
	for range 200 {
		c := reading(s)
		_, err := w.WriteString("some")
		require.NoError(t, err)
		require.Equal(t, found{data: "some"}, await(t, c))
	}
	c := reading(s)
	require.NoError(t, w.Close())
	require.Equal(t, found{err: io.EOF}, await(t, c))
}

// TestSourceInterrupt holds that a writer who never stops does not outdo the
// interrupt, and that nothing is lost by it.
func TestSourceInterrupt(t *testing.T) {
	t.Parallel()
	s, w := pipeSource(t)
	c := reading(s)
	s.interrupt()
	require.ErrorIs(t, await(t, c).err, os.ErrDeadlineExceeded)
	_, err := w.WriteString("kept")
	require.NoError(t, err)
	require.ErrorIs(t, await(t, reading(s)).err, os.ErrDeadlineExceeded)
	s.resume()
	require.Equal(t, found{data: "kept"}, await(t, reading(s)))
	_, err = s.readNow(make([]byte, 8))
	require.ErrorIs(t, err, unix.EAGAIN)
}

func TestSourceClose(t *testing.T) {
	t.Parallel()
	s, _ := pipeSource(t)
	c := reading(s)
	s.close()
	require.Error(t, await(t, c).err)
	require.ErrorIs(t, await(t, reading(s)).err, os.ErrClosed)
	s.close()
	_, err := newSource(-1)
	require.Error(t, err)
}
