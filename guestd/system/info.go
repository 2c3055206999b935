// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// Info describes the machine. What cannot be read is left empty: a description
// with a gap is worth more than none.
func (s *Service) Info(
	context.Context, *connect.Request[guestv1.SystemInfoRequest],
) (*connect.Response[guestv1.SystemInfoResponse], error) {
	calls, idle := s.cfg.Meter.Activity()
	info := &guestv1.SystemInfoResponse{
		Agent:              Agent(s.cfg.Machine),
		BootPhases:         Phases(s.cfg.Machine),
		Now:                timestamppb.Now(),
		AgentResidentBytes: residentBytes(),
		RunningExecs:       uint32(s.cfg.Execs.Running()),
		ActiveCalls:        uint32(calls),
		Idle:               durationpb.New(idle),
		Os:                 prettyName(),
		AgentGoroutines:    uint32(runtime.NumGoroutine()),
		AgentDescriptors:   uint32(countEntries("/proc/self/fd")),
		Cpus:               uint32(runtime.NumCPU()),
	}
	info.MemoryTotalBytes, info.MemoryAvailableBytes = memory()
	info.DiskTotalBytes, info.DiskFreeBytes = disk()
	info.Tasks = tasks()
	if s.cfg.Tree != nil {
		if n, err := s.cfg.Tree.Count(); err == nil {
			info.ExecCgroups = uint32(n)
		}
	}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil {
		info.Uptime = durationpb.New(time.Duration(now.Nano()))
	}
	if host, err := os.Hostname(); err == nil {
		info.Hostname = host
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		info.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	return connect.NewResponse(info), nil
}

// memory reads the total and the available memory, in bytes.
func memory() (total, available uint64) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(data) {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		n, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			total = n << 10
		case "MemAvailable:":
			available = n << 10
		}
	}
	return total, available
}

// disk returns size and free bytes of the root file system; an overlay answers
// for its upper layer.
func disk() (total, free uint64) {
	var st unix.Statfs_t
	if unix.Statfs("/", &st) != nil {
		return 0, 0
	}
	return st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize)
}

func residentBytes() uint64 {
	data, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// tasks counts processes and threads: the number after the slash in
// /proc/loadavg.
func tasks() uint32 {
	data, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 4 {
		return 0
	}
	_, count, _ := strings.Cut(fields[3], "/")
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

func countEntries(dir string) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	return len(entries)
}

// prettyName reads PRETTY_NAME of os-release(5).
func prettyName() string {
	file, err := os.Open("/etc/os-release")
	if err != nil {
		return ""
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for range 100 { // the file is the image's
		if !lines.Scan() {
			return ""
		}
		if value, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			if plain, err := strconv.Unquote(value); err == nil {
				return plain
			}
			return strings.Trim(value, `'"`)
		}
	}
	return ""
}
