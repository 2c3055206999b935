// SPDX-License-Identifier: Apache-2.0

// Package bench measures Waggle in a real machine. `task bench` runs it and
// makes docs/benchmarks.md of what it prints.
//
// A benchmark here takes a fixed number of samples and reports them by report,
// so it is run with -benchtime=1x. To add a row: report a metric in a benchmark,
// and give it a line in benchdoc/rows.go, which refuses a metric without one.
package bench
