// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// hangupPause is how often it is looked whether anybody still reads.
const hangupPause = 250 * time.Millisecond

// untilHangup calls gone when the other end of a pipe, a socket or a terminal was
// closed, and returns then or when ctx ends.
func untilHangup(ctx context.Context, f *os.File, gone func()) {
	tick := time.NewTicker(hangupPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Neither is asked for: both are always told (poll(2)).
		fds := []unix.PollFd{{Fd: int32(f.Fd())}}
		if n, err := unix.Poll(fds, 0); err == nil && n > 0 && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
			gone()
			return
		}
	}
}
