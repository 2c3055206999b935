// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	mobyterm "github.com/moby/term"
	"golang.org/x/term"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// errDetached is the user's wish to leave a command running.
var errDetached = errors.New("detached")

// detachFlags say which keys leave a command that goes on.
type detachFlags struct {
	DetachKeys string `help:"Keys that leave the command running, such as ctrl-p,ctrl-q; empty for none." default:"ctrl-p,ctrl-q" env:"WAGGLE_DETACH_KEYS" placeholder:"KEYS"`
}

// terminal is this process's terminal while a command in a guest has it.
type terminal struct {
	in    *os.File
	keys  []byte
	sizes chan *guestv1.TerminalSize
	saved *term.State
	winch chan os.Signal
	ended chan struct{}
	done  sync.WaitGroup
}

// newTerminal takes the terminal of the standard input over. The caller restores
// it.
func newTerminal(f detachFlags) (*terminal, error) {
	t := &terminal{
		in: os.Stdin, sizes: make(chan *guestv1.TerminalSize, 1),
		winch: make(chan os.Signal, 1), ended: make(chan struct{}),
	}
	if !term.IsTerminal(int(t.in.Fd())) {
		return nil, errors.New("the standard input is not a terminal: use `waggle exec`, with -i to pass the input on")
	}
	if f.DetachKeys != "" {
		keys, err := mobyterm.ToBytes(f.DetachKeys)
		if err != nil {
			return nil, fmt.Errorf("--detach-keys: %w", err)
		}
		t.keys = keys
	}
	saved, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return nil, fmt.Errorf("set terminal to raw: %w", err)
	}
	t.saved = saved
	signal.Notify(t.winch, syscall.SIGWINCH)
	t.done.Go(t.watch)
	return t, nil
}

// restore gives the terminal back. It may be called once.
func (t *terminal) restore() {
	signal.Stop(t.winch)
	close(t.ended)
	t.done.Wait()
	_ = term.Restore(int(t.in.Fd()), t.saved)
}

// size is nil when the terminal does not say.
func (t *terminal) size() *guestv1.TerminalSize {
	cols, rows, err := term.GetSize(int(t.in.Fd()))
	if err != nil || cols <= 0 || rows <= 0 {
		return nil
	}
	return &guestv1.TerminalSize{Rows: uint32(min(rows, 4096)), Cols: uint32(min(cols, 4096))}
}

// watch sends the size whenever it changes; only the newest one counts.
func (t *terminal) watch() {
	for {
		select {
		case <-t.winch:
			if size := t.size(); size != nil {
				t.offer(size)
			}
		case <-t.ended:
			return
		}
	}
}

func (t *terminal) offer(size *guestv1.TerminalSize) {
	select {
	case <-t.sizes: // an older one that nobody has taken yet
	default:
	}
	select {
	case t.sizes <- size:
	case <-t.ended:
	}
}

// follow runs or attaches to a command with a terminal until it ends, the user
// detaches (errDetached) or ctx ends.
func (t *terminal) follow(ctx context.Context, g *guest.Client, e guest.Exec) (*guestv1.Exited, error) {
	e.Stdin, e.Resize, e.Stdout, e.Stderr = t.in, t.sizes, os.Stdout, os.Stderr
	if len(t.keys) > 0 {
		e.Stdin = mobyterm.NewEscapeProxy(t.in, t.keys)
	}
	if e.Start != nil {
		e.Start.Pty = &guestv1.Pty{Size: t.size(), Term: os.Getenv("TERM")}
	}
	exited, err := g.Run(ctx, e)
	if errors.As(err, new(mobyterm.EscapeError)) {
		return nil, errDetached
	}
	return exited, err
}

// redraw makes a full-screen program paint itself anew: it looks at its size
// only when that changes.
func (t *terminal) redraw() {
	size := t.size()
	if size == nil || size.Rows < 2 {
		return
	}
	t.sizes <- &guestv1.TerminalSize{Rows: size.Rows - 1, Cols: size.Cols}
	t.done.Go(func() {
		select {
		case t.sizes <- size:
		case <-t.ended:
		}
	})
}

// session gives a command this terminal until it ends or the user leaves it. e
// starts or attaches to the exec id.
func session(ctx context.Context, g *guest.Client, f detachFlags, e guest.Exec, id string) error {
	t, err := newTerminal(f)
	if err != nil {
		return err
	}
	if e.Attach != nil {
		t.redraw()
	}
	exited, err := t.follow(ctx, g, e)
	t.restore()
	if err != nil {
		return farewell(os.Stderr, id, err)
	}
	return outcome(exited, id, id)
}

// farewell says after a session how to come back to it.
func farewell(w io.Writer, id string, err error) error {
	switch {
	case errors.Is(err, errDetached):
		fmt.Fprintf(w, "\nwaggle: detached from %s; `waggle attach %s` returns, `waggle kill %s` ends it\n", id, id, id)
		return nil
	case errors.Is(err, guest.ErrInputLost):
		return fmt.Errorf("%w; `waggle attach %s` returns to it", err, id)
	}
	return err
}
