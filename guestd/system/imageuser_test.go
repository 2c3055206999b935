// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

func TestChooseImageUser(t *testing.T) {
	t.Parallel()
	const passwd = "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\napp:x:101:102::/srv:/bin/sh\n" +
		"33:x:500:500::/:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\nhalf:x\nsandbox:x:1000:1000::/home/sandbox:/bin/sh\n"
	for _, tc := range []struct {
		image string
		want  chosen
		bad   string
	}{
		{"", chosen{}, ""},
		{"root", chosen{}, ""},
		{"0", chosen{}, ""},
		{"0:0", chosen{}, ""},
		{"00", chosen{}, ""},
		{"root:app", chosen{}, ""},
		{"toor", chosen{}, ""},
		{"app", chosen{how: useFound, name: "app"}, ""},
		{"app:5", chosen{how: useFound, name: "app"}, ""},
		{"101:102", chosen{how: useFound, name: "app"}, ""},
		{"33", chosen{how: useFound, name: "33"}, ""}, // a name wins over a number
		{"4711", chosen{how: makeNumbered, name: "user4711", home: "/home/user4711", uid: 4711}, ""},
		{"ghost", chosen{how: makeNamed, name: "ghost"}, ""},
		{"Ghost", chosen{}, `"Ghost", whom its /etc/passwd does not have`},
		{"4294967295", chosen{}, "does not have"},
	} {
		got, err := choose(tc.image, []byte(passwd))
		if tc.bad != "" {
			require.ErrorContains(t, err, tc.bad, tc.image)
			continue
		}
		require.NoError(t, err, tc.image)
		require.Equal(t, tc.want, got, tc.image)
	}
	got, err := choose("65532:65532", nil)
	require.NoError(t, err)
	require.Equal(t, chosen{how: makeNumbered, name: "sandbox", home: "/home/sandbox", uid: 65532}, got, "an image without users")
}

func TestCheckImageUser(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"": true, "app": true, "1:2": true, "app:": true, "svc@realm": true, "a:b:c": false, "a b": false, "a\nb": false,
		"a/b": false, "-x": false, strings.Repeat("a", 65): false,
	} {
		_, err := checkUser(&guestv1.WorkloadUser{Image: text})
		if ok {
			require.NoError(t, err, "%q", text)
			continue
		}
		require.ErrorContains(t, err, "user.image", "%q", text)
	}
}
