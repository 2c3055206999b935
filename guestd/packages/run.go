// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// run executes one command of the manager. A manager that fails is a failure,
// not an error. The end of ctx ends the exec.
func (in *install) run(ctx context.Context, c command) (*guestv1.InstallFailure, error) {
	exec := in.service.execs.Run(ctx)
	defer func() {
		_ = exec.CloseRequest()  // the exec has ended, or is to end
		_ = exec.CloseResponse() // as above
	}()
	start := &guestv1.Start{
		ExecId:  "packages-" + rand.Text(),
		Command: &guestv1.Start_Argv{Argv: &guestv1.Argv{Args: c.argv}},
		Env:     c.env, AsRoot: true, Cwd: "/",
		Timeout:          durationpb.New(max(time.Until(in.deadline), time.Millisecond)),
		OutputLimitBytes: 1 << 20, // it is followed from the start
	}
	if err := exec.Send(&guestv1.ProcessRunRequest{Message: &guestv1.ProcessRunRequest_Start{Start: start}}); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	out := in.out
	for {
		res, err := exec.Receive()
		if err != nil {
			return nil, fmt.Errorf("follow %s: %w", c.argv[0], err)
		}
		switch message := res.GetMessage().(type) {
		case *guestv1.ProcessRunResponse_Stdout:
			err = out.stdout.write(message.Stdout.GetData())
		case *guestv1.ProcessRunResponse_Stderr:
			err = out.stderr.write(message.Stderr.GetData())
		case *guestv1.ProcessRunResponse_Exited:
			if err := errors.Join(out.stdout.flush(), out.stderr.flush()); err != nil {
				return nil, err
			}
			return classify(message.Exited, out.tail()), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// line passes a line on and learns from it what was installed, and how far it is.
func (in *install) line(text string) error {
	in.installed = append(in.installed, installedBy(in.manager.kind, text)...)
	err := in.stream.Send(&guestv1.PackagesInstallResponse{
		Message: &guestv1.PackagesInstallResponse_Line{Line: text},
	})
	if err == nil && in.step.follow(in.manager.kind, text) {
		err = in.tell()
	}
	return err
}
