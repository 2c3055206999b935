// SPDX-License-Identifier: Apache-2.0

// Package mcptest runs the official clients of MCP: the TypeScript SDKs of both eras
// of the protocol, the inspector and the conformance suite. Only tests import it.
package mcptest
