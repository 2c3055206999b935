// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line: one struct for each command, one file for each
// struct.
type cli struct {
	Serve     serveCmd     `cmd:"" help:"Serve MCP."`
	Run       runCmd       `cmd:"" help:"Run a command in a machine of its own, without a server."`
	Status    statusCmd    `cmd:"" help:"Say how the server is."`
	Ps        psCmd        `cmd:"" help:"List environments."`
	Exec      execCmd      `cmd:"" help:"Run a command in an environment."`
	Logs      logsCmd      `cmd:"" help:"Print the console of an environment."`
	Rm        rmCmd        `cmd:"" help:"End environments, and remove what is left of dead ones."`
	Image     imageCmd     `cmd:"" help:"Work with the local image store."`
	Doctor    doctorCmd    `cmd:"" help:"Say what is missing on this machine, and how to mend it."`
	Version   versionCmd   `cmd:"" help:"Print the version and the protocol range."`
	Supervise superviseCmd `cmd:"" hidden:"" help:"Own one machine."`
}

func main() {
	// The first signal ends what runs, in order; a second one kills waggle.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var c cli
	parsed := kong.Parse(&c,
		kong.Name("waggle"),
		kong.Description("Isolated coding environments for AI agents: each one a microVM booted from an OCI image."),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	err := parsed.Run()
	var code exitError
	switch {
	case errors.As(err, &code):
		if err.Error() != code.Error() { // the clean-up failed too
			parsed.Errorf("%s", err)
		}
		os.Exit(int(code))
	case err != nil && ctx.Err() != nil:
		os.Exit(exitInterrupt)
	}
	// An error of a command is not one of its usage.
	if err != nil {
		parsed.Errorf("%s", err)
		os.Exit(1)
	}
}
