// SPDX-License-Identifier: Apache-2.0

// Package spec is what the supervisor tells waggle-krun, and how: the two are
// built together and travel together, so it has no versions.
//
// waggle-krun has two stages. The first (`waggle-krun`) gets a Machine whose paths
// are the host's, and builds the jail. The second (`waggle-krun enter`) gets a
// Machine whose paths are those inside, and calls libkrun. Both get it as JSON on
// the descriptor SpecFD, read to its end.
package spec
