// SPDX-License-Identifier: Apache-2.0

//go:build linux

package guestd

import (
	"context"
	"os"
	"strconv"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/contract"
)

// TestContract serves in this process, so that the race detector sees it.
func TestContract(t *testing.T) {
	untouched := contract.Untouched(t)
	l := newPipes()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, Config{User: strconv.Itoa(os.Getuid())}) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
		untouched()
	})
	contract.Run(t, contract.Dial(t, l.dial, connect.WithGRPC()), contract.Here())
}
