// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// startOrFind returns the exec of that id with one more follower, and starts it
// when there is none.
func (s *Service) startOrFind(start *guestv1.Start) (x *execution, existing bool, err error) {
	digest, err := digestOf(start)
	if err != nil {
		return nil, false, invalid("start", "%v", err)
	}
	s.expire()
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.byID[start.GetExecId()]; x != nil {
		if x.digest != digest {
			return nil, false, connect.NewError(connect.CodeAlreadyExists,
				fmt.Errorf("exec_id: %q was used for another command; choose a new one", x.id))
		}
		x.follow()
		return x, true, nil
	}
	if s.closed {
		return nil, false, connect.NewError(connect.CodeUnavailable, errors.New("the machine is shutting down"))
	}
	if s.running >= s.cfg.MaxExecs {
		return nil, false, connect.NewError(connect.CodeResourceExhausted,
			fmt.Errorf("%d execs run already; wait for one or end one", s.running))
	}
	s.serial++
	x = newExecution(s, start, digest, s.serial)
	x.follow()
	s.byID[x.id] = x
	s.order = append(s.order, x)
	s.running++
	s.heap.fit(s.running)
	if s.cfg.Activity != nil {
		s.cfg.Activity.Begin()
	}
	s.execs.Go(x.run)
	return x, false, nil
}

// find returns the exec of that id.
func (s *Service) find(id string) (*execution, error) {
	if err := checkID("exec_id", id); err != nil {
		return nil, err
	}
	s.expire()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.findLocked(id)
}

// findAndFollow is find with one more follower.
func (s *Service) findAndFollow(id string) (*execution, error) {
	if err := checkID("exec_id", id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.findLocked(id)
	if err == nil {
		x.follow()
	}
	return x, err
}

func (s *Service) findLocked(id string) (*execution, error) {
	x := s.byID[id]
	if x == nil {
		return nil, connect.NewError(connect.CodeNotFound,
			fmt.Errorf("exec_id: no exec %q, or it is no longer kept", id))
	}
	return x, nil
}

// release is called once for each exec, when nothing of it runs any more.
func (s *Service) release() {
	s.mu.Lock()
	s.running--
	s.heap.fit(s.running)
	s.mu.Unlock()
	if s.cfg.Activity != nil {
		s.cfg.Activity.End()
	}
	s.expire()
}

// expire forgets ended execs beyond KeepCount, oldest first, and those older
// than KeepAge, but none that is followed.
func (s *Service) expire() {
	for _, x := range s.takeExpired(time.Now()) {
		x.spool.Remove()
	}
}

func (s *Service) takeExpired(now time.Time) []*execution {
	s.mu.Lock()
	defer s.mu.Unlock()
	surplus := len(s.order) - s.running - s.cfg.KeepCount
	var gone []*execution
	for _, x := range s.order {
		at, idle := x.idleSince()
		if idle && (surplus > 0 || now.Sub(at) > s.cfg.KeepAge) {
			surplus--
			gone = append(gone, x)
			delete(s.byID, x.id)
		}
	}
	if len(gone) > 0 {
		s.order = slices.DeleteFunc(s.order, func(x *execution) bool { return s.byID[x.id] != x })
	}
	return gone
}

// reclaim forgets the oldest exec that has ended and is not followed, for the
// bytes of its spool. As with expire, a start of that id would run again.
func (s *Service) reclaim() bool {
	s.mu.Lock()
	at := slices.IndexFunc(s.order, func(x *execution) bool {
		_, idle := x.idleSince()
		return idle && !x.spool.Empty()
	})
	if at < 0 {
		s.mu.Unlock()
		return false
	}
	x := s.order[at]
	s.order = slices.Delete(s.order, at, at+1)
	delete(s.byID, x.id)
	s.mu.Unlock()
	x.spool.Remove()
	return true
}
