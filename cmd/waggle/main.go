// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/sirupsen/logrus"

	"github.com/stacklok/waggle/host/guest"
	"github.com/stacklok/waggle/host/supervisor"
)

// cli is the command line: one struct for each command, one file for each
// struct.
type cli struct {
	Serve     serveCmd     `cmd:"" help:"Serve MCP."`
	MCP       mcpCmd       `cmd:"" name:"mcp" help:"Serve MCP on standard input and output, for clients that start a command."`
	Run       runCmd       `cmd:"" help:"Run a command in a machine of its own, without a server."`
	Status    statusCmd    `cmd:"" help:"Say how the server is."`
	Ps        psCmd        `cmd:"" help:"List environments."`
	Exec      execCmd      `cmd:"" help:"Run a command in an environment."`
	Shell     shellCmd     `cmd:"" help:"Open a shell in an environment."`
	Attach    attachCmd    `cmd:"" help:"Follow a command that runs, or return to a shell."`
	Kill      killCmd      `cmd:"" help:"End a command with all its processes, or signal it."`
	Top       topCmd       `cmd:"" help:"Show what an environment is doing."`
	Cp        cpCmd        `cmd:"" help:"Copy files and directories to and from an environment."`
	Ls        lsCmd        `cmd:"" help:"List files of an environment."`
	Cat       catCmd       `cmd:"" help:"Print files of an environment."`
	Forward   forwardCmd   `cmd:"" help:"Make a port of an environment reachable on this host."`
	Logs      logsCmd      `cmd:"" help:"Print the console of an environment."`
	Rm        rmCmd        `cmd:"" help:"End environments, and remove what is left of dead ones."`
	Image     imageCmd     `cmd:"" help:"Work with the local image store."`
	Doctor    doctorCmd    `cmd:"" help:"Say what is missing on this machine, and how to mend it."`
	Version   versionCmd   `cmd:"" help:"Print the version and the protocol range."`
	FetchKrun fetchKrunCmd `cmd:"" hidden:"" help:"Install libkrun and libkrunfw for Waggle alone."`
	Supervise superviseCmd `cmd:"" hidden:"" help:"Own one machine."`
}

func main() {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	logrus.SetLevel(logrus.WarnLevel) // containers/image would tell of each retry, into our progress
	var c cli
	parsed := kong.Parse(&c,
		kong.Name("waggle"),
		kong.Description("Isolated coding environments for AI agents: each one a microVM booted from an OCI image."),
		kong.ShortUsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Exit(func(code int) { // kong's own, before a command runs
			if code != 0 {
				code = usageCode(os.Args[1:])
			}
			os.Exit(code)
		}),
	)
	err := parsed.Run()
	name, _, _ := strings.Cut(parsed.Command(), " ")
	code, show := exitCode(ctx, name, err)
	if show {
		parsed.Errorf("%s", complaint(err))
	}
	os.Exit(code)
}

// complaint is an error for people: the guest wrote part of it, so it is made safe for
// a terminal too.
func complaint(err error) string { return supervisor.Printable(guest.Text(err)) }
