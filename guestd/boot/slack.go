// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"fmt"
	"log/slog"
	"os"
	"time"
)

// timerSlack is by how much the kernel may delay timers of guestd's, to meet
// others'. The Go runtime has a thread that sleeps 20 µs at a time as long as
// guestd works; each end of a sleep is an interrupt, and under emulation those
// took a third of the CPU: with this slack they are a tenth as many, and streams
// are half as fast again. What guestd itself waits for are milliseconds and more.
const timerSlack = 2 * time.Millisecond

// slacken gives timerSlack to guestd's threads. Those to come inherit it, but for
// the ones that start commands: see package spawn.
func slacken(log *slog.Logger) {
	threads, err := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if err == nil {
			err = writeSetting(setting{"/proc/" + t.Name() + "/timerslack_ns", fmt.Sprint(timerSlack.Nanoseconds())})
		}
	}
	if err != nil {
		log.Warn("timers are not slackened, which costs time only", slog.Any("err", err))
	}
}
