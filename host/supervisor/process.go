// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"os"
)

// Process names a process for certain: a pid is used again, a pid with its
// start time is not.
type Process struct {
	PID int `json:"pid"`
	// Started is the start time in the system's own unit.
	Started uint64 `json:"started"`
}

// identify names a running process.
func identify(pid int) (Process, error) {
	started, err := startTime(pid)
	if err != nil {
		return Process{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return Process{PID: pid, Started: started}, nil
}

func self() (Process, error) { return identify(os.Getpid()) }

// Alive says whether the process still runs. A zombie does not.
func (p Process) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	started, err := startTime(p.PID)
	return err == nil && started == p.Started
}
