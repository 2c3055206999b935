// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sample = `load: 0.10 0.20 0.30
cores: 2
memory: 1024 MiB
accelerator: tcg
kernel: 6.1
guest-kernel: 6.1.0-1
qemu: 7.2.0
go: 1.26.0
goos: linux
pkg: github.com/stacklok/waggle/host/vmtest/bench
cpu: Some CPU
BenchmarkA/b-2 	 1	 0.0420 call-p50-sec	 0.0300 call-min-sec	 0.0900 call-max-sec	 0.0800 call-p99-sec	 300.0 call-count
BenchmarkMem-2 	 1	 31457280 agent-p50-B	 31457280 agent-min-B	 31457280 agent-max-B	 1.000 agent-count
BenchmarkStream-2 	 1	 0.50 share-p50-ratio	 0.40 share-min-ratio	 0.60 share-max-ratio	 5.000 share-count
PASS
pkg: github.com/stacklok/waggle/host/x
BenchmarkCopy-2 	 100	 12000 ns/op	 500.0 MB/s	 64 B/op	 1 allocs/op
`

var sampleTables = []table{{title: "One", note: "Note.", rows: []row{
	{bench: "A/b", metric: "call", title: "call, p50", budget: 0.045},
	{bench: "A/b", metric: "call", stat: "p99", title: "call, p99"},
	{bench: "Mem", metric: "agent", title: "agent", budget: 20 * mib},
	{bench: "Stream", metric: "share", title: "share", budget: 0.9, atLeast: true},
}}}

func TestRender(t *testing.T) {
	t.Parallel()
	res, err := read(strings.NewReader(sample), "sample")
	require.NoError(t, err)
	doc, err := render(res, sampleTables)
	require.NoError(t, err)
	for _, line := range []string{
		"| CPU | Some CPU |",
		"| load average at the start (1, 5, 15 min) | 0.10 0.20 0.30 |",
		"| call, p50 | 42.00 ms | 30.00 ms – 90.00 ms | 300 | ≤ 45.00 ms | met by 3.000 ms (7 %) |",
		"| call, p99 | 80.00 ms | 30.00 ms – 90.00 ms | 300 |  |  |",
		"| agent | 30.00 MiB |  | 1 | ≤ 20.00 MiB | **missed** by 10.00 MiB (50 %) |",
		"| share | 50 % | 40 % – 60 % | 5 | ≥ 90 % | **missed** by 40 points |",
		"| host/x | Copy | 12.00 µs | 476.8 MiB/s | 64.00 B |",
	} {
		require.Contains(t, strings.Split(doc, "\n"), line)
	}
}

// TestRenderMatches holds that rows and metrics cannot drift apart.
func TestRenderMatches(t *testing.T) {
	t.Parallel()
	res, err := read(strings.NewReader(sample), "sample")
	require.NoError(t, err)
	_, err = render(res, []table{{rows: sampleTables[0].rows[:3]}})
	require.ErrorContains(t, err, "metric share of BenchmarkStream has no row")
	more := append([]row{{bench: "A/b", metric: "gone", title: "gone"}}, sampleTables[0].rows...)
	_, err = render(res, []table{{rows: more}})
	require.ErrorContains(t, err, `row "gone"`)
	delete(res.config, "cpu")
	_, err = render(res, sampleTables)
	require.ErrorContains(t, err, `"cpu"`)
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Error(t, run(filepath.Join(dir, "none"), filepath.Join(dir, "out")))
	in := filepath.Join(dir, "in")
	require.NoError(t, os.WriteFile(in, []byte("BenchmarkBroken 1 nonsense"), 0o600))
	require.ErrorContains(t, run(in, filepath.Join(dir, "out")), "in:1: parsing")
	require.NoFileExists(t, filepath.Join(dir, "out"))
}
