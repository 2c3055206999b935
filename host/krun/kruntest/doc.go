// SPDX-License-Identifier: Apache-2.0

// Package kruntest builds the double of libkrun in host/krun/testdata/double, for
// tests of all that stands in front of the real one. The double records every call,
// answers as libkrun 1.17.3 does, and starts guestd where a machine would start.
package kruntest
