// SPDX-License-Identifier: Apache-2.0

// Package system implements waggle.guest.v1.System: what the machine is, and
// what only its host knows of it. What changes the machine goes through
// boot.Machine, and fails with FailedPrecondition without one.
package system
