// SPDX-License-Identifier: Apache-2.0

// Package vmtest tests Waggle as its users meet it: the built programs, real
// machines, real HTTP. Only tests import it.
package vmtest
