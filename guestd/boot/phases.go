// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// handover is the variable in which stage 1 hands its findings to stage 2.
const handover = "WAGGLE_BOOT"

// Phase is a step of the boot.
type Phase struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"duration"`
}

// stopwatch cuts the time since the kernel's start into phases.
type stopwatch struct {
	Phases []Phase `json:"phases"`
	// Last is the end of the last phase, on CLOCK_BOOTTIME.
	Last time.Duration `json:"last"`
}

// lap ends the phase that began when the one before ended.
func (s *stopwatch) lap(name string) {
	now := sinceBoot()
	s.Phases = append(s.Phases, Phase{Name: name, Duration: now - s.Last})
	s.Last = now
}

// sinceBoot is the time since the kernel started.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // cannot happen: the clock exists since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}

// handed is what stage 1 leaves to stage 2.
type handed struct {
	stopwatch
	PowerOff powerOff `json:"power_off,omitempty"`
}

// environ is the environment of stage 2.
func (h *handed) environ() ([]string, error) {
	data, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode what stage 2 is told: %w", err)
	}
	return append(os.Environ(), handover+"="+string(data)), nil
}

// takeOver reads what stage 1 left. ok is false in stage 1.
func takeOver() (left handed, ok bool, err error) {
	text, ok := os.LookupEnv(handover)
	if !ok {
		return handed{}, false, nil
	}
	// Commands must not see it.
	if err := os.Unsetenv(handover); err != nil {
		return handed{}, true, fmt.Errorf("unset %s: %w", handover, err)
	}
	if err := json.Unmarshal([]byte(text), &left); err != nil {
		return handed{}, true, fmt.Errorf("parse %s: %w", handover, err)
	}
	return left, true, nil
}
