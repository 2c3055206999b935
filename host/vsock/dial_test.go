// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 20 * time.Second

// serve accepts one connection on a new socket and hands it to handle; the
// returned channel is closed when handle has returned.
func serve(t *testing.T, handle func(net.Conn)) (path string, done chan struct{}) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	done = make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		handle(c)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return path, done
}

func dial(t *testing.T, addr string) (net.Conn, error) {
	t.Helper()
	a, err := ParseAddr(addr)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return a.Dial(ctx)
}

// exchange checks that CloseWrite ends the request and leaves the answer open.
func exchange(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, err := io.WriteString(c, "question")
	require.NoError(t, err)
	require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "hello, question", string(answer))
}

func answer(c net.Conn) {
	q, _ := io.ReadAll(c)
	_, _ = fmt.Fprintf(c, "hello, %s", q)
}

func TestDialUnix(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, answer)
	c, err := dial(t, "unix://"+path)
	require.NoError(t, err)
	exchange(t, c)
}

func TestDialHybrid(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, func(c net.Conn) {
		line := make([]byte, len("CONNECT 1024\n"))
		_, _ = io.ReadFull(c, line)
		// The guest's first bytes come in the same segment as the reply.
		if string(line) == "CONNECT 1024\n" {
			_, _ = io.WriteString(c, "OK 1073741824\nhello, ")
		}
		_, _ = io.Copy(c, c)
	})
	c, err := dial(t, "hybrid://"+path+":1024")
	require.NoError(t, err)
	exchange(t, c)
}

func TestDialHybridRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ reply, want string }{
		"hang up":   {"", "nothing in the guest listens"},
		"cut short": {"OK 1", "nothing in the guest listens"},
		"not ok":    {"ERR 5\n", "is not OK"},
		"no port":   {"OK x\n", "names no port"},
		"http":      {strings.Repeat("x", 4096), "no line end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			closed := make(chan error, 1)
			path, done := serve(t, func(c net.Conn) {
				_, _ = io.ReadFull(c, make([]byte, len("CONNECT 7\n")))
				_, _ = io.WriteString(c, tc.reply)
				if len(tc.reply) < 5 {
					closed <- nil
					return
				}
				// The dialler hangs up: with a reset when it left bytes unread.
				_, err := c.Read(make([]byte, 1))
				closed <- err
			})
			_, err := dial(t, "hybrid://"+path+":7")
			require.ErrorContains(t, err, tc.want)
			require.ErrorContains(t, err, path)
			<-done
			err = <-closed
			require.NotErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// A VMM that never answers costs the caller its context and no more.
func TestDialHybridCancelled(t *testing.T) {
	t.Parallel()
	got := make(chan struct{})
	path, done := serve(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, len("CONNECT 7\n")))
		close(got)
		_, _ = c.Read(make([]byte, 1))
	})
	a, err := ParseAddr("hybrid://" + path + ":7")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-got
		cancel()
	}()
	_, err = a.Dial(ctx)
	require.ErrorIs(t, err, context.Canceled)
	<-done
}

func TestDialErrorsNameRemedy(t *testing.T) {
	t.Parallel()
	_, err := dial(t, "unix:///nonexistent/guestd.sock")
	require.ErrorContains(t, err, "dial guest at unix:///nonexistent/guestd.sock")
	require.ErrorContains(t, err, "is the VM running?")
	_, err = Addr{}.Dial(context.Background())
	require.ErrorContains(t, err, "address is empty")
	// No VM has this CID, and most test machines have no AF_VSOCK towards guests.
	_, err = dial(t, "vsock://4294967294:1")
	require.ErrorContains(t, err, "vsock://4294967294:1")
}

func FuzzHybridReply(f *testing.F) {
	for _, s := range []string{"OK 1\nrest", "OK \n", "OK 99999999999\n", "\n", "", strings.Repeat("a", 100)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		reply, err := readReply(r)
		read := len(b) - r.Len()
		require.LessOrEqual(t, read, maxReply)
		if err != nil {
			return
		}
		require.Equal(t, reply+"\n", string(b[:read]))
		if checkReply(reply) == nil {
			require.Regexp(t, `^OK [0-9]+$`, reply)
		}
	})
}
