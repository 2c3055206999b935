// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchMemoryStart is before anything but the boot has happened.
func benchMemoryStart(b *testing.B, e *environment) { e.memory(b) }

// benchMemoryEnd is after the other benchmarks and a stream each way.
func benchMemoryEnd(b *testing.B, e *environment) {
	helper := copyHelper(b, e.guest(), buildHelper(b))
	for _, way := range []direction{toGuest, toHost} {
		throughGuestd(b, e.guest(), helper, way)
	}
	e.memory(b)
}

// memory reports what is resident. The VMM's includes the guest's memory as far
// as the guest has touched it.
func (e *environment) memory(b *testing.B) {
	b.Helper()
	info, err := e.guest().Info(b.Context())
	require.NoError(b, err)
	report(b, "guestd", "B", []float64{float64(info.GetAgentResidentBytes())})
	for _, p := range []struct {
		name string
		pid  int
	}{{"supervisor", e.supervisor}, {"server", e.site.server.PID()}, {"vmm", e.vmm}} {
		resident := status(b, p.pid)
		report(b, p.name, "B", []float64{resident["VmRSS"]})
		report(b, p.name+"-anon", "B", []float64{resident["RssAnon"]})
	}
}

// status returns the sizes in /proc/PID/status, in bytes.
func status(b *testing.B, pid int) map[string]float64 {
	b.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(b, err)
	sizes := map[string]float64{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			n, err := strconv.ParseFloat(fields[1], 64)
			require.NoError(b, err)
			sizes[strings.TrimSuffix(fields[0], ":")] = n * 1024
		}
	}
	require.Contains(b, sizes, "VmRSS")
	return sizes
}
