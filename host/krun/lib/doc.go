// SPDX-License-Identifier: Apache-2.0

// Package lib calls libkrun, following include/libkrun.h of version 1.17.3. Only
// waggle-krun imports it: whoever does is linked dynamically.
//
// The order of the calls matters to libkrun (steps.go). krun_start_enter takes the
// calling thread and ends the process with the machine, so whatever has to be said
// is said before.
package lib
