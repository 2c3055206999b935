// SPDX-License-Identifier: Apache-2.0

// Package system implements waggle.guest.v1.System: what the machine is, and
// what only its host knows of it. Calls that change the machine go through
// boot.Machine, and fail with FailedPrecondition without one.
package system
