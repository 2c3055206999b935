// SPDX-License-Identifier: Apache-2.0

package supervisor

// StartTime lets a test name a process as the supervisor does.
var StartTime = startTime

// HoldScratch lets a test be in the middle of making a disk.
var HoldScratch = holdScratch
