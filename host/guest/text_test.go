// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/guest"
)

func TestText(t *testing.T) {
	t.Parallel()
	missing := connect.NewWireError(connect.CodeNotFound, errors.New("stat /nope: no such file (ENOENT)"))
	refused := connect.NewError(connect.CodePermissionDenied, errors.New("open /root: EACCES"))
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"plain":      {fs.ErrNotExist, "file does not exist"},
		"one":        {missing, "stat /nope: no such file (ENOENT)"},
		"wrapped":    {fmt.Errorf("stat guest file: %w; list it", missing), "stat guest file: stat /nope: no such file (ENOENT); list it"},
		"joined":     {fmt.Errorf("a: %w", errors.Join(missing, refused)), "a: stat /nope: no such file (ENOENT)\nopen /root: EACCES"},
		"two":        {fmt.Errorf("%w: b: %w", missing, refused), "stat /nope: no such file (ENOENT): b: open /root: EACCES"},
		"in another": {connect.NewError(connect.CodeUnavailable, fmt.Errorf("ask: %w", refused)), "ask: open /root: EACCES"},
		"no words":   {connect.NewError(connect.CodeResourceExhausted, nil), "resource exhausted"},
	} {
		require.Equal(t, tc.want, guest.Text(tc.err), name)
		words := guest.InWords(tc.err)
		require.EqualError(t, words, tc.want, name)
		require.ErrorIs(t, words, tc.err, name)
		require.Equal(t, connect.CodeOf(tc.err), connect.CodeOf(words), name)
		require.EqualError(t, guest.InWords(fmt.Errorf("again: %w", words)), "again: "+tc.want, name)
	}
	require.NoError(t, guest.InWords(nil))
	require.Empty(t, guest.Text(nil))
}
