// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/alecthomas/kong"
)

// cli is the command line: one struct for each command, one file for each
// struct.
type cli struct {
	Version versionCmd `cmd:"" help:"Print the version and the protocol range."`
}

func main() {
	var c cli
	ctx := kong.Parse(&c,
		kong.Name("waggle"),
		kong.Description("Isolated coding environments for AI agents: each one a microVM booted from an OCI image."),
		kong.UsageOnError(),
	)
	ctx.FatalIfErrorf(ctx.Run())
}
