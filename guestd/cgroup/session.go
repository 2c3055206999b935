// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// sessionPoll is how often a Session is looked at: nothing tells when the last
// process of a session ends.
const sessionPoll = 10 * time.Millisecond

// Session is the fallback where there is no cgroup v2; the package comment says
// what it cannot do. Its methods may be called concurrently.
type Session struct {
	sid int
	// empty is set once no process was left. The kernel may then give the
	// number to others, so nothing is signalled any more.
	empty atomic.Bool
}

// NewSession returns the session that pid, which was started with Setsid, leads.
func NewSession(pid int) *Session { return &Session{sid: pid} }

// Pids returns the processes of the session, zombies left out.
func (s *Session) Pids() ([]int, error) {
	if s.empty.Load() {
		return nil, nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes of session: %w", err)
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes of session: %w", err)
	}
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err == nil && sessionOf(pid) == s.sid {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// sessionOf returns the session of a process, 0 when it is gone or a zombie.
// The fields of /proc/<pid>/stat are counted from the last ')', because the
// name of the program may hold anything (proc_pid_stat(5)).
func sessionOf(pid int) int {
	data, err := readFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 4 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return 0
	}
	sid, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return 0
	}
	return sid
}

// Signal sends a signal to every process of the session.
func (s *Session) Signal(sig unix.Signal) error {
	return signalAll(s.Pids, sig)
}

// Kill ends the processes of the session that it finds; a fork bomb may outrun it.
func (s *Session) Kill() error { return s.Signal(unix.SIGKILL) }

// WaitEmpty returns nil when no process is left, or ctx's error.
func (s *Session) WaitEmpty(ctx context.Context) error {
	tick := time.NewTicker(sessionPoll)
	defer tick.Stop()
	for {
		pids, err := s.Pids()
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			s.empty.Store(true)
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for session to be empty: %w", ctx.Err())
		}
	}
}

// Stats returns zeros.
func (s *Session) Stats() Stats { return Stats{} }

// Remove does nothing: the kernel keeps nothing for a session that is empty.
func (s *Session) Remove() error { return nil }
