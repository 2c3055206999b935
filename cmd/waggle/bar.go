// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// bar counts bytes on a terminal, and says nothing elsewhere.
type bar struct {
	bars  *mpb.Progress
	shown *mpb.Bar // nil says nothing
	once  sync.Once
}

func newBar(what string, quiet bool) *bar {
	if quiet || !term.IsTerminal(int(os.Stderr.Fd())) {
		return &bar{}
	}
	bars := newBars(os.Stderr)
	return &bar{bars: bars, shown: bars.New(0, mpb.SpinnerStyle().PositionLeft(),
		mpb.BarWidth(1),
		mpb.AppendDecorators(decor.Name(what), decor.Current(decor.SizeB1024(0), " % .1f"),
			decor.AverageSpeed(decor.SizeB1024(0), " (% .1f)")))}
}

// Write counts p.
func (b *bar) Write(p []byte) (int, error) {
	if b.shown != nil {
		b.shown.IncrBy(len(p))
	}
	return len(p), nil
}

// end takes the bar off the terminal. It may be called again.
func (b *bar) end() {
	b.once.Do(func() {
		if b.shown != nil {
			b.shown.Abort(true)
			b.bars.Wait()
		}
	})
}
