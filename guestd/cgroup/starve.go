// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroup

import (
	"bytes"
	"cmp"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel ends a process for want of memory only when it finds none at all.
// Processes that need a little more than their limit, and no swap, live on for
// hours: the kernel takes pages of their programs away and reads them again.
// Nothing is done in that time, and others wait with them. So a group that does
// nothing but wait for memory is treated as one that has none. The measure is the
// kernel's pressure stall information (Documentation/accounting/psi.rst).
const (
	// lookEvery is how often groups are looked at while there are any.
	lookEvery = time.Second
	// poolWaits is the least that some process of the tree has waited since the
	// last look, for its groups to be looked at.
	poolWaits = lookEvery / 4
	// groupWaits is the least of that time in which nothing of a group has run
	// that did not wait for memory.
	groupWaits = lookEvery / 2
	// A group starves that has waited in so many looks in a row and has so small a
	// part of its memory in pages of files, which could be taken; or that has
	// waited in many.
	starvedLooks = 2
	filesPart    = 16
	starvedLong  = 30
	// maxSpared is the most processes of a group of which only the largest is
	// ended at first; more are a fork bomb.
	maxSpared = 64
)

// hunger is what is known of a group's want of memory. The tree's mutex guards it.
type hunger struct {
	known   bool
	waited  time.Duration // all the time that the whole group has waited
	looks   int           // in a row in which it waited long
	strikes int           // processes were ended for it
	kills   uint64        // how many
}

// feed ends what starves, until stop is closed. It only runs while there are
// groups: a machine at rest is not woken.
func (t *Tree) feed() {
	defer close(t.fed)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var waited time.Duration
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
		if t.idle() {
			tick.Stop()
			select {
			case <-t.stop:
				return
			case <-t.busy:
			}
			tick.Reset(lookEvery)
			continue
		}
		now, err := waits(t.root, "some")
		if err != nil {
			slog.Warn("want of memory is not watched", "err", err)
			return
		}
		if now-waited >= poolWaits {
			t.look()
		}
		waited = now
	}
}

// look finds the largest of the groups that starve and ends its largest process, or
// all of it when that has not helped. The others starve because of it, perhaps.
func (t *Tree) look() {
	var victim *Group
	var most uint64
	for _, g := range t.living() {
		if !t.starves(g) {
			continue
		}
		if size, err := readNumber(g.dir, "memory.current"); err == nil && size >= most {
			victim, most = g, size
		}
	}
	if victim == nil {
		return
	}
	t.mu.Lock()
	strikes := victim.hunger.strikes
	victim.hunger.strikes++
	victim.hunger.looks = 0
	t.mu.Unlock()
	killed, err := victim.relieve(strikes > 0)
	if err != nil {
		slog.Warn("group starves", "group", filepath.Base(victim.dir), "err", err)
	}
	slog.Info("ended what waited for memory only", "group", filepath.Base(victim.dir), "bytes", most, "processes", killed)
	t.mu.Lock()
	victim.hunger.kills += uint64(killed)
	t.mu.Unlock()
}

// starves takes note of how a group does.
func (t *Tree) starves(g *Group) bool {
	now, err := waits(g.dir, "full")
	if err != nil {
		return false // it has ended
	}
	t.mu.Lock()
	h := &g.hunger
	if h.known && now-h.waited >= groupWaits {
		h.looks++
	} else {
		h.looks = 0
	}
	h.known, h.waited = true, now
	looks := h.looks
	t.mu.Unlock()
	if looks < starvedLooks || looks >= starvedLong {
		return looks >= starvedLong
	}
	files, err := readKey(filepath.Join(g.dir, "memory.stat"), "file")
	size, serr := readNumber(g.dir, "memory.current")
	return err == nil && serr == nil && files < size/filesPart
}

// relieve ends the largest process of the group, or all, and returns how many.
func (g *Group) relieve(all bool) (int, error) {
	pids, err := g.Pids()
	if err != nil || len(pids) == 0 {
		return 0, err
	}
	if all || len(pids) > maxSpared {
		return len(pids), g.Kill()
	}
	largest := slices.MaxFunc(pids, func(a, b int) int { return cmp.Compare(resident(a), resident(b)) })
	fd, err := unix.PidfdOpen(largest, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	// The number may have been given to another process meanwhile; now it cannot be.
	if pids, err = g.Pids(); err != nil || !slices.Contains(pids, largest) {
		return 0, err
	}
	return 1, unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

// resident is the number of pages that a process has in memory.
func resident(pid int) uint64 {
	data, err := readFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.ParseUint(fields[1], 10, 64)
	return n
}

// waits reads how long some, or all ("full"), processes of a group have waited for
// memory since it was made.
func waits(dir, who string) (time.Duration, error) {
	data, err := readFile(filepath.Join(dir, "memory.pressure"))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 || fields[0] != who {
			continue
		}
		if total, ok := strings.CutPrefix(fields[len(fields)-1], "total="); ok {
			usec, err := strconv.ParseInt(total, 10, 53)
			return time.Duration(usec) * time.Microsecond, err
		}
	}
	return 0, errors.New("memory.pressure has no total of " + who)
}

// readNumber reads a file that is one number.
func readNumber(dir, file string) (uint64, error) {
	data, err := readFile(filepath.Join(dir, file))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 64)
}

// living are the groups that were made and not removed.
func (t *Tree) living() []*Group {
	t.mu.Lock()
	defer t.mu.Unlock()
	groups := make([]*Group, 0, len(t.groups))
	for g := range t.groups {
		groups = append(groups, g)
	}
	return groups
}

func (t *Tree) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.groups) > 0 {
		return false
	}
	select {
	case <-t.busy: // of a group that has gone
	default:
	}
	return true
}

// hasPressure says whether the kernel counts waits for memory.
func hasPressure(root string) bool {
	_, err := os.Stat(filepath.Join(root, "memory.pressure"))
	return err == nil
}
