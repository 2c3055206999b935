// SPDX-License-Identifier: Apache-2.0

//go:build linux

package system

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/stacklok/waggle/guestd/boot"
	"github.com/stacklok/waggle/guestd/process/spawn"
)

// imagePattern is what USER of an image may be. What it names may not exist.
var imagePattern = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.@$-]{0,63}(:[A-Za-z0-9_.@$-]{0,64})?$`)

// makeWorkload makes the workload's user where it is missing and returns it in the
// form of spawn.FindUser: the image's, unless it names none or root.
func makeWorkload(m *boot.Machine, w workload) (string, error) {
	passwd, err := readOptional("/etc/passwd")
	if err != nil {
		return "", err
	}
	found, err := choose(w.image, passwd)
	if err != nil {
		return "", err
	}
	switch found.how {
	case useOther:
		return w.name, makeUser(m, w)
	case makeNamed:
		if err := makeUser(m, workload{name: found.name, home: "/home/" + found.name}); err != nil {
			return "", err
		}
	case makeNumbered:
		file := appendLine(passwd, fmt.Sprintf("%s:x:%d:0::%s:%s", found.name, found.uid, found.home, defaultShell()))
		if err := m.WriteFile("/etc/passwd", file, 0o644); err != nil {
			return "", err
		}
	}
	name := found.name
	if _, group, _ := strings.Cut(w.image, ":"); group != "" {
		name += ":" + group
	}
	user, err := spawn.FindUser(name)
	if err != nil {
		return "", fmt.Errorf("the image names the user %s: %w", w.image, err)
	}
	// A home that is there is as the image wants it: it may be /usr/sbin.
	if _, err := os.Stat(user.Home); errors.Is(err, fs.ErrNotExist) {
		return name, m.MakeHome(user.Home, int(user.UID), int(user.GID))
	}
	return name, nil
}

// makeCwd makes a working directory that the image names and does not have, for the
// workload's user. One that is there is as the image wants it.
func makeCwd(m *boot.Machine, dir, name string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	user, err := spawn.FindUser(name)
	if err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	return m.MakeHome(dir, int(user.UID), int(user.GID))
}

// How the user that an image names comes to be.
const (
	useOther     = iota // it is none for the workload
	useFound            // it is there
	makeNamed           // a name that the image does not know
	makeNumbered        // a uid without a name
)

// chosen is the user that an image names.
type chosen struct {
	how        int
	name, home string
	uid        uint32
}

// choose finds the user that an image names in passwd(5), by its name, then by its
// uid, as an OCI runtime does. Root is not for the workload, by whatever name.
func choose(image string, passwd []byte) (chosen, error) {
	who, _, _ := strings.Cut(image, ":")
	uid, nerr := strconv.ParseUint(who, 10, 32)
	if who == "" || who == "root" || nerr == nil && uid == 0 {
		return chosen{}, nil
	}
	names := make(map[string]bool)
	var byUID string
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) < 7 {
			continue
		}
		names[f[0]] = true
		if f[0] == who {
			if f[2] == "0" {
				return chosen{}, nil
			}
			return chosen{how: useFound, name: who}, nil
		}
		if nerr == nil && f[2] == strconv.FormatUint(uid, 10) && byUID == "" {
			byUID = f[0]
		}
	}
	switch {
	case byUID != "":
		return chosen{how: useFound, name: byUID}, nil
	case nerr == nil && uid < math.MaxUint32: // -1 means "leave as it is"
		name := defaultName
		if names[name] {
			name = fmt.Sprintf("user%d", uid)
		}
		return chosen{how: makeNumbered, name: name, home: "/home/" + name, uid: uint32(uid)}, nil
	case !userPattern.MatchString(who):
		return chosen{}, fmt.Errorf("the image names the user %q, whom its /etc/passwd does not have", who)
	}
	return chosen{how: makeNamed, name: who}, nil
}
