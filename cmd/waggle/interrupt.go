// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ sig syscall.Signal }

func (i interrupted) Error() string { return fmt.Sprintf("waggle got the signal %q", i.sig) }

// untilSignal returns a context that the first SIGINT or SIGTERM ends, so that
// what runs can end in order. A second one kills waggle.
func untilSignal(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		defer signal.Stop(got)
		select {
		case s := <-got:
			sig, _ := s.(syscall.Signal)
			cancel(interrupted{sig})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// signalOf returns the signal that ended ctx.
func signalOf(ctx context.Context) (syscall.Signal, bool) {
	var i interrupted
	ok := errors.As(context.Cause(ctx), &i)
	return i.sig, ok
}

// readUntil reads r until ctx ends, with whose cause a Read then fails, also one
// that waits for a terminal or a pipe. The goroutine ends with r or, when it waits
// in a Read of r, with that.
func readUntil(ctx context.Context, r io.Reader) io.Reader {
	ours, theirs := io.Pipe()
	context.AfterFunc(ctx, func() { _ = theirs.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.Copy(theirs, r)
		_ = theirs.CloseWithError(err) // nil: the end of r
	}()
	return ours
}
