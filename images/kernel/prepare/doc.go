// SPDX-License-Identifier: Apache-2.0

// Package prepare turns Debian's cloud kernel package into what host/qemu
// boots: an uncompressed kernel and the few modules that a Waggle guest needs,
// in load order. The package is downloaded and unpacked, never installed, and
// no privileges are needed.
//
// The layout below Options.Out, which host/qemu relies on:
//
//	<version>-<input hash>/vmlinux            ELF with a PVH entry (arm64: Image)
//	<version>-<input hash>/modules/NN-name.ko load order is the lexical order
//	<version>-<input hash>/kernel.json        Kernel, as JSON
//	current                                   symbolic link to the newest one
//
// A directory is complete from the moment it has its name, and is never
// changed afterwards: machines may be booting from it.
package prepare
