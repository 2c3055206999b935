// SPDX-License-Identifier: Apache-2.0

// waggle-krun is the process that libkrun runs a machine in. `waggle supervise`
// starts it; by hand it is of no use. It has two stages: the first shuts itself in
// (host/krun/jail) and executes the second, which loads libkrun (host/krun/lib) and
// gives it the process. host/krun/spec has what it is told, and how.
//
// It is the only dynamic program of Waggle's, and needs no C compiler to build.
package main
