// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLacking(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"Name:\tx\nCapEff:\t000001ffffffffff\n": nil,
		"CapEff:\t0000000000000000\n":           {"CAP_SETUID", "CAP_SETGID", "CAP_KILL"},
		"CapEff:\t00000000000000c0\n":           {"CAP_KILL"}, // capabilities(7): 6 and 7
		"CapEff:\tjunk\n":                       {"CAP_SETUID", "CAP_SETGID", "CAP_KILL"},
	} {
		require.Equal(t, want, lacking(bufio.NewScanner(strings.NewReader(text))), text)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	who, shared, err := Identity("QEMU")
	if err != nil { // in a container
		require.ErrorContains(t, err, "root without CAP_")
		require.ErrorContains(t, err, "start QEMU as another user")
		return
	}
	require.NotEmpty(t, who)
	if os.Geteuid() != 0 {
		require.True(t, shared)
	}
}
