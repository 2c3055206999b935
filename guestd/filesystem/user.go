// SPDX-License-Identifier: Apache-2.0

//go:build linux

package filesystem

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// User is the identity of file work.
type User struct {
	UID, GID int
	// Groups are the supplementary ones.
	Groups []int
}

// as runs work with the rights of the workload user, or of root. It returns when
// work has returned.
func (s *Service) as(asRoot bool, work func() error) error {
	self := os.Geteuid()
	var user User // root
	if !asRoot {
		var err error
		if user, err = s.user(); err != nil {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("find the workload user: %w", err))
		}
	}
	if user.UID == self {
		return work()
	}
	if self != 0 {
		return connect.NewError(connect.CodeFailedPrecondition,
			errors.New("this guestd does not run as root: it can work as its own user only"))
	}
	return onThread(func() error {
		if err := become(user); err != nil {
			return connect.NewError(connect.CodeInternal, err)
		}
		return work()
	})
}

// onThread runs work on a thread that ends with it.
func onThread(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// The main thread never ends (runtime.LockOSThread), so it is held
			// and left as it is while another one does the work.
			err := onThread(work)
			runtime.UnlockOSThread()
			done <- err
			return
		}
		// Never unlocked: the runtime ends the thread with this goroutine.
		done <- work()
	}()
	return <-done
}

// become changes the calling thread alone. The file system ids decide on rights
// to files; capabilities would override them.
func become(user User) error {
	if err := unix.Setgroups(user.Groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	// setfsuid(2) does not report failure, so the result is read back.
	const query = -1
	for _, id := range []struct {
		name string
		set  func(int) (int, error)
		want int
	}{{"group", unix.SetfsgidRetGid, user.GID}, {"user", unix.SetfsuidRetUid, user.UID}} {
		if _, err := id.set(id.want); err != nil {
			return fmt.Errorf("set file system %s %d: %w", id.name, id.want, err)
		}
		if got, err := id.set(query); err != nil || got != id.want {
			return fmt.Errorf("set file system %s %d: got %d: %w", id.name, id.want, got, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
