// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// User is who runs a command.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32
	Home   string
	Shell  string
}

// FindUser looks up a user by name or decimal uid. A uid that no name belongs
// to is good: it gets the group of the same number and / for a home. After a colon
// may come the name or gid of a group, which then is the only one, as in the
// configuration of an image. An error is always a *Failure.
func FindUser(name string) (*User, error) {
	return findUser(name, "/etc/passwd", "/etc/group")
}

func findUser(name, passwd, group string) (*User, error) {
	name, only, _ := strings.Cut(name, ":")
	u, err := findAccount(name, passwd, group)
	if err != nil || only == "" {
		return u, err
	}
	u.Groups = nil
	found, err := accounts(group, user.ParseGroupFilter, func(g user.Group) bool { return g.Name == only })
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		u.GID = uint32(found[0].Gid)
		return u, nil
	}
	gid, err := strconv.ParseUint(only, 10, 32)
	if err != nil || gid == math.MaxUint32 {
		return nil, badUser(fmt.Sprintf("group %q does not exist", only))
	}
	u.GID = uint32(gid)
	return u, nil
}

func findAccount(name, passwd, group string) (*User, error) {
	uid, nerr := strconv.ParseUint(name, 10, 32)
	if nerr != nil || uid == math.MaxUint32 { // -1 means "leave as it is"
		uid = math.MaxUint64
	}
	found, err := accounts(passwd, user.ParsePasswdFilter, func(u user.User) bool {
		return u.Name == name || uint64(u.Uid) == uid
	})
	if err != nil && uid == math.MaxUint64 { // a number needs no file: root can still mend it
		return nil, err
	}
	if len(found) == 0 {
		if uid == math.MaxUint64 {
			return nil, badUser(fmt.Sprintf("user %q does not exist", name))
		}
		return &User{Name: name, UID: uint32(uid), GID: uint32(uid), Home: "/", Shell: "/bin/sh"}, nil
	}
	// A name that looks like a number wins over the number.
	at := max(0, slices.IndexFunc(found, func(u user.User) bool { return u.Name == name }))
	f := found[at]
	u := &User{Name: f.Name, UID: uint32(f.Uid), GID: uint32(f.Gid), Home: f.Home, Shell: f.Shell}
	if u.Home == "" {
		u.Home = "/"
	}
	if u.Shell == "" {
		u.Shell = "/bin/sh" // passwd(5)
	}
	groups, err := accounts(group, user.ParseGroupFilter, func(g user.Group) bool {
		return slices.Contains(g.List, f.Name)
	})
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		u.Groups = append(u.Groups, uint32(g.Gid))
	}
	return u, nil
}

// maxAccounts bounds passwd(5) and group(5) in bytes.
const maxAccounts = 16 << 20

// accounts reads a file that root of the guest may have replaced by anything: one
// that is missing has nobody in it, and a FIFO must not hold up the caller.
func accounts[T any](file string, parse func(io.Reader, func(T) bool) ([]T, error), want func(T) bool) ([]T, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, badUser(fmt.Sprintf("open %s: %v", file, err))
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, badUser(fmt.Sprintf("read %s: not a regular file", file))
	}
	found, err := parse(io.LimitReader(f, maxAccounts), want)
	if err != nil {
		return nil, badUser(fmt.Sprintf("read %s: %v", file, err))
	}
	return found, nil
}

func badUser(message string) *Failure {
	return &Failure{
		Kind:    guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_USER,
		Stage:   "find user",
		Message: message,
	}
}

// credential returns what the kernel sets in the child; nil when guestd runs
// as that user already and may not change groups.
func (u *User) credential() *syscall.Credential {
	if os.Geteuid() != 0 && uint32(os.Geteuid()) == u.UID {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
}
