// SPDX-License-Identifier: Apache-2.0

// Command waggle gives AI agents their own isolated coding environments, each a
// microVM booted from an OCI image. This package is the only wiring: it reads
// flags and WAGGLE_* variables and hands plain options to the packages of host.
package main
