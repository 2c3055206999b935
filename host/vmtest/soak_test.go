// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/supervisor"
)

// soaking says whether the tests run at their full size, which takes many
// minutes and most of the machine: the task `soak`.
func soaking() bool { return os.Getenv("WAGGLE_SOAK") != "" }

// sized is a number at the size of the gate or of the soak.
func sized(gate, soak int) int {
	if soaking() {
		return soak
	}
	return gate
}

// attach is a client of an environment's supervisor and guestd, closed with the
// test.
func attach(t *testing.T, in *Installation, id string) *supervisor.Client {
	t.Helper()
	machine, err := supervisor.Attach(filepath.Join(in.Run, id))
	require.NoError(t, err)
	t.Cleanup(func() { _ = machine.Close() })
	return machine
}

// listed is a row of `waggle ps`.
type listed struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Why    string `json:"why"`
	Pid    int    `json:"pid"`
	VMMPid int    `json:"vmm_pid"`
	// Backend is what runs it.
	Backend string `json:"backend"`
}

func ps(t *testing.T, in *Installation) map[string]listed {
	t.Helper()
	var rows []listed
	require.NoError(t, json.Unmarshal([]byte(in.Command(t, "ps", "--json")), &rows))
	byID := map[string]listed{}
	for _, row := range rows {
		byID[row.ID] = row
	}
	return byID
}

// process watches a process of the host for certain: a pid is used again, what a
// pidfd names is not.
type process struct{ pid, fd int }

func watch(t *testing.T, pid int) process {
	t.Helper()
	require.Positive(t, pid)
	fd, err := unix.PidfdOpen(pid, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return process{pid, fd}
}

// endsWithin says whether the process has ended after d at the latest.
func (p process) endsWithin(t *testing.T, d time.Duration) bool {
	t.Helper()
	for deadline := time.Now().Add(d); ; {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		require.NoError(t, err)
		return n > 0
	}
}

// descriptors counts what a process has open.
func descriptors(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	require.NoError(t, err)
	return len(entries)
}

// kilobytes reads a line "NAME: n kB" of a file of /proc, in bytes.
func kilobytes(t *testing.T, path, name string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for line := range bytes.Lines(text) {
		if value, ok := strings.CutPrefix(string(line), name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			require.NoError(t, err)
			return n << 10
		}
	}
	require.FailNow(t, "no such line", "%s in %s", name, path)
	return 0
}

// resident is the memory of a process, in bytes, what it shares with others
// included.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	return kilobytes(t, fmt.Sprintf("/proc/%d/status", pid), "VmRSS")
}

// together calls work for 0 to n-1, so many at once, until one has failed.
func together(t *testing.T, n, atOnce int, work func(i int)) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(n, atOnce) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && !t.Failed(); i = int(next.Add(1)) - 1 {
				work(i)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// forks makes the requests of sessions that share an id distinct.
var forks atomic.Int64

// fork is the same session for another goroutine.
func (c *Session) fork() *Session {
	own := *c
	own.next = int(forks.Add(1)) * 1_000_000
	return &own
}
