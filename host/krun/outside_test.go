// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/krun/spec"
)

func TestOutside(t *testing.T) {
	t.Parallel()
	shown := spec.Shown{
		"/disks/image": "/srv/a.ext4", "/disks/image2": "/srv/b.ext4", "/lib/libkrun.so.1": "/opt/lib/libkrun.so.1",
		"/vsock": "/run/env-a/krun", "/tmp": "the jail's /tmp", "/proc/self/fd/1": "/one", "/proc/self/fd/12": "/twelve",
	}
	for text, want := range map[string]string{
		"":                                     "",
		"the disk image at /disks/image; x":    "the disk image at /srv/a.ext4; x",
		"/disks/image2: EIO, (/disks/image)":   "/srv/b.ext4: EIO, (/srv/a.ext4)",
		"load /lib/libkrun.so.1: cut off":      "load /opt/lib/libkrun.so.1: cut off",
		"load /lib/libkrun.so.1.":              "load /opt/lib/libkrun.so.1.",
		`open "/vsock/guestd.sock"`:            `open "/run/env-a/krun/guestd.sock"`,
		"see that /tmp can be written":         "see that the jail's /tmp can be written",
		"/proc/self/fd/12 and /proc/self/fd/1": "/twelve and /one",
		"/srv/disks/image /lib/x /":            "/srv/disks/image /lib/x /",
		"//disks/image disks/image":            "//disks/image disks/image",
	} {
		require.Equal(t, want, outside(shown, text), text)
	}
	require.Equal(t, "/disks/image", outside(nil, "/disks/image"), "nothing is known of the jail yet")
}
