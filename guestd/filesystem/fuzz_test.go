// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// FuzzOpen takes any message that opens a write. One that is accepted names a
// path that the kernel takes as it is.
func FuzzOpen(f *testing.F) {
	for _, msg := range []*guestv1.WriteOpen{
		{Path: "/a/b", Mode: proto.Uint32(0o640)}, {Path: "../a"}, {Path: "/a\x00b"}, {Path: "/a", Append: true, Exclusive: true},
	} {
		data, err := proto.Marshal(msg)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msg := &guestv1.WriteOpen{}
		if proto.Unmarshal(data, msg) != nil {
			return
		}
		if err := checkOpen(msg); err != nil {
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
			return
		}
		require.True(t, path.IsAbs(msg.GetPath()))
		require.NotContains(t, msg.GetPath(), "\x00")
		require.LessOrEqual(t, len(msg.GetPath()), maxPath)
		require.Zero(t, msg.GetMode()&^0o777)
	})
}

// FuzzPath takes any path and any page token. What the answers say of them is
// text that protobuf can carry, and a token leads nowhere but below its directory.
func FuzzPath(f *testing.F) {
	f.Add("/a/../b//c/", formatToken("/a/../b//c/", "a/b"))
	f.Add("relative", formatToken("relative", "../a"))
	f.Add("/\xff\xfe\n", "!")
	f.Fuzz(func(t *testing.T, name, token string) {
		require.True(t, utf8.ValidString(display(name)))
		if checkPath("path", name) == nil {
			require.Equal(t, name, display(name))
		}
		names, err := parseToken(name, token)
		if err != nil {
			require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err))
			return
		}
		rel := path.Join(names...)
		require.Equal(t, strings.Join(names, "/"), rel, "nothing of it was . or .. or empty")
		require.False(t, path.IsAbs(rel))
		if token != "" {
			again, err := parseToken(name, formatToken(name, rel))
			require.NoError(t, err)
			require.Equal(t, names, again)
		}
	})
}
