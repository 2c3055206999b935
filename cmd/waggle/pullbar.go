// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/stacklok/waggle/host/image"
)

// pullBar shows a pull: on a terminal as one bar over all layers, with the rate, and
// elsewhere in a few plain lines. What the store had already is no part of the bar, for
// the rate would be nonsense.
type pullBar struct {
	say   *progress
	lines func(image.Progress) // nil on a terminal

	shown *progressbar.ProgressBar
	blobs map[digest.Digest]image.Progress
}

func newPullBar(quiet bool) *pullBar {
	b := &pullBar{say: newProgress(os.Stderr, quiet), blobs: map[digest.Digest]image.Progress{}}
	if quiet || !term.IsTerminal(int(os.Stderr.Fd())) {
		b.lines = pullSteps(b.say.step)
	}
	return b
}

// report takes one report of the store, from one goroutine at a time.
func (b *pullBar) report(p image.Progress) {
	if b.lines != nil {
		b.lines(p)
		return
	}
	switch p.Phase {
	case image.PhasePull:
		if _, seen := b.blobs[p.Blob]; !seen && p.Done == p.Total {
			return // in the store already, or too small to be worth a bar
		}
		b.blobs[p.Blob] = p
		b.draw()
	default:
		b.clear()
		pullSteps(b.say.step)(p)
	}
}

func (b *pullBar) draw() {
	var done, total int64
	complete := 0
	for _, p := range b.blobs {
		done += p.Done
		total += max(p.Total, p.Done)
		if p.Done == p.Total {
			complete++
		}
	}
	if b.shown == nil {
		b.say.clear()
		b.shown = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(true),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true),
			progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
	}
	if total != b.shown.GetMax64() {
		b.shown.ChangeMax64(total)
	}
	b.shown.Describe(fmt.Sprintf("layers %d/%d", complete, len(b.blobs)))
	if done < total { // a bar that is full ends, and more layers may follow
		_ = b.shown.Set64(done) // a terminal that fails must not fail the pull
	}
}

func (b *pullBar) clear() {
	if b.shown != nil {
		_ = b.shown.Clear()
	}
}

func (b *pullBar) end() {
	b.clear()
	b.say.done()
}
