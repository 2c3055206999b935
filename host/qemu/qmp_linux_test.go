// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestQMPPause: only a stop for want of space is a pause. The events are as QEMU
// 7.2 writes them.
func TestQMPPause(t *testing.T) {
	t.Parallel()
	const (
		ioError = `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_IO_ERROR", "data": ` +
			`{"device": "", "nospace": %s, "node-name": "disk1", "reason": "x", "operation": "write", "action": "%s"}}` + "\n"
		stop   = `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}` + "\n"
		resume = `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}` + "\n"
	)
	ours, theirs := net.Pipe()
	q := newQMP(ours)
	var heard []bool
	q.paused = func(p bool) { heard = append(heard, p) }
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		q.watch()
	}()
	for _, event := range []string{
		fmt.Sprintf(ioError, "false", "report"), stop, resume,
		fmt.Sprintf(ioError, "true", "stop"), stop,
		fmt.Sprintf(ioError, "true", "stop"), // a second write that was under way
	} {
		_, err := io.WriteString(theirs, event)
		require.NoError(t, err)
	}
	sent := make(chan error, 1)
	go func() { sent <- q.resume() }()
	line, err := bufio.NewReader(theirs).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, <-sent)
	require.JSONEq(t, `{"execute": "cont"}`, line)
	_, err = io.WriteString(theirs, `{"return": {}}`+"\n"+resume)
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	<-watched
	require.NoError(t, ours.Close())
	require.Equal(t, []bool{false, true, true, false}, heard)
}
