// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"golang.org/x/sync/errgroup"

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/system"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// AnnounceFunc tells the host that guestd serves, and returns the protocol version
// that the host chose. It wraps boot.ErrRefused when the host will not have it.
type AnnounceFunc func(ctx context.Context, ready *guestv1.Ready) (protocol uint32, err error)

// ServeAnnounced serves as Serve does, and tells the host so. It also ends when the
// host refuses this guestd.
func ServeAnnounced(ctx context.Context, l net.Listener, cfg Config, announce AnnounceFunc) error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ready := &guestv1.Ready{
		Agent: system.Agent(cfg.Machine), BootPhases: system.Phases(cfg.Machine), BootId: make([]byte, 16),
		ImageAgentRefused: cfg.Machine.ImageAgentRefused(),
	}
	if _, err := rand.Read(ready.BootId); err != nil {
		_ = l.Close() // the error tells more
		return fmt.Errorf("draw boot id: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := Serve(groupCtx, l, cfg)
		stop() // also ends an announcement under way
		return err
	})
	group.Go(func() error {
		protocol, err := announce(groupCtx, ready)
		switch {
		case errors.Is(err, boot.ErrRefused):
			return err
		case err != nil && groupCtx.Err() == nil:
			// A host that does not listen may still connect.
			cfg.Log.Warn("host not told", slog.Any("err", err))
		case err == nil:
			cfg.Log.Info("ready", slog.Uint64("protocol", uint64(protocol)))
		}
		return nil
	})
	return group.Wait()
}
