// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vhostvsock

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const echoPort = 1024

func listen(t testing.TB) (*net.UnixListener, func() *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	return l, func() *net.UnixConn {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		_ = c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

func echo(c *guestConn) {
	_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	c.CloseWrite()
	c.Close()
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// started returns a running guest that serves accept, and a dialler to echoPort.
func started(t testing.TB, accept func(*guestConn), host map[uint32]func(net.Conn)) (*stack, func() *net.UnixConn) {
	t.Helper()
	l, dial := listen(t)
	g := newGuest(t, Config{Listeners: map[uint32]*net.UnixListener{echoPort: l}, Accept: host})
	g.start()
	return newStack(g, map[uint32]func(*guestConn){echoPort: accept}), dial
}

func TestEchoParallelHalfClose(t *testing.T) {
	t.Parallel()
	s, dial := started(t, echo, nil)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			c := dial()
			data := noise(uint64(i), 300_000+i*17_001)
			var w sync.WaitGroup
			w.Go(func() {
				_, err := c.Write(data)
				if err == nil {
					err = c.CloseWrite()
				}
				if err != nil {
					t.Error(err)
				}
			})
			got, err := io.ReadAll(c)
			w.Wait()
			if err != nil || !bytes.Equal(data, got) {
				t.Errorf("stream %d: %d of %d bytes, equal %v: %v", i, len(got), len(data), bytes.Equal(data, got), err)
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { return s.open() == 0 }, patience, time.Millisecond)
}

func TestGuestDials(t *testing.T) {
	t.Parallel()
	s, _ := started(t, echo, map[uint32]func(net.Conn){
		1025: func(c net.Conn) {
			defer c.Close()
			_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		},
	})
	_, err := s.dial(1026, 9)
	require.ErrorIs(t, err, syscall.ECONNRESET)
	for i := range uint32(20) {
		c, err := s.dial(1025, 5000+i)
		require.NoError(t, err)
		data := noise(uint64(i), 500_000)
		go func() {
			_, _ = c.Write(data)
			c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))
		c.Close()
	}
	require.Zero(t, s.open())
}

func TestRefusedPortIsEOF(t *testing.T) {
	t.Parallel()
	l, dial := listen(t)
	g := newGuest(t, Config{Listeners: map[uint32]*net.UnixListener{7: l}})
	g.start()
	newStack(g, nil)
	_, err := dial().Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestConnectionBeforeBootIsEOF(t *testing.T) {
	t.Parallel()
	l, dial := listen(t)
	g := newGuest(t, Config{Listeners: map[uint32]*net.UnixListener{7: l}})
	g.negotiate()
	_, err := dial().Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestAbruptClose(t *testing.T) {
	t.Parallel()
	s, dial := started(t, echo, nil)
	for i := range 200 {
		c := dial()
		switch i % 3 {
		case 1:
			_, err := c.Write(noise(1, 70_000))
			require.NoError(t, err)
		case 2:
			_, _ = c.Write(noise(2, 5000))
			_, err := c.Read(make([]byte, 10))
			require.NoError(t, err)
		}
		require.NoError(t, c.Close())
	}
	require.Eventually(t, func() bool { return s.open() == 0 }, patience, time.Millisecond)
}

// What the host wrote before a plain close still arrives.
func TestCloseDeliversData(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	_, dial := started(t, func(c *guestConn) {
		b, _ := io.ReadAll(c)
		c.Close()
		got <- b
	}, nil)
	c := dial()
	data := noise(3, 100_000)
	_, err := c.Write(data)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.True(t, bytes.Equal(data, waitFor(t, got)))
}

// A full close after a half close frees a guest that still writes.
func TestFullCloseAfterHalfClose(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	_, dial := started(t, func(c *guestConn) {
		_, _ = io.ReadAll(c)
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				result <- err
				c.Close()
				return
			}
		}
	}, nil)
	c := dial()
	require.NoError(t, c.CloseWrite())
	_, err := c.Read(make([]byte, 100))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.ErrorIs(t, waitFor(t, result), syscall.EPIPE)
}

// A guest that reads nothing and a host that reads nothing delay no other stream.
func TestStalledReadersDelayNobody(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s, dial := started(t, nil, nil)
	s.mu.Lock()
	s.accept = map[uint32]func(*guestConn){echoPort: func(c *guestConn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		switch first[0] {
		case 's': // reads nothing until released, then counts
			<-release
		case 'w': // writes without an end to a host that does not read
			for {
				if _, err := c.Write(make([]byte, 32<<10)); err != nil {
					c.Close()
					return
				}
			}
		}
		echo(c)
	}}
	s.mu.Unlock()

	stalled, writer := dial(), dial()
	_, err := writer.Write([]byte("w"))
	require.NoError(t, err)
	data := noise(9, 4<<20)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := stalled.Write(append([]byte("s"), data...)); err != nil {
			t.Error(err)
		}
		_ = stalled.CloseWrite()
	})
	for range 20 {
		c := dial()
		ask := append([]byte("e"), noise(4, 10_000)...)
		_, err := c.Write(ask)
		require.NoError(t, err)
		require.NoError(t, c.CloseWrite())
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.True(t, bytes.Equal(ask[1:], got))
	}
	close(release)
	got, err := io.ReadAll(stalled)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	wg.Wait()
	require.NoError(t, writer.Close())
	require.Eventually(t, func() bool { return s.open() == 0 }, patience, time.Millisecond)
}

// The guest's buffer is never overrun, however small it is.
func TestRespectsGuestCredit(t *testing.T) {
	t.Parallel()
	s, dial := started(t, nil, nil)
	over := make(chan int, 1)
	s.mu.Lock()
	s.window = 1000
	s.accept = map[uint32]func(*guestConn){echoPort: func(c *guestConn) {
		most, b := 0, make([]byte, 300)
		for {
			s.mu.Lock()
			most = max(most, len(c.in))
			s.mu.Unlock()
			if _, err := c.Read(b); errors.Is(err, io.EOF) {
				break
			}
		}
		over <- most
		c.Close()
	}}
	s.mu.Unlock()
	c := dial()
	_, err := c.Write(noise(5, 200_000))
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	require.LessOrEqual(t, waitFor(t, over), 1000)
}
