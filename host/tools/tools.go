// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mark3labs/mcp-go/server"

	"github.com/stacklok/waggle/host/environment"
)

const instructions = `Waggle gives you isolated Linux environments, each a virtual machine of its own.
Start with create_environment and keep the environment_id that it returns: every other tool takes it.
State lives in files and installed packages; each execute is a new process, so variables do not carry over.
What runs long or serves goes in the background: execute with background, then get_execution and cancel_execution.
Long output and files are resources too: waggle://env/ID/exec/EXECUTION_ID/stdout and waggle://env/ID/files/PATH.
Files belong below the working directory of execute, which create_environment returns: ` + environment.Home + ` but for some images.
End an environment with destroy_environment when you are done; an idle one ends by itself.`

// Config says what the tools work on. Manager is required.
type Config struct {
	Manager *environment.Manager
	// Notify sends a notification to the caller of the call that ctx belongs
	// to. Nil: there is no progress.
	Notify func(ctx context.Context, method string, params any) error
	// Preview is the address of a port of an environment for the caller that ctx
	// belongs to, and when it ends to be good. Nil: there are none.
	Preview func(ctx context.Context, environment string, port int) (address string, until time.Time, err error)
	// Call is told of each call of a tool, and done of its outcome: one of the
	// constants. May be nil.
	Call func(tool string) (done func(outcome string))
	// Version of the server.
	Version string
	// Logger may be nil.
	Logger *slog.Logger
}

// Outcomes of calls.
const (
	OutcomeResult    = "result"
	OutcomeError     = "error" // of the caller, or of an environment
	OutcomeCancelled = "cancelled"
	OutcomeFault     = "fault" // a bug of this server
)

type tools struct {
	manager *environment.Manager
	begun   func(tool string) (done func(outcome string))
	preview func(ctx context.Context, environment string, port int) (string, time.Time, error)
	notify  func(ctx context.Context, method string, params any) error
	log     *slog.Logger
}

// New returns an MCP server with all tools.
func New(cfg Config) (*server.MCPServer, error) {
	if cfg.Manager == nil {
		return nil, errors.New("tools: Config.Manager is required")
	}
	t := &tools{manager: cfg.Manager, notify: cfg.Notify, begun: cfg.Call, preview: cfg.Preview, log: cfg.Logger}
	if t.preview == nil {
		t.preview = func(context.Context, string, int) (string, time.Time, error) {
			return "", time.Time{}, errors.New("this server has no previews")
		}
	}
	if t.begun == nil {
		t.begun = func(string) func(string) { return func(string) {} }
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.notify == nil {
		t.notify = func(context.Context, string, any) error { return nil }
	}
	// Inputs are checked by decode, in words that a model can act on; mcp-go's
	// own check of them prints Go structures.
	s := server.NewMCPServer("waggle", cfg.Version,
		server.WithTitle("Waggle"),
		server.WithInstructions(instructions),
		server.WithToolCapabilities(false),
		server.WithResourceCapabilities(false, false),
		server.WithHooks(t.resourceHooks()),
		server.WithOutputSchemaValidation(),
		server.WithRecovery(),
	)
	if err := errors.Join(
		register(s, t, createEnvironment, t.createEnvironment),
		register(s, t, destroyEnvironment, t.destroyEnvironment),
		register(s, t, listEnvironments, t.listEnvironments),
		register(s, t, getEnvironment, t.getEnvironment),
		register(s, t, execute, t.execute),
		register(s, t, getExecution, t.getExecution),
		register(s, t, cancelExecution, t.cancelExecution),
		register(s, t, installPackages, t.installPackages),
		register(s, t, writeFile, t.writeFile),
		register(s, t, readFile, t.readFile),
		register(s, t, editFile, t.editFile),
		register(s, t, listFiles, t.listFiles),
		register(s, t, exposePort, t.exposePort),
	); err != nil {
		return nil, err
	}
	t.addResources(s)
	return s, nil
}
