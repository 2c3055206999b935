// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	fileSize   = 64 << 20 // bytes
	fileRounds = 3
)

// benchFile writes a file through guestd, to the disk, and reads it back.
func benchFile(b *testing.B, e *environment) {
	data := make([]byte, fileSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	const path = "/home/sandbox/bench.bin"
	rate := series{}
	for range fileRounds {
		began := time.Now()
		_, err := e.guest().WriteFile(b.Context(), &guestv1.WriteOpen{Path: path}, bytes.NewReader(data))
		took := time.Since(began)
		require.NoError(b, err)
		rate.add("write", fileSize/took.Seconds())

		sum := sha256.New()
		began = time.Now()
		_, err = e.guest().ReadFile(b.Context(), &guestv1.FilesystemReadRequest{Path: path}, sum)
		took = time.Since(began)
		require.NoError(b, err)
		rate.add("read", fileSize/took.Seconds())
		require.Equal(b, sha256.Sum256(data), [sha256.Size]byte(sum.Sum(nil)))
	}
	rate.report(b, "B/s")
}
