// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"fmt"
	"slices"
)

// State is where an environment is in its life.
type State string

// The states.
const (
	StateCreating State = "creating"
	StateRunning  State = "running"
	StateStopping State = "stopping"
	StateFailed   State = "failed"
	StateGone     State = "gone"
)

// States are those that an environment can be seen in.
func States() []State { return []State{StateCreating, StateRunning, StateStopping, StateFailed} }

// transitions is the whole life of an environment.
var transitions = map[State][]State{
	StateCreating: {StateRunning, StateFailed},
	StateRunning:  {StateStopping, StateFailed},
	StateFailed:   {StateStopping},
	StateStopping: {StateGone, StateFailed},
}

// check says whether a change is allowed.
func (s State) check(to State) error {
	if slices.Contains(transitions[s], to) {
		return nil
	}
	return fmt.Errorf("%w: from %s to %s", ErrInvalidTransition, s, to)
}

// holdsSlot says whether an environment in this state counts against the
// maximum: as long as its machine may use memory. A failed one has lost its
// machine.
func (s State) holdsSlot() bool {
	return s == StateCreating || s == StateRunning || s == StateStopping
}
