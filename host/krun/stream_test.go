// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// limit is far above what anything here takes.
const limit = 20 * time.Second

// socketPair is a connected pair of Unix sockets.
func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(shortDir(t), "s")})
	require.NoError(t, err)
	defer l.Close()
	a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	require.NoError(t, err)
	b, err = l.AcceptUnix()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
	})
	return a, b
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wk")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// carried is a stream through carry: client and guest are the outer ends.
func carried(t *testing.T) (client, guest *net.UnixConn, ended <-chan error, cut context.CancelFunc) {
	t.Helper()
	client, c := socketPair(t)
	guest, g := socketPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- carry(ctx, c, g) }()
	t.Cleanup(cancel)
	deadline := time.Now().Add(limit)
	require.NoError(t, client.SetDeadline(deadline))
	require.NoError(t, guest.SetDeadline(deadline))
	return client, guest, end, cancel
}

func TestCarry(t *testing.T) {
	t.Parallel()
	t.Run("both ways", func(t *testing.T) {
		t.Parallel()
		client, guest, ended, _ := carried(t)
		data := make([]byte, 5<<20)
		_, _ = rand.Read(data)
		for _, way := range [][2]*net.UnixConn{{client, guest}, {guest, client}} {
			go func() { _, _ = way[0].Write(data) }()
			got := make([]byte, len(data))
			_, err := io.ReadFull(way[1], got)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
		}
		require.NoError(t, client.Close())
		require.NoError(t, <-ended)
	})
	t.Run("the guest half-closes", func(t *testing.T) {
		t.Parallel()
		client, guest, ended, _ := carried(t)
		_, err := io.WriteString(guest, "last words")
		require.NoError(t, err)
		require.NoError(t, guest.CloseWrite())
		got, err := io.ReadAll(client)
		require.NoError(t, err)
		require.Equal(t, "last words", string(got))
		_, err = io.WriteString(client, "still heard")
		require.NoError(t, err)
		heard := make([]byte, 11)
		_, err = io.ReadFull(guest, heard)
		require.NoError(t, err)
		require.NoError(t, client.Close())
		require.NoError(t, <-ended)
	})
	t.Run("the client half-closes", func(t *testing.T) {
		t.Parallel()
		client, guest, ended, _ := carried(t)
		_, err := io.WriteString(client, "bye")
		require.NoError(t, err)
		require.NoError(t, client.CloseWrite())
		require.NoError(t, <-ended)
		got, err := io.ReadAll(guest)
		require.NoError(t, err)
		require.Equal(t, "bye", string(got))
		_, err = io.WriteString(guest, "anybody?")
		require.Error(t, err, "libkrun must see a close, never half of one")
	})
	t.Run("the machine ends", func(t *testing.T) {
		t.Parallel()
		client, _, ended, cut := carried(t)
		cut()
		require.NoError(t, <-ended)
		_, err := client.Read(make([]byte, 1))
		require.Error(t, err)
	})
}

// TestQueue: a reader that does nothing stops nobody until it is maxQueued behind,
// and then not for longer than the patience.
func TestQueue(t *testing.T) {
	t.Parallel()
	q := newQueue()
	q.patience = 100 * time.Millisecond
	r, w := io.Pipe()
	filled := make(chan error, 1)
	go func() {
		filled <- q.fill(r)
		_ = r.CloseWithError(errSlowReader)
	}()
	n := 0
	for block := make([]byte, chunk); ; n += len(block) {
		if _, err := w.Write(block); err != nil {
			break
		}
	}
	require.ErrorIs(t, <-filled, errSlowReader)
	require.GreaterOrEqual(t, n, maxQueued)
	require.Less(t, n, maxQueued+2*chunk)

	// Whoever reads gets all of it, then the end.
	var got bytes.Buffer
	require.NoError(t, q.empty(&got))
	require.Equal(t, maxQueued, got.Len())

	// A reader that goes lets the writer run on.
	q = newQueue()
	r, w = io.Pipe()
	go func() { filled <- q.fill(r) }()
	broken := errors.New("broken")
	done := make(chan error, 1)
	go func() { done <- q.empty(failing{broken}) }()
	for range 2 * maxQueued / chunk {
		_, err := w.Write(make([]byte, chunk))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.ErrorIs(t, <-done, broken)
	require.NoError(t, <-filled)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestLinger: what the host closes stays open until the guest closes too.
func TestLinger(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "r")})
	require.NoError(t, err)
	closed := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		acceptReady(ctx, l, func(conn net.Conn) {
			_, err := io.WriteString(conn, "welcome")
			if err == nil && conn.Close() == nil && conn.Close() == nil {
				closed <- struct{}{}
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("read of a closed stream: %v", err)
			}
		})
	}()
	dial := func() *net.UnixConn {
		conn, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	guest := dial()
	select {
	case <-closed:
	case <-time.After(limit):
		require.FailNow(t, "not taken")
	}
	got := make([]byte, 7)
	_, err = io.ReadFull(guest, got)
	require.NoError(t, err)
	require.NoError(t, guest.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	_, err = guest.Read(got)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "closed while the guest was still there")
	began := time.Now()
	require.NoError(t, guest.SetReadDeadline(time.Now().Add(limit)))
	_, err = guest.Read(got)
	require.ErrorIs(t, err, io.EOF)
	require.Greater(t, time.Since(began), lingerLimit/2)

	// A guest cannot have more than its share, and closing gives it back.
	var all []*net.UnixConn
	require.Eventually(t, func() bool { // the slot of the first one may still be on its way back
		conn := dial()
		_ = conn.SetReadDeadline(time.Now().Add(limit))
		if _, err := io.ReadFull(conn, got); err == nil {
			all = append(all, conn)
		}
		return len(all) == maxReady
	}, limit, time.Millisecond)
	over := dial()
	require.NoError(t, over.SetReadDeadline(time.Now().Add(limit)))
	_, err = over.Read(got)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, all[0].Close())
	require.Eventually(t, func() bool {
		conn := dial()
		_ = conn.SetReadDeadline(time.Now().Add(limit))
		_, err := io.ReadFull(conn, got)
		return err == nil
	}, limit, 10*time.Millisecond)

	require.NoError(t, l.Close())
	cancel()
	select {
	case <-done: // nobody lingers when the machine has ended
	case <-time.After(lingerLimit / 2):
		require.FailNow(t, "acceptReady still waits")
	}
}

// TestCarryGuest: who comes before the VMM has a socket is sent away.
func TestCarryGuest(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "g")})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		dial := func(context.Context) (net.Conn, error) { return nil, os.ErrNotExist }
		carryGuest(t.Context(), l, dial, slog.New(slog.DiscardHandler))
	}()
	conn, err := net.Dial("unix", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(limit)))
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, l.Close())
	<-done
}
