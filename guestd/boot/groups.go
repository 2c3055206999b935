// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The control groups: guestd's own, and beside it the one of all commands, which
// package cgroup divides further.
const (
	groupRoot     = "/sys/fs/cgroup"
	waggleGroup   = groupRoot + "/waggle"
	agentGroup    = waggleGroup + "/agent"
	workloadGroup = waggleGroup + "/exec"
)

const (
	// minReserve and maxReserve bound what is left of the memory to guestd and the
	// kernel beside what they have at the start; in between it is 1/reservePart. A
	// fork bomb takes memory of the kernel's that is charged to no group: were that
	// all of the rest, the kernel would take guestd's pages away to find some, and
	// guestd would stand still until somebody is killed. Seen with 512 MiB: 1300
	// processes, 15 MiB.
	minReserve  = 48 << 20
	maxReserve  = 256 << 20
	reservePart = 12
	// agentMemory is never taken from guestd to make room for others.
	agentMemory = 32 << 20
	// agentWeight is guestd's share of the CPU against 100 of all commands.
	agentWeight = 10000
)

// divide puts guestd into a group of its own and gives the group of the commands
// its limits, so that commands which take all that they can get leave guestd what
// it needs to end them. A machine without control groups is left as it is. It may
// be called again.
func divide(log *slog.Logger) {
	var fs unix.Statfs_t
	if unix.Statfs(groupRoot, &fs) != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return
	}
	for _, dir := range []string{groupRoot, waggleGroup} {
		if err := makeGroup(dir); err != nil {
			log.Warn("control group not made", slog.String("path", dir), slog.Any("err", err))
		}
		for _, controller := range []string{"cpu", "memory", "pids"} {
			apply([]setting{{dir + "/cgroup.subtree_control", "+" + controller}}, log)
		}
	}
	limits, err := workloadLimits()
	if err != nil {
		log.Warn("no limits for commands", slog.Any("err", err))
	}
	for _, dir := range []string{agentGroup, workloadGroup} {
		if err := makeGroup(dir); err != nil {
			log.Warn("control group not made", slog.String("path", dir), slog.Any("err", err))
		}
	}
	protected := strconv.Itoa(agentMemory)
	apply(append(limits,
		// A group is promised at most what the group above it is.
		setting{waggleGroup + "/memory.min", protected},
		setting{agentGroup + "/memory.min", protected},
		setting{agentGroup + "/cpu.weight", strconv.Itoa(agentWeight)},
		setting{agentGroup + "/cgroup.procs", strconv.Itoa(os.Getpid())},
	), log)
}

func makeGroup(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// workloadLimits is what all commands may have together.
func workloadLimits() ([]setting, error) {
	available, err := memoryAvailable()
	if err != nil {
		return nil, err
	}
	threads, err := readNumber("/proc/sys/kernel/threads-max")
	if err != nil {
		return nil, err
	}
	pids, err := readNumber("/proc/sys/kernel/pid_max")
	if err != nil {
		return nil, err
	}
	reserve := min(max(available/reservePart, minReserve), maxReserve)
	tasks := min(threads, pids)
	return []setting{
		{workloadGroup + "/memory.max", strconv.FormatUint(available-min(reserve, available/2), 10)},
		{workloadGroup + "/memory.swap.max", "0"},
		{workloadGroup + "/pids.max", strconv.FormatUint(tasks/2, 10)},
	}, nil
}

func readNumber(path string) (uint64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}

// memoryAvailable is what the machine could give to commands now, in bytes.
func memoryAvailable() (uint64, error) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "MemAvailable:" {
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo has no MemAvailable")
}
