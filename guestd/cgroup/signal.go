// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// signalPasses bounds how often signalAll looks for processes that were
	// forked meanwhile.
	signalPasses = 64
	// signalBatch bounds the descriptors that one pass holds.
	signalBatch = 512
)

// signalAll signals the processes that list names until it names no new one.
func signalAll(list func() ([]int, error), sig unix.Signal) error {
	sent := make(map[int]bool)
	for range signalPasses {
		fresh, err := signalPass(list, sig, sent)
		if err != nil || !fresh {
			return err
		}
	}
	return nil
}

// signalPass signals the processes that list names and sent lacks, and says
// whether there were any. A pid may have gone to another process between the
// list and the signal, so each is pinned by a pidfd and then looked up again:
// what is still listed then is the process that the pidfd holds.
func signalPass(list func() ([]int, error), sig unix.Signal, sent map[int]bool) (bool, error) {
	pids, err := list()
	if err != nil {
		return false, err
	}
	pinned := make(map[int]int)
	defer func() {
		for _, fd := range pinned {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		if sent[pid] {
			continue
		}
		if len(pinned) == signalBatch {
			break
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			pinned[pid] = fd
		}
	}
	if len(pinned) == 0 {
		return false, nil
	}
	if pids, err = list(); err != nil {
		return false, err
	}
	var failed error
	for _, pid := range pids {
		fd, ok := pinned[pid]
		if !ok {
			continue
		}
		sent[pid] = true
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			failed = fmt.Errorf("signal process %d: %w", pid, err)
		}
	}
	return true, failed
}
