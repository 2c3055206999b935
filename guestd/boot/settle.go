// SPDX-License-Identifier: Apache-2.0

//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/identity"
)

// setting is one value of a file of the kernel's.
type setting struct{ path, value string }

// settings are what programs expect of a machine of their own, and what keeps
// commands in their place. What a kernel does not have is passed over.
var settings = []setting{
	// Any user may ping and serve any port, as in containers.
	{"/proc/sys/net/ipv4/ping_group_range", "0 2147483647"},
	{"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
	{"/proc/sys/fs/inotify/max_user_watches", "524288"},
	// Open files are bounded by the memory that they take. The kernel's own
	// bound is for all processes together: one could starve the others.
	{"/proc/sys/fs/file-max", "9223372036854775807"},
	// Against links and pipes that one user lays for another in /tmp, as
	// systemd has it.
	{"/proc/sys/fs/protected_symlinks", "1"},
	{"/proc/sys/fs/protected_hardlinks", "1"},
	{"/proc/sys/fs/protected_fifos", "1"},
	{"/proc/sys/fs/protected_regular", "2"},
	// Ctrl-Alt-Del sends SIGINT instead of a reset.
	{"/proc/sys/kernel/ctrl-alt-del", "0"},
	// No user namespaces: docs/security.md says why. The first is Debian's and
	// makes the error EPERM.
	{"/proc/sys/kernel/unprivileged_userns_clone", "0"},
	{"/proc/sys/user/max_user_namespaces", "0"},
	// All modules are loaded. The kernel would run this program of the image
	// with all of root's rights when it misses one.
	{"/proc/sys/kernel/modprobe", "\n"},
	{"/proc/sys/kernel/modules_disabled", "1"},
}

// settle gives guestd and what it starts their limits.
func settle(log *slog.Logger) error {
	apply(settings, log)
	divide(log)
	slacken(log)
	files := unix.Rlimit{Cur: 65536, Max: 1 << 20}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &files, nil); err != nil {
		log.Warn("descriptor limit not raised", slog.Any("err", err))
	}
	// The kernel's default is for all processes of a user together: the fork
	// bomb of one command would keep the next from starting. The control groups
	// bound each command by itself.
	processes := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Prlimit(0, unix.RLIMIT_NPROC, &processes, nil); err != nil {
		log.Warn("process limit not raised", slog.Any("err", err))
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		log.Warn("loopback not up", slog.Any("err", err))
	}
	// The effective user stays root; package identity says why the others do not.
	if err := unix.Setresuid(identity.UID, 0, identity.UID); err != nil {
		return fmt.Errorf("part guestd's user from root: %w", err)
	}
	return nil
}

// apply writes settings one by one: each is worth having without the others.
func apply(all []setting, log *slog.Logger) {
	for _, s := range all {
		err := writeSetting(s)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Warn("kernel setting not applied", slog.String("path", s.path), slog.Any("err", err))
		}
	}
}

// writeSetting writes without O_CREAT and O_TRUNC, which are not for such files.
func writeSetting(s setting) error {
	file, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(s.value)
	return errors.Join(err, file.Close())
}
