// SPDX-License-Identifier: Apache-2.0

// Package stdio carries MCP's stdio transport (MCP 2025-11-25 and 2026-07-28,
// "Transports": one JSON-RPC message a line) to the HTTP endpoint of a server, so that
// there is one implementation of everything that a call means.
//
// A request is a POST of its own, as many at once as the client sends; what comes back
// on it is written as it comes, a line each. Cancelling a request ends its POST, by
// which the server ends the call. When the server was restarted the session is begun
// anew, without the client knowing.
package stdio
