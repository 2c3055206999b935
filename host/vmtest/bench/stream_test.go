// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	streamSize   = 64 << 20 // bytes
	streamRounds = 5
)

// direction of a stream is what the guest's end does; see testdata/stream.
type direction string

const (
	toGuest direction = "sink"
	toHost  direction = "source"
)

// BenchmarkStream compares a stream through guestd with a plain vsock stream of
// the same machine, by turns: what else the host does meets both.
//
// The host can dial guestd's port only, and a supervisor takes one call at the
// ready port. So the backend makes the machine without a supervisor, and a
// process beside guestd calls the ready port too; its call is the plain stream.
func BenchmarkStream(b *testing.B) {
	m := startMachine(b)
	for _, bench := range []struct {
		name string
		way  direction
	}{{"to-guest", toGuest}, {"to-host", toHost}} {
		b.Run(bench.name, func(b *testing.B) {
			rate, ratio := series{}, series{}
			for range streamRounds {
				raw := m.throughVsock(b, bench.way)
				guestd := throughGuestd(b, m.client, m.helper, bench.way)
				rate.add("raw", raw)
				rate.add("guestd", guestd)
				ratio.add("share", guestd/raw)
			}
			rate.report(b, "B/s")
			ratio.report(b, "ratio")
		})
	}
	b.Run("memory", func(b *testing.B) {
		info, err := m.client.Info(b.Context())
		require.NoError(b, err)
		report(b, "guestd", "B", []float64{float64(info.GetAgentResidentBytes())})
	})
}
