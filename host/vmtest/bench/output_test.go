// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	outputRounds = 7
	// readerOutput is below the limit of an exec: a reader that stands still loses
	// nothing by it, and what guestd keeps for it is all of the output.
	readerOutput = 32 << 20
	// smallWrites of smallSize bytes each.
	smallSize   = 1 << 10
	smallWrites = 8 << 10
)

// benchOutput measures what becomes of output: what the guest's kernel alone can
// do, and whom a reader that stands still delays.
func benchOutput(b *testing.B, e *environment) {
	helper := copyHelper(b, e.guest(), buildHelper(b))
	rate, ratio := series{}, series{}
	for i := range outputRounds + 1 {
		pipe := guestAlone(b, e.guest(), fmt.Sprintf("echo | %s source %d | cat >/dev/null", helper, streamSize), streamSize)
		small := guestAlone(b, e.guest(), fmt.Sprintf("dd if=/dev/zero bs=%d count=%d status=none", smallSize, smallWrites), smallSize*smallWrites)
		alone := readOutput(b, e.guest(), false)
		beside := readOutput(b, e.guest(), true)
		if i == 0 {
			continue
		}
		rate.add("pipe", pipe)
		rate.add("small", small)
		rate.add("alone", alone)
		rate.add("beside", beside)
		ratio.add("beside-share", beside/alone)
	}
	rate.report(b, "B/s")
	ratio.report(b, "ratio")
}

// guestAlone is the rate of a command by the guest's own clock.
func guestAlone(b *testing.B, client *guest.Client, command string, size int) float64 {
	b.Helper()
	exited, err := client.Run(b.Context(), guest.Exec{
		Start:  &guestv1.Start{ExecId: fmt.Sprintf("output-%d", execs.Add(1)), Command: &guestv1.Start_Shell{Shell: command}},
		Stderr: os.Stderr,
	})
	require.NoError(b, err)
	require.Zero(b, exited.GetExitCode())
	return float64(size) / exited.GetDuration().AsDuration().Seconds()
}

// readOutput measures a reader of a command's output, from its start to its end.
// With stalled, another one has come before it, and reads nothing until then.
func readOutput(b *testing.B, client *guest.Client, stalled bool) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), transferLimit)
	defer cancel()
	id := fmt.Sprintf("output-%d", execs.Add(1))
	// The command begins when both readers are there.
	start := &guestv1.Start{
		ExecId: id, StdinMode: guestv1.StdinMode_STDIN_MODE_PIPE,
		Command: &guestv1.Start_Shell{Shell: fmt.Sprintf("read go; head -c %d /dev/zero", readerOutput)},
	}
	still := &stillReader{reached: make(chan struct{}), resume: make(chan struct{})}
	started, begin := make(chan struct{}), &lineReader{send: make(chan struct{})}
	first := make(chan error, 1)
	var count countingWriter
	go func() {
		_, err := client.Run(ctx, guest.Exec{Start: start, Stdin: begin, Stdout: &count, Started: func(*guestv1.Started) { close(started) }})
		first <- err
	}()
	select {
	case <-started:
	case err := <-first:
		require.NoError(b, err, "ended before it had started")
	}
	other := make(chan error, 1)
	if stalled {
		attached := make(chan struct{})
		go func() {
			_, err := client.Run(ctx, guest.Exec{
				Attach: &guestv1.Attach{ExecId: id}, Stdout: still, Started: func(*guestv1.Started) { close(attached) },
			})
			other <- err
		}()
		<-attached
	}
	began := time.Now()
	close(begin.send)
	require.NoError(b, <-first)
	took := time.Since(began)
	require.EqualValues(b, readerOutput, count)
	if stalled {
		<-still.reached // it did stand still, at its first byte
		require.Zero(b, still.read)
		close(still.resume)
		require.NoError(b, <-other)
		require.EqualValues(b, readerOutput, still.read, "what it had not read was kept for it")
	}
	return readerOutput / took.Seconds()
}

// countingWriter counts.
type countingWriter int

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}

// stillReader stands still at its first byte, until resume is closed.
type stillReader struct {
	reached, resume chan struct{}
	read            int
}

func (r *stillReader) Write(p []byte) (int, error) {
	if r.read == 0 {
		close(r.reached)
		<-r.resume
	}
	r.read += len(p)
	return len(p), nil
}

// lineReader is one line, once send is closed.
type lineReader struct {
	send chan struct{}
	done bool
}

func (r *lineReader) Read(p []byte) (int, error) {
	<-r.send
	if r.done {
		return 0, io.EOF
	}
	r.done = true
	return copy(p, "\n"), nil
}
