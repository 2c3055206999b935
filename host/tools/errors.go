// SPDX-License-Identifier: Apache-2.0

package tools

import (
	"context"
	"errors"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/stacklok/waggle/host/environment"
)

// next says what a model can do about each error that is not a bug. The first
// that matches counts.
var next = []struct {
	err  error
	step string
}{
	{environment.ErrInvalidRuntime, "Call again with one of the names listed."},
	{environment.ErrInvalidArgument, "Correct the parameter and call again."},
	{environment.ErrMaxEnvironments, "End one that is no longer needed with destroy_environment (list_environments shows them), or reuse one. The limit is WAGGLE_MAX_ENVIRONMENTS of the server."},
	{environment.ErrNotFound, "list_environments shows those that exist; create_environment makes a new one. Files of an environment that has ended are gone."},
	{environment.ErrNotRunning, "list_environments shows its state. If it failed, destroy it and create a new one."},
	{environment.ErrInvalidTransition, "list_environments shows its state; wait a moment and call again."},
	{environment.ErrCreate, "Nothing was left behind. If the cause names a remedy, the person who runs the server can apply it; `waggle doctor` checks the machine."},
	{environment.ErrDestroy, "Call destroy_environment again; the person who runs the server can use `waggle rm`."},
	{environment.ErrLost, "list_environments shows whether it still runs. If it does, call again; otherwise create a new one."},
	{environment.ErrPaused, "Nothing is lost. Call again when the person who runs the server has applied the remedy; destroy_environment works meanwhile."},
	{environment.ErrNoInterpreter, "Install it with install_packages if the image has a package manager, name another language, or create an environment of that runtime."},
	{environment.ErrNoExecution, "Run it with execute: an execution is kept for a while after its end, in the environment that it ran in."},
	{environment.ErrSpawn, "The environment may be out of processes or memory: end what runs in it, or create a new one."},
	{environment.ErrNoManager, "Name one that the image has, or leave manager out for the one of the runtime. npm packages need an environment of the runtime node, pip packages one of python."},
	{environment.ErrInstall, "Correct the cause and call again."},
	{environment.ErrFileNotFound, "list_files shows what is there."},
	{environment.ErrFilePermission, "Code and files belong to an ordinary user: use paths below its working directory or home (" + environment.Home + "), or /tmp."},
	{environment.ErrFileKind, "list_files shows which paths are files and which are directories."},
	{environment.ErrNotText, "Read it with encoding base64, or with a program, by execute."},
	{environment.ErrEdit, "Nothing was changed. read_file shows the text as it is."},
	{environment.ErrNoSpace, "Remove files that are no longer needed."},
	{environment.ErrNoPort, "Start the server in the environment, in the background, and call again."},
	{environment.ErrUnsupported, "Use execute with shell commands instead."},
}

// nextStep returns what can be done about an error that is not a bug.
func nextStep(err error) (step string, ok bool) {
	for _, n := range next {
		if errors.Is(err, n.err) {
			return n.step, true
		}
	}
	return "", false
}

func isCancelled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// outcomeOf names the outcome of a call as present puts it.
func outcomeOf(err error) string {
	_, known := nextStep(err)
	switch {
	case err == nil:
		return OutcomeResult
	case known:
		return OutcomeError
	case isCancelled(err):
		return OutcomeCancelled
	}
	return OutcomeFault
}

// present is the one place where errors are put before a model: cause and next
// step in words as a tool result, or, for a bug, an error of the protocol.
func (t *tools) present(tool string, err error) (*mcp.CallToolResult, error) {
	if step, ok := nextStep(err); ok {
		t.log.Info("tool call failed", "tool", tool, "error", err)
		return mcp.NewToolResultError(err.Error() + "\n" + step), nil
	}
	if isCancelled(err) {
		t.log.Info("tool call cancelled", "tool", tool)
		return mcp.NewToolResultError("the call was cancelled; what it had started was ended"), nil
	}
	t.log.Error("tool call met a bug", "tool", tool, "error", err)
	return nil, err
}
