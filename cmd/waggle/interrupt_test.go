// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// TestReadUntil: all of a source arrives, its error too, and one that says nothing
// ends with the context.
func TestReadUntil(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("line\n", 50_000)
	got, err := io.ReadAll(readUntil(t.Context(), strings.NewReader(text)))
	require.NoError(t, err)
	require.Equal(t, text, string(got))

	torn := errors.New("torn")
	got, err = io.ReadAll(readUntil(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(torn))))
	require.ErrorIs(t, err, torn)
	require.Equal(t, "half", string(got))

	silent, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	ctx, cancel := context.WithCancelCause(t.Context())
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(readUntil(ctx, silent))
		read <- err
	}()
	left := errors.New("left")
	cancel(left)
	require.ErrorIs(t, <-read, left)
}
