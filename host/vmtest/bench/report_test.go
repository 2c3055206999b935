// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"slices"
	"testing"
	"time"
)

// minForP99 is how many samples a 99th percentile needs to be more than the
// maximum.
const minForP99 = 200

// report publishes samples as the metrics name-p50-unit, -min-, -max- and
// name-count, and name-p99-unit where there are enough. unit is a base unit of
// golang.org/x/perf/benchunit: sec, B, B/s, or ratio (of a whole), or times (as much).
func report(b *testing.B, name, unit string, samples []float64) {
	b.Helper()
	if len(samples) == 0 {
		b.Fatalf("%s has no samples", name)
	}
	sorted := slices.Sorted(slices.Values(samples))
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+0.5)] }
	b.ReportMetric(at(0.5), name+"-p50-"+unit)
	b.ReportMetric(at(0), name+"-min-"+unit)
	b.ReportMetric(at(1), name+"-max-"+unit)
	b.ReportMetric(float64(len(sorted)), name+"-count")
	if len(sorted) >= minForP99 {
		b.ReportMetric(at(0.99), name+"-p99-"+unit)
	}
	b.ReportMetric(0, "ns/op") // the time of all samples together says nothing
}

// series collects samples by name, for benchmarks that measure several things
// at once.
type series map[string][]float64

func (s series) add(name string, v float64) { s[name] = append(s[name], v) }

func (s series) addTime(name string, d time.Duration) { s.add(name, d.Seconds()) }

// report publishes all of s in one unit.
func (s series) report(b *testing.B, unit string) {
	b.Helper()
	for name, samples := range s {
		report(b, name, unit, samples)
	}
}
