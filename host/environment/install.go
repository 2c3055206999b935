// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// maxTail is how much of a command's last output an error shows, in bytes.
const maxTail = 4 << 10

// installByCommand installs packages with the command that a setting gives, as
// root.
func installByCommand(ctx context.Context, client *guest.Client, command []string, req InstallRequest) (InstallResult, error) {
	out := &tail{line: req.Line}
	exited, err := client.Run(ctx, guest.Exec{
		Start: &guestv1.Start{
			ExecId:  "i" + random(12),
			Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: append(append([]string(nil), command...), req.Packages...)}},
			AsRoot:  true, Cwd: "/",
			Timeout: durationpb.New(installTimeout),
		},
		Stdout: out, Stderr: out,
	})
	if err != nil {
		return InstallResult{}, execError(ctx, err)
	}
	out.flush()
	name := path.Base(command[0])
	switch failure := exited.GetSpawnFailure(); {
	case failure != nil:
		return InstallResult{}, fmt.Errorf("%w: %s, which a setting names: %s", ErrNoManager, command[0], plain(failure.GetMessage(), maxGuestText))
	case exited.GetTimedOut():
		return InstallResult{}, fmt.Errorf("%w: %s took longer than %s: install fewer packages at a time", ErrInstall, name, installTimeout)
	case exited.GetSignal() != 0 || exited.GetExitCode() != 0:
		return InstallResult{}, fmt.Errorf("%w: %s (exit code %d, signal %d): its last lines say why\n%s",
			ErrInstall, name, exited.GetExitCode(), exited.GetSignal(), plain(string(out.last), maxTail))
	}
	return InstallResult{Manager: name, Duration: exited.GetDuration().AsDuration(), Installed: []string{}}, nil
}

// tail passes lines on and keeps the last of what came. Both streams write to it,
// from one goroutine at a time.
type tail struct {
	line    func(string)
	last    []byte
	partial []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-maxTail):]
	if t.line == nil {
		return len(p), nil
	}
	t.partial = append(t.partial, p...)
	for {
		text, rest, found := bytes.Cut(t.partial, []byte("\n"))
		if !found && len(t.partial) < maxTail { // a line without an end is cut
			return len(p), nil
		}
		t.partial = bytes.Clone(rest)
		t.line(plain(strings.TrimRight(string(text), "\r"), maxGuestText))
	}
}

func (t *tail) flush() {
	if t.line != nil && len(t.partial) > 0 {
		t.line(plain(string(t.partial), maxGuestText))
	}
}
