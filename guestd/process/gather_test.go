// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// messages runs a command and counts the messages that bring its output.
func (f *fixture) messages(t testing.TB, args ...string) (messages, bytes int) {
	t.Helper()
	stream, err := f.open(t.Context(), startRequest(argv(args...)))
	require.NoError(t, err)
	for {
		msg, err := stream.Receive()
		require.NoError(t, err)
		if n := len(msg.GetStdout().GetData()); n > 0 {
			messages++
			bytes += n
		}
		if msg.GetExited() != nil {
			break
		}
	}
	require.NoError(t, stream.CloseRequest())
	require.NoError(t, stream.CloseResponse())
	return messages, bytes
}

// TestSmallWrites: many writes travel in few messages.
func TestSmallWrites(t *testing.T) {
	t.Parallel()
	const count = 20000
	messages, bytes := newFixture(t).messages(t, "sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do echo line; i=$((i+1)); done", count))
	require.Equal(t, len("line\n")*count, bytes)
	t.Logf("%d messages", messages)
	require.Less(t, messages, count/200)
}

func BenchmarkSmallWrites(b *testing.B) {
	f := newFixture(b)
	const size, count = 100, 50000
	b.SetBytes(size * count)
	for b.Loop() {
		_, bytes := f.messages(b, "dd", "if=/dev/zero", "bs="+strconv.Itoa(size), "count="+strconv.Itoa(count), "status=none")
		require.Equal(b, size*count, bytes)
	}
}
