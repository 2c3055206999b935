// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxFile bounds what is read of a file of the kernel's: the list of
	// processes grows with what the workload forks.
	maxFile = 1 << 20
	// maxNested bounds the groups that a root workload may have made inside.
	maxNested = 1024
)

// Stats is what a group has used. Fields are zero where the kernel lacks the
// controller.
type Stats struct {
	PeakMemory uint64        // bytes
	CPU        time.Duration // user and system time
	OOMKills   uint64        // processes ended for want of memory
	// ForksRefused counts the processes and threads that were not made because
	// the group had as many as it may.
	ForksRefused uint64
}

// Group is one control group. Its methods may be called concurrently, but for
// WaitEmpty, which has one caller at a time.
type Group struct {
	tree *Tree
	dir  string
	wait sync.Mutex // one watch of cgroup.events at a time

	hunger hunger
}

// Dir opens the group's directory, for SysProcAttr.CgroupFD. The caller closes it.
func (g *Group) Dir() (*os.File, error) {
	fd, err := unix.Open(g.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open control group: %w", err)
	}
	return os.NewFile(uintptr(fd), g.dir), nil
}

// Pids returns the processes of the group, zombies left out. A group that was
// removed has none.
func (g *Group) Pids() ([]int, error) {
	data, err := readFile(filepath.Join(g.dir, "cgroup.procs"))
	if removed(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list processes of group: %w", err)
	}
	var pids []int
	for line := range bytes.Lines(data) {
		pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
		if err == nil && pid > 0 { // 0: a process of another pid namespace
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Signal sends a signal to every process of the group. Processes that are
// forked at the same moment may miss it; Kill has no such gap.
func (g *Group) Signal(sig unix.Signal) error {
	return signalAll(g.Pids, sig)
}

// Kill ends every process of the group and of the groups within, for certain.
// It does not wait for them; see WaitEmpty.
func (g *Group) Kill() error {
	if err := writeFile(filepath.Join(g.dir, "cgroup.kill"), "1"); err != nil && !removed(err) {
		return fmt.Errorf("kill group: %w", err)
	}
	return nil
}

// Populated says whether a process lives in the group or in one within. A group
// that was removed has none.
func (g *Group) Populated() (bool, error) {
	v, err := readKey(filepath.Join(g.dir, "cgroup.events"), "populated")
	if removed(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read state of group: %w", err)
	}
	return v != 0, nil
}

// WaitEmpty returns nil when no process is left, or ctx's error.
func (g *Group) WaitEmpty(ctx context.Context) error {
	// Most often the group is empty already. The look is worth it because the
	// kernel may hold a notice back for 10 ms after the one before.
	if populated, err := g.Populated(); err != nil || !populated {
		return err
	}
	g.wait.Lock()
	defer g.wait.Unlock()
	changed, cancel, err := g.tree.subscribe(filepath.Join(g.dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer cancel()
	for {
		if populated, err := g.Populated(); err != nil || !populated {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for group to be empty: %w", ctx.Err())
		}
	}
}

// Stats returns what the group has used so far.
func (g *Group) Stats() Stats {
	// A missing file is a missing controller, and that is zero by contract.
	var s Stats
	if data, err := readFile(filepath.Join(g.dir, "memory.peak")); err == nil {
		s.PeakMemory, _ = strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 64)
	}
	s.OOMKills, _ = readKey(filepath.Join(g.dir, "memory.events"), "oom_kill")
	g.tree.mu.Lock()
	s.OOMKills += g.hunger.kills
	g.tree.mu.Unlock()
	s.ForksRefused, _ = readKey(filepath.Join(g.dir, "pids.events"), "max")
	usec, _ := readKey(filepath.Join(g.dir, "cpu.stat"), "usage_usec")
	s.CPU = time.Duration(min(usec, uint64(1<<62)/1000)) * time.Microsecond
	return s
}

// Remove removes the group, which must be empty, and the groups within.
func (g *Group) Remove() error {
	g.tree.mu.Lock()
	delete(g.tree.groups, g)
	g.tree.mu.Unlock()
	budget := maxNested
	if err := removeTree(g.dir, &budget); err != nil {
		return fmt.Errorf("remove group: %w", err)
	}
	return nil
}

func removeTree(dir string, budget *int) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if *budget--; *budget < 0 || !errors.Is(err, unix.EBUSY) {
		return err
	}
	entries, rerr := os.ReadDir(dir)
	if rerr != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name()), budget); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// removed says whether err is that of a group that is no more.
func removed(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// readKey reads one number of a file of lines "key value".
func readKey(file, key string) (uint64, error) {
	data, err := readFile(file)
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		k, v, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		if string(k) == key {
			return strconv.ParseUint(string(v), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %q", file, key)
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// writeFile writes without O_CREAT and O_TRUNC, which kernel files do not like.
func writeFile(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
