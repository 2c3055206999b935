// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	defaultInterval = time.Second
	minInterval     = 100 * time.Millisecond
	// tickTime is the unit of /proc/stat: USER_HZ is 100 for every program.
	tickTime = 10 * time.Millisecond
)

// Metrics streams measurements, the first one at once.
func (s *Service) Metrics(
	ctx context.Context, req *connect.Request[guestv1.SystemMetricsRequest],
	stream *connect.ServerStream[guestv1.SystemMetricsResponse],
) error {
	interval := defaultInterval
	if d := req.Msg.GetInterval(); d != nil {
		interval = d.AsDuration()
		if !d.IsValid() || interval < minInterval {
			return connect.NewError(connect.CodeInvalidArgument, errors.New("interval: must be at least 100 ms"))
		}
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := stream.Send(measure()); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ending:
			return nil
		}
	}
}

// measure leaves empty what cannot be read, as Info does.
func measure() *guestv1.SystemMetricsResponse {
	res := &guestv1.SystemMetricsResponse{Time: timestamppb.Now(), Tasks: tasks()}
	_, res.MemoryAvailableBytes = memory()
	_, res.DiskFreeBytes = disk()
	if data, err := os.ReadFile("/proc/stat"); err == nil {
		res.CpuTime = durationpb.New(busyTime(data))
	}
	if data, err := os.ReadFile("/proc/net/dev"); err == nil {
		res.NetworkReceivedBytes, res.NetworkSentBytes = traffic(data)
	}
	return res
}

// busyTime reads the first line of proc_stat(5): user nice system idle iowait
// irq softirq steal. Guest time, which follows, is part of user.
func busyTime(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	var ticks uint64
	for i := 1; i < len(fields) && i <= 8; i++ {
		if i == 4 || i == 5 {
			continue // idle, and idle while a disk works
		}
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * tickTime
}

// traffic adds up /proc/net/dev without the loopback: bytes are the first and
// the ninth number of a line.
func traffic(dev []byte) (received, sent uint64) {
	for line := range bytes.Lines(dev) {
		name, numbers, ok := strings.Cut(string(line), ":")
		fields := strings.Fields(numbers)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		in, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			continue
		}
		out, err := strconv.ParseUint(fields[8], 10, 64)
		if err != nil {
			continue
		}
		received += in
		sent += out
	}
	return received, sent
}
