// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMetricsParsers(t *testing.T) {
	t.Parallel()
	const stat = "cpu  10 20 30 40000 5000 6 7 8 9 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	require.Equal(t, 81*10*time.Millisecond, busyTime([]byte(stat)))
	require.Zero(t, busyTime([]byte("cpu x\n")))
	require.Zero(t, busyTime(nil))
	const dev = "Inter-| Receive | Transmit\n face |bytes packets|bytes\n" +
		"    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n" +
		"  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n" +
		"  eth1:5 1 0 0 0 0 0 0 6 2 0 0 0 0 0 0\n"
	in, out := traffic([]byte(dev))
	require.EqualValues(t, 105, in)
	require.EqualValues(t, 206, out)
	require.Positive(t, measure().GetCpuTime().AsDuration())
	require.Positive(t, measure().GetTasks())
}
