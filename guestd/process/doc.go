// SPDX-License-Identifier: Apache-2.0

// Package process is guestd's Process service: it starts commands, streams
// them, and ends them for certain.
//
// An exec is one goroutine (execution.run) from start to end. It owns the main
// process, the control group, the pipes and the spool; streams come and go and
// only read the spool through readers of their own. So a lost or stalled stream
// touches nothing, and a start that is sent twice finds the exec that the first
// one made.
//
// The end of an exec has stages, each with a deadline: SIGTERM to all and
// kill_grace, SIGKILL to all (at most killTime), and the rest of the output (at
// most drainTime, since a process outside the group may hold the pipe). Only
// then is exited published.
package process
