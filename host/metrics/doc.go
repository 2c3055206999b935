// SPDX-License-Identifier: Apache-2.0

// Package metrics is what Waggle's server tells Prometheus (text format 0.0.4 and
// OpenMetrics 1.0): environments by state, calls of tools by outcome and duration, and
// the process itself. Names and labels come from the server alone: nothing that a caller
// or a guest has written becomes one, so the number of series is bounded.
package metrics
