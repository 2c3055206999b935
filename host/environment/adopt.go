// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"time"

	"github.com/stacklok/waggle/host/supervisor"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

// adoptTimeout is how long each supervisor has to answer.
const adoptTimeout = 5 * time.Second

// Adopt takes over machines that an earlier server left. They count against the
// maximum, even beyond it. It returns how many it took: a supervisor that does
// not answer, and one that somebody holds, is logged and left alone. The manager owns the machines from here
// on; Adopt is called before anything else.
func (m *Manager) Adopt(ctx context.Context, machines []*supervisor.Client) int {
	taken := 0
	for _, machine := range machines {
		if m.adopt(ctx, machine) {
			taken++
		} else {
			_ = machine.Close()
		}
	}
	return taken
}

func (m *Manager) adopt(ctx context.Context, machine *supervisor.Client) bool {
	infoCtx, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	i, err := machine.Info(infoCtx)
	if err != nil {
		m.log.Warn("supervisor does not answer; `waggle rm --all` removes what it left", "error", err)
		return false
	}
	phase := i.GetState().GetPhase()
	if phase == hostv1.Phase_PHASE_ENDED || checkID(i.GetId()) != nil {
		return false
	}
	if len(i.GetHolders()) > 0 { // of `waggle run`, or of another server
		m.log.Info("left an environment alone that somebody holds", "env", i.GetId(), "holders", i.GetHolders())
		return false
	}
	e := newEnvironment(Info{
		ID: i.GetId(), Name: i.GetName(), Owner: i.GetOwner(), Runtime: i.GetRuntime(), State: StateRunning,
		CreatedAt: i.GetCreatedAt().AsTime(), Idle: i.GetIdleTimeout().AsDuration(),
		CPUs: i.GetCpus(), MemoryMiB: i.GetMemoryMib(), DiskMiB: i.GetDiskMib(), Adopted: true,
	}, func(error) {})
	e.key, e.keySum = i.GetKey(), i.GetKeySum()
	e.info.describe(i)
	e.machine = machine
	close(e.settled)
	switch phase {
	case hostv1.Phase_PHASE_RUNNING:
	case hostv1.Phase_PHASE_STOPPING:
		e.info.State = StateStopping
	default:
		e.info.State = StateCreating
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.envs[e.id] = e
	m.watch(e, machine)
	m.log.Info("adopted an environment of an earlier server", "env", e.id, "state", e.info.State)
	return true
}

// Remember says of an environment that ended under an earlier server, and that
// nothing can be called on, why it ended: its owner, who names it, learns that.
func (m *Manager) Remember(id, owner, cause string) {
	if checkID(id) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rememberLocked(ending{id, owner, cause})
}
