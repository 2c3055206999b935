// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar counts bytes on a terminal, and says nothing elsewhere.
type bar struct {
	shown *progressbar.ProgressBar // nil says nothing
	once  sync.Once
}

func newBar(what string, quiet bool) *bar {
	if quiet || !term.IsTerminal(int(os.Stderr.Fd())) {
		return &bar{}
	}
	return &bar{shown: progressbar.NewOptions64(-1,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionClearOnFinish(),
	)}
}

// Write counts p.
func (b *bar) Write(p []byte) (int, error) {
	if b.shown != nil {
		_ = b.shown.Add(len(p)) // a terminal that fails must not fail the copy
	}
	return len(p), nil
}

// end takes the bar off the terminal. It may be called again.
func (b *bar) end() {
	b.once.Do(func() {
		if b.shown != nil {
			_ = b.shown.Finish()
		}
	})
}
