// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/stacklok/waggle/host/image"
)

// pullBar shows a pull: on a terminal a bar for each layer, with its rate, and elsewhere a
// few plain lines. What the store had already has no bar.
type pullBar struct {
	say   *progress
	lines func(image.Progress) // nil on a terminal

	shown *mpb.Progress // nil before the first layer
	blobs map[digest.Digest]*mpb.Bar
}

func newPullBar(quiet bool) *pullBar {
	b := &pullBar{say: newProgress(os.Stderr, quiet), blobs: map[digest.Digest]*mpb.Bar{}}
	if quiet || !term.IsTerminal(int(os.Stderr.Fd())) {
		b.lines = pullSteps(b.say.step)
	}
	return b
}

// report takes one report of the store, from one goroutine at a time.
func (b *pullBar) report(p image.Progress) {
	switch {
	case b.lines != nil:
		b.lines(p)
	case p.Phase == image.PhasePull:
		b.draw(p)
	case b.shown == nil:
		pullSteps(b.say.step)(p)
	case p.Phase == image.PhaseRetry:
		fmt.Fprintln(b.shown, p.Why) // above the bars
	}
}

// draw moves the bar of a blob. One whose size the source does not tell has no end until
// the pull has one.
func (b *pullBar) draw(p image.Progress) {
	bar := b.blobs[p.Blob]
	if bar == nil {
		if p.Done == p.Total {
			return // in the store already, or too small to be worth a bar
		}
		if b.shown == nil {
			b.say.clear()
			b.shown = newBars(os.Stderr)
		}
		bar = b.shown.AddBar(max(p.Total, 0),
			mpb.PrependDecorators(decor.Name(p.Blob.Encoded()[:12], decor.WC{C: decor.DextraSpace}),
				decor.Counters(decor.SizeB1024(0), "% .1f / % .1f", decor.WCSyncSpace)),
			mpb.AppendDecorators(decor.NewPercentage("%d", decor.WCSyncSpace),
				decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace)))
		b.blobs[p.Blob] = bar
	}
	bar.SetCurrent(p.Done)
}

// newBars draws on the terminal w. Its goroutines end with Wait.
func newBars(w io.Writer) *mpb.Progress {
	return mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh())
}

// end leaves the bars where they are, the last word above what follows.
func (b *pullBar) end() {
	for _, bar := range b.blobs {
		bar.Abort(false) // nothing to one that is full
	}
	if b.shown != nil {
		b.shown.Wait()
	}
	b.say.done()
}
