// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// errUnconfined is said when neither way works. %s are the two reasons.
const errUnconfined = "libkrun does not confine its guest, and here nothing else can: " +
	"namespaces are refused (%s): on Ubuntu run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, " +
	"elsewhere `sudo sysctl user.max_user_namespaces=15000`; and %s"

// outside prepares a confinement by Landlock: rules for all sources, and an inner
// machine whose paths are descriptors, which the next program inherits.
func (p *plan) outside(m spec.Machine, reason string) ([]rule, int, error) {
	version, err := landlockVersion()
	if err != nil {
		return nil, 0, fmt.Errorf(errUnconfined, reason, err)
	}
	p.inner.Confine, p.inner.Reason = spec.Landlock, reason
	if err := p.addTemp(m); err != nil {
		return nil, 0, err
	}
	paths := make(map[string]string, len(p.sources))
	var rules []rule
	for i := range p.sources {
		s := &p.sources[i]
		if _, err := unix.FcntlInt(uintptr(s.fd), unix.F_SETFD, 0); err != nil {
			return nil, 0, fmt.Errorf("keep %s: %w", s.what, err)
		}
		rules = append(rules, rule{s.fd, s.kind.rights()})
		paths[s.target] = descriptorPath(s.fd)
	}
	p.inner.Runner, p.inner.Library, p.inner.Firmware = paths[runnerPath], paths[p.inner.Library], paths[p.inner.Firmware]
	p.inner.Dir, p.inner.Temp = paths[vsockPath], paths[tempPath]
	p.inner.KVM = m.KVM // libkrun opens it by its name
	for i, d := range p.inner.Disks {
		p.inner.Disks[i].Path = paths[d.Path]
	}
	// The loader's index of libraries, and what the process may know of itself.
	for path, rights := range map[string]uint64{
		"/etc/ld.so.cache": unix.LANDLOCK_ACCESS_FS_READ_FILE,
		"/proc/self":       unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR,
	} {
		if fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			rules = append(rules, rule{fd, rights})
		}
	}
	return rules, version, nil
}

// addTemp makes a directory for libkrun's empty root. It goes with the machine's.
func (p *plan) addTemp(m spec.Machine) error {
	path := filepath.Join(m.Dir, "tmp")
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the temporary directory: %w", err)
	}
	if m.User != nil {
		if err := os.Chown(descriptorPath(fd), int(m.User.UID), int(m.User.GID)); err != nil {
			return fmt.Errorf("give the temporary directory away: %w", err)
		}
	}
	p.sources = append(p.sources, source{what: "the temporary directory", path: path, target: tempPath, kind: directory, fd: fd})
	return nil
}

// libraryDirs are the directories of all libraries, as LD_LIBRARY_PATH: where the
// loader finds what the rules allow.
func (p *plan) libraryDirs() string {
	var list string
	seen := map[string]bool{}
	for _, s := range p.sources {
		dir := filepath.Dir(s.path)
		if s.kind != code || s.target == runnerPath || seen[dir] {
			continue
		}
		seen[dir] = true
		if list != "" {
			list += ":"
		}
		list += dir
	}
	return list
}
