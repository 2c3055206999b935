// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"fmt"
	"time"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	maxKeepAge    = 30 * 24 * time.Hour
	maxKeepCount  = 10_000
	minKeepOutput = 1 << 20 // bytes
	maxKeepOutput = 1 << 50
)

// results is what is kept of ended execs; zero leaves a limit as it is.
type results struct {
	age   time.Duration
	count int
	bytes int64
}

// checkResults checks the limits. An error names the field.
func checkResults(msg *guestv1.ResultLimits) (results, error) {
	age := msg.GetAge()
	if age != nil && (!age.IsValid() || age.AsDuration() < 0 || age.AsDuration() > maxKeepAge) {
		return results{}, fmt.Errorf("results.age: must be between 0 and %s", maxKeepAge)
	}
	if msg.GetCount() > maxKeepCount {
		return results{}, fmt.Errorf("results.count: %d is more than %d", msg.GetCount(), maxKeepCount)
	}
	if n := msg.GetOutputBytes(); n != 0 && (n < minKeepOutput || n > maxKeepOutput) {
		return results{}, fmt.Errorf("results.output_bytes: %d is not within %d to %d", n, minKeepOutput, int64(maxKeepOutput))
	}
	return results{age: age.AsDuration(), count: int(msg.GetCount()), bytes: int64(msg.GetOutputBytes())}, nil
}
