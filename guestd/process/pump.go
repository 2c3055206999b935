// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"errors"
	"os"
	"time"

	"github.com/stacklok/waggle/guestd/process/spool"
)

const (
	// smallRead is enough for most, in bytes: see pump.spool.
	smallRead = 8 << 10
	// A process that writes little at a time would wake the pump, the readers and
	// the host for each write. So after burst reads in a row that hardly had to
	// wait, the pump lets the pipe fill for a pause before the next read, unless
	// the last one left more there. The first pieces of a process that has been quiet,
	// an echo on a terminal for example, are never held back, and none for longer
	// than a pause.
	burst = 4
	quiet = 5 * time.Millisecond
	pause = 2 * time.Millisecond
)

// pump moves one stream into the spool. run has one caller, which is what the
// other methods talk to.
type pump struct {
	from  *source
	out   *spool.Spool
	to    spool.Stream
	small []byte        // nil once the output is large
	flush chan struct{} // closed when what was in the pipe at flushNow is spooled
	done  chan struct{} // closed when run has returned
}

func newPump(from *source, out *spool.Spool, to spool.Stream) *pump {
	return &pump{from: from, out: out, to: to, flush: make(chan struct{}), done: make(chan struct{})}
}

// run reads until the end of file, or until stopNow.
func (p *pump) run() {
	defer close(p.done)
	p.small = make([]byte, smallRead)
	// The exec is kept for an hour, and this would be most of what it takes: with some
	// hundred of them the collector would have no room left within guestd's limit.
	defer func() { p.small = nil }()
	flushed := false
	var gather gatherer
	for {
		gather.pause()
		buf := p.buffer()
		n, err := p.from.read(buf)
		gather.found(n == len(buf))
		p.out.Await(p.to, uint64(n))
		p.spool(buf, n)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.takeRest()
			if flushed {
				return
			}
			flushed = true
			// In this order: who has seen flush may interrupt again.
			p.from.resume()
			close(p.flush)
		default:
			return // io.EOF, EIO of a terminal without processes, ErrClosed
		}
	}
}

// buffer is where the next read goes to, for spool.
func (p *pump) buffer() []byte {
	if p.small == nil {
		return p.out.Room(p.to)
	}
	return p.small
}

// spool appends the n bytes that were read. With the first piece that fills the
// small buffer the spool gives the memory: there may be much more.
func (p *pump) spool(buf []byte, n int) {
	if p.small == nil {
		p.out.Commit(p.to, n)
		return
	}
	p.out.Write(p.to, buf[:n])
	if n < len(buf) {
		return
	}
	p.small = nil
	// At the end what the pipe holds, and a piece that waits, go to a reader that has
	// fallen behind as well.
	if p.out.Slack(p.to) >= 2*widePipe {
		p.from.widen(widePipe)
	}
}

// takeRest spools what the pipe holds now, at most twice its size in case that
// somebody goes on writing.
func (p *pump) takeRest() {
	for left := 2 * widePipe; left > 0; {
		buf := p.buffer()
		n, err := p.from.readNow(buf)
		if err != nil || n <= 0 {
			return
		}
		p.spool(buf, n)
		left -= n
	}
}

// flushNow returns when the pump has spooled what was there; it goes on then. The
// spool must not be paced any more.
func (p *pump) flushNow() {
	p.from.interrupt()
	select {
	case <-p.flush:
	case <-p.done:
	}
}

// stopNow does the same and ends the pump.
func (p *pump) stopNow() {
	p.flushNow()
	p.from.interrupt()
	<-p.done
}

// gatherer decides when a pump pauses.
type gatherer struct {
	began time.Time // of the read under way
	soon  int       // reads in a row that waited less than quiet
	more  bool      // the last one left more
}

// pause waits if that is due. It need not be cut short: the end of an exec, which
// may meet it, takes longer.
func (g *gatherer) pause() {
	if g.soon >= burst && !g.more {
		time.Sleep(pause) //nolint:forbidigo // lets the pipe fill; nothing waits for an event
	}
	g.began = time.Now()
}

// found looks at what a read has brought: more, when it has filled its buffer.
func (g *gatherer) found(more bool) {
	g.more = more
	if time.Since(g.began) < quiet {
		g.soon++
	} else {
		g.soon = 0
	}
}
