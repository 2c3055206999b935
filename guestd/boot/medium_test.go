// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestParseMedium(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		json    string
		command int
		bad     string
	}{
		{`{}`, unix.LINUX_REBOOT_CMD_POWER_OFF, ""},
		{`{"modules":["00-a.ko"],"guestd":{"digest":"sha256:1"}}`, unix.LINUX_REBOOT_CMD_POWER_OFF, ""},
		{`{"power_off":"off"}`, unix.LINUX_REBOOT_CMD_POWER_OFF, ""},
		{`{"power_off":"restart"}`, unix.LINUX_REBOOT_CMD_RESTART, ""},
		{`{"power_off":"halt"}`, 0, `power_off "halt"`},
		{`{"power_off":`, 0, "parse boot.json"},
	} {
		got, err := parseMedium([]byte(tc.json))
		if tc.bad != "" {
			require.ErrorContains(t, err, tc.bad)
			continue
		}
		require.NoError(t, err, tc.json)
		require.Equal(t, tc.command, got.PowerOff.command(), tc.json)
	}
}
