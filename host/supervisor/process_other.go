// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package supervisor

import (
	"errors"
	"time"
)

var errUnsupported = errors.New("machines are supervised on Linux only, so far")

func startTime(int) (uint64, error) { return 0, errUnsupported }

func (p Process) kill(time.Duration) error { return errUnsupported }

func residentBytes() uint64 { return 0 }
