// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// bulk writes a file of 64 MiB through guestd, lets the guest hash it and reads it
// back.
func (l *load) bulk(t *testing.T) {
	t.Helper()
	const size = 64 << 20
	machine := l.machine.Guest()

	sent := sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sent)
	began := time.Now()
	const path = "/home/sandbox/bulk"
	_, err := machine.WriteFile(t.Context(), &guestv1.WriteOpen{Path: path, Size: new(uint64(size))}, source)
	require.NoError(t, err)
	written := time.Since(began)
	want := hex.EncodeToString(sent.Sum(nil))

	var out strings.Builder
	exited, err := machine.Run(t.Context(), guest.Exec{
		Start: &guestv1.Start{
			ExecId:  "bulk",
			Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: []string{"sha256sum", path}}},
		},
		Stdout: &out,
	})
	require.NoError(t, err)
	require.Zero(t, exited.GetExitCode())
	require.Equal(t, want+"  "+path+"\n", out.String(), "the guest's own hash")

	received := sha256.New()
	began = time.Now()
	entry, err := machine.ReadFile(t.Context(), &guestv1.FilesystemReadRequest{Path: path}, received)
	require.NoError(t, err)
	read := time.Since(began)
	require.Equal(t, uint64(size), entry.GetSize())
	require.Equal(t, want, hex.EncodeToString(received.Sum(nil)))

	rate := func(d time.Duration) float64 { return size / (1 << 20) / d.Seconds() }
	t.Logf("written in %s (%.0f MiB/s), read in %s (%.0f MiB/s)",
		written.Round(time.Millisecond), rate(written), read.Round(time.Millisecond), rate(read))
}
