// SPDX-License-Identifier: Apache-2.0

// Package edge is the HTTP edge round mcp-go's Streamable HTTP server. It does
// what that server leaves to others: it checks Host and Origin, limits bodies,
// serves clients that send no session id as one-request sessions, carries
// notifications of a call on the response of that call and nowhere else, keeps
// long responses alive, and shuts down without cutting calls.
//
// It knows nothing of environments. Tools reach it through Notify, with the
// context of their call.
package edge
