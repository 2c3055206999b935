// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/process/spool"
)

const (
	minRead = 8 << 10
	maxRead = 128 << 10
)

// pump moves one stream into the spool. run has one caller, which is what the
// other methods talk to.
type pump struct {
	file  *os.File
	out   *spool.Spool
	to    spool.Stream
	flush chan struct{} // closed when what was in the pipe at flushNow is spooled
	done  chan struct{} // closed when run has returned
}

func newPump(file *os.File, out *spool.Spool, to spool.Stream) *pump {
	return &pump{file: file, out: out, to: to, flush: make(chan struct{}), done: make(chan struct{})}
}

// run reads until the end of file, or until stopNow.
func (p *pump) run() {
	defer close(p.done)
	buf := make([]byte, minRead) // grows with the first piece that fills it
	flushed := false
	for {
		n, err := p.file.Read(buf)
		p.out.Await(p.to, uint64(n))
		p.out.Write(p.to, buf[:n])
		switch {
		case err == nil:
			if n == len(buf) && n < maxRead {
				buf = make([]byte, maxRead)
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.takeRest(buf)
			if flushed {
				return
			}
			flushed = true
			// In this order: who has seen flush may set the next deadline.
			_ = p.file.SetReadDeadline(time.Time{})
			close(p.flush)
		default:
			return // io.EOF, EIO of a terminal without processes, ErrClosed
		}
	}
}

// takeRest spools what the pipe holds now, at most twice its size in case that
// somebody goes on writing.
func (p *pump) takeRest(buf []byte) {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Control(func(fd uintptr) {
		for left := 2 * pipeSize; left > 0; {
			n, err := unix.Read(int(fd), buf)
			if err != nil || n <= 0 {
				return
			}
			p.out.Write(p.to, buf[:n])
			left -= n
		}
	})
}

// flushNow returns when the pump has spooled what was there; it goes on then. The
// spool must not be paced any more.
func (p *pump) flushNow() {
	_ = p.file.SetReadDeadline(time.Unix(1, 0))
	select {
	case <-p.flush:
	case <-p.done:
	}
}

// stopNow does the same and ends the pump.
func (p *pump) stopNow() {
	p.flushNow()
	_ = p.file.SetReadDeadline(time.Unix(1, 0))
	<-p.done
}
