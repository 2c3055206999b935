// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
)

// carryGuest carries each stream that l accepts to the VMM's socket, until l is
// closed. It returns when all of them have ended, which the end of vmCtx hurries.
func carryGuest(vmCtx context.Context, l *net.UnixListener, dial func(context.Context) (net.Conn, error), log *slog.Logger) {
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		client, err := l.AcceptUnix()
		if err != nil {
			return // closed; nothing else ends a listener for good
		}
		streams.Go(func() {
			defer client.Close()
			guest, err := dial(vmCtx)
			if err != nil {
				log.Debug("no stream to the guest", slog.Any("error", err))
				return
			}
			defer guest.Close()
			if err := carry(vmCtx, client, guest); err != nil {
				log.Warn("stream to the guest cut", slog.Any("error", err))
			}
		})
	}
}

// carry copies both ways. The guest's end is passed on as such. The client's ends
// the stream, because libkrun knows no other end of the host's: it would answer a
// half-closed stream with a reset, and keep its descriptor for ever.
//
// It returns an error if the stream was cut for its client's sake.
func carry(vmCtx context.Context, client *net.UnixConn, guest net.Conn) error {
	cut := func() {
		_ = client.Close()
		_ = guest.Close()
	}
	defer context.AfterFunc(vmCtx, cut)()

	var copies sync.WaitGroup
	q := newQueue()
	var filled error
	copies.Go(func() {
		if filled = q.fill(guest); filled != nil {
			cut()
		}
	})
	copies.Go(func() {
		if q.empty(client) != nil {
			cut()
			return
		}
		_ = client.CloseWrite() // the client may be gone
	})
	_, _ = io.Copy(guest, client) // however it ends, it is the end
	cut()
	copies.Wait()
	if errors.Is(filled, errSlowReader) {
		return filled
	}
	return nil
}
