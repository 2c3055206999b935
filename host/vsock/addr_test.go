// SPDX-License-Identifier: Apache-2.0

package vsock

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseAddr(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"unix:///run/x/guestd.sock", "unix:///a b", "unix:///" + strings.Repeat("a", 102),
		"vsock://3:1024", "vsock://4294967294:4294967294", "vsock://3:0",
		"hybrid:///run/v.sock:1024", "hybrid:///with:colon:7",
	} {
		a, err := ParseAddr(s)
		require.NoError(t, err, s)
		require.Equal(t, s, a.String())
		again, err := ParseAddr(a.String())
		require.NoError(t, err)
		require.True(t, a == again)
	}
}

func TestParseAddrRefuses(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":                                    "no scheme",
		"/run/x.sock":                         "no scheme",
		"tcp://127.0.0.1:1":                   `unknown scheme "tcp"`,
		"unix://x.sock":                       "not absolute",
		"unix://":                             "not absolute",
		"unix:///a\x00b":                      "zero byte",
		"unix:///" + strings.Repeat("a", 103): "use a shorter directory",
		"vsock://3":                           "no port",
		"vsock://2:1":                         "not a guest's",
		"vsock://4294967295:1":                "not a guest's",
		"vsock://03:1":                        "not a decimal",
		"vsock://3:+1":                        "not a decimal",
		"vsock://3:4294967295":                "not a decimal",
		"vsock://x:1":                         "not a decimal",
		"hybrid:///a":                         "no port",
		"hybrid://a:1":                        "not absolute",
		"hybrid:///a:":                        "not a decimal",
		"hybrid:///a:99999999999":             "not a decimal",
	} {
		a, err := ParseAddr(s)
		require.ErrorContains(t, err, want, s)
		require.Zero(t, a)
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"unix:///a", "vsock://3:4", "hybrid:///a:b:5", "vsock://:", "hybrid://:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddr(s)
		if err != nil {
			require.Zero(t, a)
			return
		}
		require.Equal(t, s, a.String())
		require.LessOrEqual(t, len(a.path), maxPath)
	})
}
