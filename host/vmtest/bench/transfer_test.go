// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// pieceSize is the most that the host hands over at once, in bytes.
	pieceSize = 512 << 10
	// transferLimit turns a stream that stalls into a failure.
	transferLimit = 2 * time.Minute
)

// transfer is streamSize bytes in one direction. The clock starts when the
// guest's end is there and stops when the receiver has all; so the start and the
// end of a process are not in it.
type transfer struct {
	way      direction
	began    time.Time
	ended    time.Time
	sent     int
	received int
}

// next says how many bytes to send now, out of room, and 0 at the end.
func (t *transfer) next(room int) int {
	if t.began.IsZero() {
		t.began = time.Now()
	}
	total := streamSize
	if t.way == toHost {
		total = 1 // the word to begin
	}
	n := min(room, total-t.sent)
	t.sent += n
	return n
}

// take counts n received bytes and says whether they were the last.
func (t *transfer) take(n int) bool {
	t.received += n
	total := streamSize
	if t.way == toGuest {
		total = 2 // there; done
	}
	if t.received >= total {
		t.ended = time.Now()
	}
	return !t.ended.IsZero()
}

func (t *transfer) rate() float64 { return streamSize / t.ended.Sub(t.began).Seconds() }

// overConn moves the bytes over a plain stream.
func (t *transfer) overConn(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(transferLimit)); err != nil {
		return err
	}
	ask := binary.LittleEndian.AppendUint64([]byte{'s'}, streamSize)
	if t.way == toHost {
		ask[0] = 'o'
	}
	if _, err := conn.Write(ask); err != nil {
		return fmt.Errorf("ask for a stream: %w", err)
	}
	buf := make([]byte, pieceSize)
	send := func() error {
		for n := t.next(len(buf)); n > 0; n = t.next(len(buf)) {
			if _, err := conn.Write(buf[:n]); err != nil {
				return fmt.Errorf("send after %d bytes: %w", t.sent, err)
			}
		}
		return nil
	}
	if t.way == toHost {
		if err := send(); err != nil {
			return err
		}
	}
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("receive after %d bytes: %w", t.received, err)
		}
		first := t.received == 0
		if t.take(n) {
			return nil
		}
		if t.way == toGuest && first {
			if err := send(); err != nil {
				return err
			}
		}
	}
}

// overStdio moves the bytes over the standard streams of a command, as an
// io.Reader and an io.Writer of guest.Exec.
type overStdio struct {
	*transfer
	there chan struct{} // closed when the guest's end is there
	done  chan struct{} // closed when the receiver has all
}

func newOverStdio(way direction) *overStdio {
	s := &overStdio{transfer: &transfer{way: way}, there: make(chan struct{}), done: make(chan struct{})}
	if way == toHost {
		close(s.there) // its source waits for our word
	}
	return s
}

func (s *overStdio) Read(p []byte) (int, error) {
	<-s.there
	if n := s.next(min(len(p), pieceSize)); n > 0 {
		clear(p[:n])
		return n, nil
	}
	<-s.done
	return 0, io.EOF
}

func (s *overStdio) Write(p []byte) (int, error) {
	if s.way == toGuest && s.received == 0 {
		close(s.there)
	}
	if s.ended.IsZero() && s.take(len(p)) {
		close(s.done)
	}
	return len(p), nil
}

// execs numbers the commands of all machines.
var execs atomic.Int64

// throughVsock measures a plain stream.
func (m *machine) throughVsock(b *testing.B, way direction) float64 {
	b.Helper()
	t := &transfer{way: way}
	require.NoError(b, t.overConn(m.plain))
	return t.rate()
}

// throughGuestd measures the standard streams of a command.
func throughGuestd(b *testing.B, client *guest.Client, helper string, way direction) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), transferLimit)
	defer cancel()
	s := newOverStdio(way)
	exited, err := client.Run(ctx, guest.Exec{
		Start: &guestv1.Start{
			ExecId:    fmt.Sprintf("stream-%d", execs.Add(1)),
			Command:   &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{helper, string(way), fmt.Sprint(streamSize)}}},
			StdinMode: guestv1.StdinMode_STDIN_MODE_PIPE,
		},
		Stdin: s, Stdout: s, Stderr: os.Stderr,
	})
	require.NoError(b, err)
	require.Nil(b, exited.GetSpawnFailure())
	require.Zero(b, exited.GetExitCode())
	require.Zero(b, exited.GetStdoutDroppedBytes())
	return s.rate()
}

// buildHelper builds testdata/stream.
func buildHelper(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "stream")
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./testdata/stream")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := build.CombinedOutput()
	require.NoError(b, err, "%s", out)
	return path
}

// copyHelper puts it into the guest and returns its path there.
func copyHelper(b *testing.B, client *guest.Client, path string) string {
	b.Helper()
	file, err := os.Open(path)
	require.NoError(b, err)
	defer file.Close()
	const inGuest = "/home/sandbox/stream"
	_, err = client.WriteFile(b.Context(), &guestv1.WriteOpen{Path: inGuest, Mode: new(uint32(0o755))}, file)
	require.NoError(b, err)
	return inGuest
}
