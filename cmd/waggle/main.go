// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line: one struct for each command, one file for each
// struct.
type cli struct {
	Image imageCmd `cmd:"" help:"Manage the local image store."`

	Doctor  doctorCmd  `cmd:"" help:"Say what is missing on this machine, and how to mend it."`
	Version versionCmd `cmd:"" help:"Print the version and the protocol range."`
}

// main gives every command a context that the first SIGINT or SIGTERM ends; a
// second one kills the process, because by then somebody means it.
func main() {
	sigCtx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(sigCtx, stop)

	var c cli
	ctx := kong.Parse(&c,
		kong.BindTo(sigCtx, (*context.Context)(nil)),
		kong.Name("waggle"),
		kong.Description("Isolated coding environments for AI agents: each one a microVM booted from an OCI image."),
		kong.UsageOnError(),
	)
	ctx.FatalIfErrorf(ctx.Run())
}
