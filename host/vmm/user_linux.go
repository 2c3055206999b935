// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
)

const (
	// privateBase begins the range of uids that no passwd file uses: above
	// systemd's container range, below 2^31.
	privateBase = 0x60000000
	// perProcess is how many machines of one process have uids of their own.
	perProcess = 64
	// nobody serves where the range is not mapped into our user namespace.
	nobody = 65534
)

var machineCount atomic.Uint32

// Credential is what a VMM is started with, or nil for the caller's own. name is
// what errors call the VMM. user nil: a uid of its own for each machine when the
// caller is root, the caller otherwise. kvm is the device that it opens by its
// name, or empty.
func Credential(name string, user *User, kvm string, log *slog.Logger) (*syscall.Credential, error) {
	if user == nil {
		if os.Geteuid() != 0 {
			return nil, nil
		}
		user = privateUser(name, log)
	}
	cred := &syscall.Credential{Uid: user.UID, Gid: user.GID}
	if kvm == "" {
		return cred, nil
	}
	var st syscall.Stat_t
	if err := syscall.Stat(kvm, &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", kvm, err)
	}
	switch {
	case st.Mode&0o006 == 0o006:
	case st.Mode&0o060 == 0o060 && st.Gid != 0:
		cred.Groups = []uint32{st.Gid}
	default:
		return nil, fmt.Errorf("%s is for root alone and %s does not run as root: `chgrp kvm %[1]s && chmod 660 %[1]s`",
			kvm, name)
	}
	return cred, nil
}

// privateUser is a uid that no other live machine has: process ids are unique
// among the live processes, and each process counts its own machines.
func privateUser(name string, log *slog.Logger) *User {
	id := uint32(privateBase) + uint32(os.Getpid())*perProcess + machineCount.Add(1)%perProcess
	file, err := os.Open("/proc/self/uid_map")
	if err == nil {
		defer file.Close()
		if !mapped(file, id) {
			log.Warn("uid is not mapped into this user namespace, the VMM runs as nobody",
				slog.String("vmm", name), slog.Any("uid", id))
			id = nobody
		}
	}
	return &User{UID: id, GID: id}
}

// mapped reads a uid_map: lines of first id inside, first id outside, count.
func mapped(r io.Reader, id uint32) bool {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var inside, outside, count uint64
		if _, err := fmt.Sscan(lines.Text(), &inside, &outside, &count); err != nil {
			return false
		}
		if uint64(id) >= inside && uint64(id)-inside < count {
			return true
		}
	}
	return false
}
