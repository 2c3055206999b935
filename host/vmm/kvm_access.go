// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// accessRemedy says how an ordinary user gets at a device that exists.
func accessRemedy(device string) string {
	info, err := os.Stat(device)
	if err != nil {
		return "ask who runs this machine for access to it"
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "ask who runs this machine for access to it"
	}
	group := strconv.FormatUint(uint64(st.Gid), 10)
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return accessOf(device, info.Mode().Perm(), st.Gid, group)
}

// accessOf names the group that owns a device. Nobody should have to join root's,
// and the one of a device that is open to no group helps nobody: then it has to be
// given to one, now and, by a rule of udev, after each boot.
func accessOf(device string, mode fs.FileMode, gid uint32, group string) string {
	if gid != 0 && mode&0o060 == 0o060 {
		return fmt.Sprintf("it is the group %s's: run `sudo usermod -aG %s $USER` and log in again", group, group)
	}
	return fmt.Sprintf("it is root's alone (mode %04o): run `sudo groupadd -f kvm && sudo chgrp kvm %s && sudo chmod 0660 %[2]s && "+
		"sudo usermod -aG kvm $USER` and log in again; the rule `KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"` in "+
		"/etc/udev/rules.d/65-kvm.rules keeps it so after a boot", mode, device)
}
