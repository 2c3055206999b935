// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestModeString compares with what ls -l of coreutils prints.
func TestModeString(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*guestv1.Entry{
		"-rw-r--r--": {Type: guestv1.FileType_FILE_TYPE_REGULAR, Mode: 0o644},
		"-rwsr-sr-x": {Type: guestv1.FileType_FILE_TYPE_REGULAR, Mode: 0o6755},
		"-rwSrw-rw-": {Type: guestv1.FileType_FILE_TYPE_REGULAR, Mode: 0o4666},
		"drwxrwxrwt": {Type: guestv1.FileType_FILE_TYPE_DIRECTORY, Mode: 0o1777},
		"drwx--S--T": {Type: guestv1.FileType_FILE_TYPE_DIRECTORY, Mode: 0o3700},
		"lrwxrwxrwx": {Type: guestv1.FileType_FILE_TYPE_SYMLINK, Mode: 0o777},
		"crw-rw-rw-": {Type: guestv1.FileType_FILE_TYPE_CHAR_DEVICE, Mode: 0o666},
		"?---------": {},
	} {
		require.Equal(t, want, modeString(e))
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"plain": "plain", "mit Leerzeichen": "mit Leerzeichen", "größe": "größe",
		"a\x1b[2Jb": `"a\x1b[2Jb"`, "zwei\nZeilen": `"zwei\nZeilen"`, "\xff": `"\xff"`, `say "hi"`: `"say \"hi\""`,
	} {
		require.Equal(t, want, quoted(name))
	}
	require.Equal(t, "/a\xff", lsRow{Path: "/a\uFFFD", PathBytes: []byte("/a\xff")}.name())
}
