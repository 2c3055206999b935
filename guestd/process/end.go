// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	// leftTime is what processes get that the main process left running.
	leftTime = 500 * time.Millisecond
	// drainTime bounds the wait for the end of the output once no process of the
	// exec is left: one outside the exec may hold the pipe.
	drainTime = 500 * time.Millisecond
	// killTime bounds the wait for processes that were sent SIGKILL. Only one
	// that is stuck in the kernel, on a dead disk for example, takes longer.
	killTime = 10 * time.Second
	// killPause is the time between two SIGKILLs, for the fallback to sessions,
	// where a fork may slip through.
	killPause = 200 * time.Millisecond
)

// supervise follows the processes from their start to the end of the last one.
func (x *execution) supervise() {
	exited := &guestv1.Exited{}
	timeout, stop := x.timeout()
	defer stop()
	select {
	case <-x.child.Done():
		x.spool.Unpace()
	case <-timeout:
		exited.TimedOut = true
		x.spool.Unpace() // or its last words would wait for a reader
		x.endAll()
	case <-x.end:
		exited.Cancelled = true
		x.spool.Unpace()
		x.endAll()
	}
	x.awaitMain()
	exited.Duration = durationpb.New(time.Since(x.startedAt))

	living := false
	if !exited.TimedOut && !exited.Cancelled {
		exited.LeftRunning, living = x.settle()
	}
	x.drain(living)
	x.complete(exited)
	if living {
		exited.Kept = true
		x.publishMain(exited)
		exited = x.background(timeout, exited)
	}
	x.cleanUp()
	x.publish(exited)
}

// timeout returns a channel that never fires when start has no timeout. Go's
// timers run on the monotonic clock.
func (x *execution) timeout() (<-chan time.Time, func()) {
	d := x.start.GetTimeout().AsDuration()
	if d <= 0 {
		return nil, func() {}
	}
	t := time.NewTimer(time.Until(x.startedAt.Add(d)))
	return t.C, func() { t.Stop() }
}

// endAll ends every process: SIGTERM, grace, SIGKILL.
func (x *execution) endAll() {
	x.mu.Lock()
	grace := x.grace
	x.mu.Unlock()
	if grace > 0 {
		// A stopped process acts on SIGTERM only when it is continued.
		for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGCONT} {
			if err := x.family.Signal(sig); err != nil {
				slog.Warn("exec is not signalled", "exec", x.id, "signal", sig, "err", err)
			}
		}
		if x.emptyWithin(grace) {
			return
		}
	}
	x.killAll()
}

// killAll sends SIGKILL until no process is left or killTime is over.
func (x *execution) killAll() {
	for deadline := time.Now().Add(killTime); time.Now().Before(deadline); {
		if err := x.family.Kill(); err != nil {
			slog.Warn("exec is not killed", "exec", x.id, "err", err)
		}
		if x.emptyWithin(killPause) {
			return
		}
	}
	slog.Error("processes outlive SIGKILL", "exec", x.id, "pid", x.pid())
}

func (x *execution) emptyWithin(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return x.family.WaitEmpty(ctx) == nil
}

// awaitMain waits for the status of the main process, which has ended or was
// sent SIGKILL.
func (x *execution) awaitMain() {
	t := time.NewTimer(killTime)
	defer t.Stop()
	select {
	case <-x.child.Done():
	case <-t.C:
	}
}

// settle deals with what the main process left running, and says whether it
// lives on.
func (x *execution) settle() (left uint32, living bool) {
	if x.start.GetKeepChildren() {
		if x.emptyWithin(0) {
			return 0, false
		}
		return x.count(), true
	}
	if x.emptyWithin(leftTime) {
		return 0, false
	}
	left = x.count()
	x.killAll()
	return left, false
}

func (x *execution) count() uint32 {
	pids, err := x.family.Pids()
	if err != nil {
		slog.Warn("processes of exec are not counted", "exec", x.id, "err", err)
	}
	return uint32(len(pids))
}

// drain takes the rest of the output. When processes live on, it takes what
// they have written so far and the pumps go on.
func (x *execution) drain(living bool) {
	t := time.NewTimer(drainTime)
	defer t.Stop()
	for _, p := range x.stdio.pumps {
		if living {
			p.flushNow()
			continue
		}
		select {
		case <-p.done:
		case <-t.C:
			t.Reset(0) // over for the next one too
			p.stopNow()
		}
	}
}

// complete fills in how the main process ended and what all have used.
func (x *execution) complete(exited *guestv1.Exited) {
	// A process that outlived SIGKILL has no status yet; what it will get is this.
	exited.Outcome = &guestv1.Exited_Signal{Signal: int32(unix.SIGKILL)}
	var usage unix.Rusage
	select {
	case <-x.child.Done():
		usage = x.child.Usage()
		if status := x.child.Status(); status.Signaled() {
			exited.Outcome = &guestv1.Exited_Signal{Signal: int32(status.Signal())}
			x.mu.Lock()
			exited.Cancelled = exited.Cancelled || x.sent[status.Signal()] && !exited.TimedOut
			x.mu.Unlock()
		} else {
			exited.Outcome = &guestv1.Exited_ExitCode{ExitCode: int32(status.ExitStatus())}
		}
	default:
	}
	x.account(exited, usage)
}

// account fills in what all processes have used so far. usage is the main one's,
// for where there are no control groups.
func (x *execution) account(exited *guestv1.Exited, usage unix.Rusage) {
	stats := x.family.Stats()
	exited.OomKilled = stats.OOMKills > 0
	exited.PidsExhausted = stats.ForksRefused > 0
	exited.FullFilesystems = fullFilesystems()
	exited.PeakMemoryBytes = stats.PeakMemory
	if stats.PeakMemory == 0 {
		exited.PeakMemoryBytes = uint64(usage.Maxrss) << 10 // getrusage(2): KiB
	}
	cpu := stats.CPU
	if cpu == 0 {
		cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	exited.CpuTime = durationpb.New(cpu)
}

// background waits for the kept children and returns the end of the exec, which
// began as main did. The timeout and a termination reach them as well.
func (x *execution) background(timeout <-chan time.Time, main *guestv1.Exited) *guestv1.Exited {
	ctx, cancel := context.WithCancel(context.Background())
	empty := make(chan struct{})
	go func() {
		defer close(empty)
		_ = x.family.WaitEmpty(ctx) // whatever it says, the wait is over
	}()
	exited := proto.CloneOf(main)
	exited.Kept = false
	ended := true // by itself
	select {
	case <-empty:
	case <-timeout:
		exited.TimedOut, ended = true, false
	case <-x.end:
		exited.Cancelled, ended = true, false
	}
	cancel()
	<-empty
	if !ended {
		x.endAll()
	}
	for _, p := range x.stdio.pumps {
		p.stopNow()
	}
	x.account(exited, x.child.Usage())
	return exited
}

// cleanUp closes and removes what the exec had of the machine.
func (x *execution) cleanUp() {
	x.stdio.close()
	if err := x.family.Remove(); err != nil {
		slog.Warn("control group is left behind", "exec", x.id, "err", err)
	}
}
