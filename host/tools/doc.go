// SPDX-License-Identifier: Apache-2.0

// Package tools are the MCP tools: one file each, with the types of its
// parameters and its result, from which the schemas are made. A tool is a plain
// typed function; register.go alone knows mcp-go's shape of it, and errors.go
// alone decides what a model is told of an error.
package tools
