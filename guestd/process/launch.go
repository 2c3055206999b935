// SPDX-License-Identifier: Apache-2.0

//go:build linux

package process

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/stacklok/waggle/guestd/cgroup"
	"github.com/stacklok/waggle/guestd/process/spawn"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// launch starts the main process. After an error nothing is left of it.
func (x *execution) launch() (err error) {
	cmd, err := x.service.cfg.Defaults.command(x.start)
	if err != nil {
		return err
	}
	if x.stdio, err = openStdio(x.start, cmd.User, x.spool); err != nil {
		return err
	}
	defer func() {
		x.stdio.closeTheirs()
		if err != nil {
			x.stdio.close()
		}
	}()
	cmd.Stdio = x.stdio.theirs
	var group *cgroup.Group
	if tree := x.service.cfg.Tree; tree != nil {
		// The number in front keeps names apart from the kernel's own files and
		// from an earlier exec of the same id.
		if group, err = tree.Create(strconv.FormatUint(x.serial, 10) + "-" + x.id); err != nil {
			return spawn.NewFailure("create control group", err)
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, group.Remove())
			}
		}()
		if cmd.Group, err = group.Dir(); err != nil {
			return spawn.NewFailure("create control group", err)
		}
		defer cmd.Group.Close()
	}
	x.startedAt = time.Now()
	if x.child, err = x.service.launcher.Start(cmd); err != nil {
		return withoutShell(x.start, err)
	}
	x.family = cgroup.NewSession(x.child.Pid())
	if group != nil {
		x.family = group
	}
	if x.service.protected {
		x.exposeToOOM()
	}
	return nil
}

// withoutShell says of a script that could not be started what its caller may not
// know: that a shell reads it, and that an image need not have one.
func withoutShell(start *guestv1.Start, err error) error {
	var f *spawn.Failure
	if start.GetArgv() == nil && errors.As(err, &f) && f.Kind == guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND {
		f.Message += ": the shell form needs it and this image has none; give program and arguments (argv)"
	}
	return err
}

// exposeToOOM takes guestd's exemption from the OOM killer away from the
// processes, which inherited it. A child that is forked by one that was treated
// already is no concern, so this ends as soon as a look finds no new one.
func (x *execution) exposeToOOM() {
	treated := make(map[int]bool)
	for range 64 { // a bound for a fork bomb; its later children inherit 0 too
		pids, err := x.family.Pids()
		if err != nil {
			slog.Warn("OOM score of exec is not reset", "exec", x.id, "err", err)
			return
		}
		fresh := false
		for _, pid := range pids {
			if !treated[pid] {
				treated[pid], fresh = true, true
				// An error is a process that has ended meanwhile.
				_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("0"), 0)
			}
		}
		if !fresh {
			return
		}
	}
}
