// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/stacklok/waggle/guestd/cgroup"
	"github.com/stacklok/waggle/guestd/process/spawn"
	"github.com/stacklok/waggle/guestd/process/spool"
	"github.com/stacklok/waggle/guestd/reap"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// family is every process of one exec: a cgroup.Group, or a cgroup.Session
// where there are no control groups.
type family interface {
	Pids() ([]int, error)
	Signal(sig unix.Signal) error
	Kill() error
	WaitEmpty(ctx context.Context) error
	Stats() cgroup.Stats
	Remove() error
}

// execution is one exec. Its goroutine is run.
type execution struct {
	service *Service
	id      string
	serial  uint64
	start   *guestv1.Start
	digest  [sha256.Size]byte
	command string // for people
	spool   *spool.Spool

	// Set by run before ready is closed, not changed after.
	ready     chan struct{}
	startedAt time.Time
	child     *reap.Child // nil: it was never started
	family    family
	stdio     *stdio

	end     chan struct{} // closed when somebody wants it to end
	endOnce sync.Once

	mu        sync.Mutex // after Service.mu
	followers int
	lost      *time.Timer // runs while nobody follows an exec that would end then
	grace     time.Duration
	sent      map[unix.Signal]bool
	main      *guestv1.Exited // the main process's end, set when others live on
	exited    *guestv1.Exited // the end of all, set once
	gone      bool            // no process is left, and nothing is to be done
	endedAt   time.Time       // when gone was set
}

func newExecution(s *Service, start *guestv1.Start, digest [sha256.Size]byte, serial uint64) *execution {
	limit := start.GetOutputLimitBytes()
	if limit == 0 {
		limit = defaultOutput
	}
	grace := defaultGrace
	if start.GetKillGrace() != nil {
		grace = start.GetKillGrace().AsDuration()
	}
	x := &execution{
		service: s,
		id:      start.GetExecId(),
		serial:  serial,
		start:   start,
		digest:  digest,
		command: preview(start),
		spool:   s.pool.New(limit),
		ready:   make(chan struct{}),
		end:     make(chan struct{}),
		grace:   grace,
		sent:    make(map[unix.Signal]bool),
	}
	if start.GetOutputPolicy() == guestv1.OutputPolicy_OUTPUT_POLICY_WAIT {
		x.spool.Pace()
	}
	return x
}

// digestOf identifies a command: all of start but the place to read from.
func digestOf(start *guestv1.Start) ([sha256.Size]byte, error) {
	same := proto.CloneOf(start)
	same.Cursor = nil
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(same)
	return sha256.Sum256(data), err
}

// preview returns the beginning of the command, cut between characters.
func preview(start *guestv1.Start) string {
	text := start.GetShell()
	if argv := start.GetArgv(); argv != nil {
		text = strings.Join(argv.GetArgs(), " ")
	}
	if len(text) <= commandPreview {
		return text
	}
	cut := commandPreview
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// run is the life of an exec.
func (x *execution) run() {
	defer x.service.release()
	defer x.setGone()
	x.startedAt = time.Now()
	err := x.launch()
	// They may be large, and the exec is kept for long.
	x.start.Command, x.start.Env = nil, nil
	close(x.ready)
	if err != nil {
		failure := spawn.NewFailure("start", err)
		x.publish(&guestv1.Exited{Outcome: &guestv1.Exited_SpawnFailure{SpawnFailure: failure.Proto()}})
		return
	}
	for _, p := range x.stdio.pumps {
		go p.run() // ended by finish
	}
	x.supervise()
}

// detachTime is what a client gets to come back whose stream has broken.
const detachTime = 2 * time.Second

// follow counts one more stream. Service.mu is held, so the exec cannot expire.
func (x *execution) follow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.followers++
	if x.lost != nil {
		x.lost.Stop()
	}
}

// unfollow counts a stream out. If start says so the exec ends when the last one
// is gone for detachTime.
func (x *execution) unfollow() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.followers--
	if x.followers == 0 && x.exited == nil && x.main == nil &&
		x.start.GetOnDetach() == guestv1.DetachPolicy_DETACH_POLICY_UNSPECIFIED {
		x.lost = time.AfterFunc(detachTime, x.endAbandoned)
	}
}

func (x *execution) endAbandoned() {
	x.mu.Lock()
	defer x.mu.Unlock()
	// The timer may have run out just as somebody came. Kept children live on.
	if x.followers == 0 && x.exited == nil && x.main == nil {
		x.requestEnd()
	}
}

// requestEnd asks run to end all processes. It does not wait.
func (x *execution) requestEnd() { x.endOnce.Do(func() { close(x.end) }) }

// setGrace changes the time between SIGTERM and SIGKILL, unless that has begun.
func (x *execution) setGrace(grace time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.grace = min(grace, maxGrace)
}

// alive says whether processes may be left. It is right once ready is closed.
func (x *execution) alive() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.child != nil && !x.gone
}

func (x *execution) setGone() {
	x.spool.CloseWrite()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.gone = true
	x.endedAt = time.Now()
}

// idleSince returns when the exec ended, if it has and nobody follows it.
func (x *execution) idleSince() (time.Time, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.endedAt, x.gone && x.followers == 0
}
