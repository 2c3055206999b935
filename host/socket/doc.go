// SPDX-License-Identifier: Apache-2.0

// Package socket is how Waggle's processes on one host talk: Connect over h2c on
// a Unix socket that only its owner can open. The supervisor's control API and
// the server's admin API both use it; it knows neither.
package socket
