// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/process/spawn"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const (
	defaultName = "sandbox"
	firstUID    = 1000
	lastUID     = 60000
)

var userPattern = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)

// workload is a checked WorkloadUser. uid 0 means any.
type workload struct {
	name, home string
	uid        int
	// image is the user that the image names; empty for none.
	image string
}

func checkUser(u *guestv1.WorkloadUser) (workload, error) {
	w := workload{name: u.GetName(), home: u.GetHome(), uid: int(u.GetUid()), image: u.GetImage()}
	if w.image != "" && !imagePattern.MatchString(w.image) {
		return w, fmt.Errorf("user.image: %q is not of the form USER, UID, USER:GROUP or UID:GID", w.image)
	}
	if w.name == "" {
		w.name = defaultName
	}
	if !userPattern.MatchString(w.name) {
		return w, fmt.Errorf("user.name: %q is no user name", w.name)
	}
	if w.home == "" {
		w.home = "/home/" + w.name
	}
	if !path.IsAbs(w.home) || strings.ContainsAny(w.home, ":\n\x00") {
		return w, fmt.Errorf("user.home: %q is not an absolute path without ':' and line ends", w.home)
	}
	if w.uid > lastUID {
		return w, fmt.Errorf("user.uid: %d is above %d", w.uid, lastUID)
	}
	return w, nil
}

// checkOwnUser checks that a guestd without a machine is asked for the user that
// it runs as: it can make none, and a client must not change who is in charge.
func checkOwnUser(u *guestv1.WorkloadUser) error {
	w, err := checkUser(u)
	if err != nil {
		return err
	}
	found, err := spawn.FindUser(w.name)
	if err != nil {
		return fmt.Errorf("user.name: %w: %w", err, errNotFirst)
	}
	switch {
	case int(found.UID) != os.Getuid():
		return fmt.Errorf("user.name: %q is not the user %d that guestd runs as: %w", w.name, os.Getuid(), errNotFirst)
	case w.uid != 0 && w.uid != int(found.UID):
		return fmt.Errorf("user.uid: %q has %d: %w", w.name, found.UID, errNotFirst)
	case w.image != "":
		return fmt.Errorf("user.image: %w", errNotFirst)
	case u.GetHome() != "" && u.GetHome() != found.Home:
		return fmt.Errorf("user.home: that of %q is %q: %w", w.name, found.Home, errNotFirst)
	}
	return nil
}

// makeUser makes the user when the image does not have it, and its home.
func makeUser(m *boot.Machine, w workload) error {
	passwd, err := readOptional("/etc/passwd")
	if err != nil {
		return err
	}
	group, err := readOptional("/etc/group")
	if err != nil {
		return err
	}
	acc, err := addAccount(passwd, group, w, defaultShell())
	if err != nil {
		return fmt.Errorf("make user %s: %w", w.name, err)
	}
	if acc.changed {
		// The group first: no user without one.
		if err := m.WriteFile("/etc/group", acc.group, 0o644); err != nil {
			return err
		}
		if err := m.WriteFile("/etc/passwd", acc.passwd, 0o644); err != nil {
			return err
		}
	}
	return m.MakeHome(acc.home, acc.uid, acc.gid)
}

// account is a user and the files that hold it.
type account struct {
	passwd, group []byte
	changed       bool
	uid, gid      int
	home          string
}

// addAccount returns the user of that name, added to passwd(5) and group(5)
// when it is not there. A uid that was not asked for gives way to one in use.
func addAccount(passwd, group []byte, w workload, shell string) (account, error) {
	acc := account{passwd: passwd, group: group, uid: w.uid, home: w.home}
	used := make(map[int]bool)
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) < 7 {
			continue
		}
		uid, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		used[uid] = true
		if f[0] != w.name {
			continue
		}
		if acc.gid, err = strconv.Atoi(f[3]); err != nil {
			return acc, fmt.Errorf("passwd has the group %q", f[3])
		}
		acc.uid, acc.home = uid, f[5]
		return acc, nil
	}
	if w.uid != 0 && used[w.uid] {
		return acc, fmt.Errorf("the image has another user with uid %d", w.uid)
	}
	names := make(map[string]int)
	for line := range bytes.Lines(group) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) < 3 {
			continue
		}
		if gid, err := strconv.Atoi(f[2]); err == nil {
			names[f[0]] = gid
			used[gid] = true
		}
	}
	for acc.uid = max(w.uid, firstUID); w.uid == 0 && used[acc.uid]; acc.uid++ {
	}
	acc.changed = true
	gid, exists := names[w.name]
	acc.gid = acc.uid
	if exists {
		acc.gid = gid
	} else {
		acc.group = appendLine(group, fmt.Sprintf("%s:x:%d:", w.name, acc.gid))
	}
	acc.passwd = appendLine(passwd, fmt.Sprintf("%s:x:%d:%d::%s:%s", w.name, acc.uid, acc.gid, w.home, shell))
	return acc, nil
}

func appendLine(file []byte, line string) []byte {
	out := bytes.Clone(file)
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, line+"\n"...)
}

func readOptional(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func defaultShell() string {
	if _, err := os.Stat("/bin/bash"); err == nil {
		return "/bin/bash"
	}
	return "/bin/sh"
}
