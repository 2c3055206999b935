// SPDX-License-Identifier: Apache-2.0

// Package environment is the life of environments: it creates them, runs code
// and installs packages in them, reads and writes their files, and ends them.
//
// An environment is a machine with its supervisor (host/supervisor) and a name.
// The supervisor is the truth about the machine and outlives this process; the
// Manager holds a stream to each and follows what happens. So a server may die
// and a later one adopts what it left, by listing the run directory.
//
// States: creating becomes running or failed; running becomes stopping or
// failed; failed becomes stopping; stopping becomes gone or failed. A slot is
// reserved before a machine boots, and given back when it is gone.
//
// Errors that a user can act on wrap one of the sentinels of errors.go.
package environment
