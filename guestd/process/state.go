// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/stacklok/waggle/guestd/process/spool"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// publishMain makes the main process's end known, while others live on. Streams
// that follow it alone end once they have the output until now.
func (x *execution) publishMain(exited *guestv1.Exited) {
	x.mu.Lock()
	x.main = exited
	x.mu.Unlock()
	x.spool.Mark()
}

// publish makes the end known. Streams end once they have all output.
func (x *execution) publish(exited *guestv1.Exited) {
	x.mu.Lock()
	x.exited = exited
	x.mu.Unlock()
	x.spool.End()
}

// outcome returns the end with the counts of the output, nil while it runs; that of
// the main process alone where the output ends with it.
func (x *execution) outcome(t spool.Totals) *guestv1.Exited {
	x.mu.Lock()
	exited := x.exited
	if t.Marked {
		exited = x.main
	}
	x.mu.Unlock()
	if exited == nil {
		return nil
	}
	exited = proto.CloneOf(exited)
	exited.StdoutBytes, exited.StdoutDroppedBytes = t.Written[spool.Stdout], t.Dropped[spool.Stdout]
	exited.StderrBytes, exited.StderrDroppedBytes = t.Written[spool.Stderr], t.Dropped[spool.Stderr]
	return exited
}

func (x *execution) info() *guestv1.ExecInfo {
	totals := x.spool.Totals()
	info := &guestv1.ExecInfo{
		ExecId:      x.id,
		Command:     x.command,
		Exited:      x.outcome(totals),
		Pty:         x.start.GetPty() != nil,
		StdoutBytes: totals.Written[spool.Stdout],
		StderrBytes: totals.Written[spool.Stderr],
	}
	select {
	case <-x.ready:
		info.Pid = x.pid()
		info.StartedAt = timestamppb.New(x.startedAt)
		info.Processes = x.living()
	default: // it is being started
	}
	x.mu.Lock()
	info.Followers = uint32(x.followers)
	x.mu.Unlock()
	if marked, ok := x.spool.Marked(); ok && info.Exited == nil {
		info.MainExited = x.outcome(marked)
	}
	return info
}

// living counts the processes. It may be called after ready is closed.
func (x *execution) living() uint32 {
	if !x.alive() {
		return 0
	}
	pids, err := x.family.Pids()
	if err != nil {
		return 0 // it has ended just now
	}
	return uint32(len(pids))
}

// pid may be called after ready is closed.
func (x *execution) pid() int32 {
	if x.child == nil {
		return 0
	}
	return int32(x.child.Pid())
}
