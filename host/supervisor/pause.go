// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

const (
	// pauseLook is how often a paused machine's disk is looked at.
	pauseLook = time.Second
	// resumeFree is the space with which it goes on, in bytes: enough that it is
	// not paused again at once.
	resumeFree = 64 << 20
	// resumeAnyway is when it is tried whatever the file system says of its
	// space: a quota does not show there.
	resumeAnyway = 30 * time.Second
)

// pause says whether the VMM has stopped the guest because the host's disk is full.
type pause struct {
	mu      sync.Mutex
	paused  bool
	hook    func()        // called, under mu, when a pause begins; may be nil
	changed chan struct{} // has room for one
}

// set is what the backend calls.
func (p *pause) set(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == paused {
		return
	}
	p.paused = paused
	if paused && p.hook != nil {
		p.hook()
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// onPause has f called when a pause begins, until unhook.
func (p *pause) onPause(f func()) (unhook func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = f
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.hook = nil
	}
}

func (p *pause) now() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused
}

// diskFull is the reason of a pause.
func (s *supervisor) diskFull() error {
	return fmt.Errorf("the host's disk is full: free at least %s for %s, and it goes on by itself",
		humanize.IBytes(resumeFree), filepath.Dir(s.spec.ScratchPath))
}

// enterPause tells everybody of a pause that has begun or ended.
func (s *supervisor) enterPause() {
	st := &hostv1.State{Phase: hostv1.Phase_PHASE_RUNNING}
	if s.pause.now() {
		st.Paused = s.diskFull().Error()
		s.log.Warn("paused", slog.String("why", st.GetPaused()))
	} else {
		s.log.Info("goes on after a pause")
	}
	s.history.add(st)
}

// tryResume lets a paused machine go on when there may be space. last is when that
// was done before; the new value is returned.
func (s *supervisor) tryResume(m *machine, last time.Time) time.Time {
	if !s.pause.now() {
		return last
	}
	var fs unix.Statfs_t
	err := unix.Statfs(filepath.Dir(s.spec.ScratchPath), &fs)
	if (err != nil || fs.Bavail*uint64(fs.Bsize) < resumeFree) && time.Since(last) < resumeAnyway {
		return last
	}
	if err := m.vm.Resume(); err != nil {
		s.log.Warn("machine stays paused", slog.Any("error", err))
	}
	return time.Now()
}
