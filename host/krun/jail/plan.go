// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// Paths in the jail.
const (
	runnerPath = "/waggle-krun"
	libPath    = "/lib"
	diskPath   = "/disks"
	vsockPath  = "/vsock"
	tempPath   = "/tmp"
	procPath   = "/proc"
	kvmPath    = "/dev/kvm"
)

// kind says what may be done with a source.
type kind int

const (
	code      kind = iota // read and run
	readOnly              // read
	writable              // read and write
	device                // read, write and control
	directory             // all that files in it need, but running them
)

// source is one thing of the host that the jail shows.
type source struct {
	what   string // for messages
	path   string
	target string // absolute
	kind   kind
	fd     int // O_PATH, once it is open
}

// plan is the jail of a machine.
type plan struct {
	sources []source
	// inner is the machine as it is seen from inside.
	inner spec.Machine
}

// newPlan says what m's jail shows, and opens it.
func newPlan(m spec.Machine) (*plan, error) {
	dirs := append(filepath.SplitList(os.Getenv("LD_LIBRARY_PATH")), spec.LibraryDirs(runtime.GOARCH)...)
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !filepath.IsAbs(dir) })
	c, err := resolve(m.Runner, []string{m.Library, m.Firmware}, dirs)
	if err != nil {
		return nil, fmt.Errorf("find the libraries of libkrun: %w", err)
	}
	p := &plan{inner: m}
	p.inner.User = nil
	p.inner.Runner = p.add("waggle-krun", m.Runner, runnerPath, code)
	if c.interp != "" {
		p.add("the dynamic loader", c.interp, c.interp, code)
	}
	for i, o := range c.libs {
		target := p.add("library", o.path, filepath.Join(libPath, filepath.Base(o.soname)), code)
		switch i {
		case 0:
			p.inner.Library = target
		case 1:
			p.inner.Firmware = target
		}
	}
	if m.KVM != "" {
		p.inner.KVM = p.add("the hypervisor", m.KVM, kvmPath, device)
	}
	p.add("device", "/dev/null", "/dev/null", device)
	p.add("device", "/dev/urandom", "/dev/urandom", device)
	p.inner.Disks = slices.Clone(m.Disks)
	for i, d := range m.Disks {
		k := writable
		if d.ReadOnly {
			k = readOnly
		}
		p.inner.Disks[i].Path = p.add("disk "+d.Name, d.Path, filepath.Join(diskPath, d.Name), k)
	}
	p.inner.Dir = p.add("the machine's directory", m.Dir, vsockPath, directory)
	p.inner.Temp = tempPath
	return p, p.open(m.User)
}

// add returns the target.
func (p *plan) add(what, path, target string, k kind) string {
	if !slices.ContainsFunc(p.sources, func(s source) bool { return s.target == target }) {
		p.sources = append(p.sources, source{what: what, path: path, target: target, kind: k, fd: -1})
	}
	return target
}

// shown are what the sources are called outside, by what they are called inside.
func (p *plan) shown() spec.Shown {
	names := spec.Shown{p.inner.Temp: "the jail's " + tempPath}
	for _, s := range p.sources {
		names[s.target] = s.path
		if p.inner.Confine == spec.Landlock {
			names[descriptorPath(s.fd)] = s.path
		}
	}
	return names
}

// open opens all sources before anything is mounted over them. The descriptors
// live as long as the process: the next program closes them, but for those that
// are its paths (fallback.go).
func (p *plan) open(user *spec.User) error {
	for i := range p.sources {
		s := &p.sources[i]
		var err error
		if s.fd, err = unix.Open(s.path, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open %s: %w", s.what, &os.PathError{Op: "open", Path: s.path, Err: err})
		}
		var st unix.Stat_t
		if err := unix.Fstat(s.fd, &st); err != nil {
			return fmt.Errorf("open %s at %s: %w", s.what, s.path, err)
		}
		if err := s.check(&st, user); err != nil {
			return fmt.Errorf("%s at %s: %w", s.what, s.path, err)
		}
	}
	return nil
}

// check says in words what would fail later in numbers.
func (s *source) check(st *unix.Stat_t, user *spec.User) error {
	format := st.Mode & unix.S_IFMT
	switch {
	case s.kind == directory && format != unix.S_IFDIR:
		return errors.New("it is not a directory")
	case s.kind != directory && format == unix.S_IFDIR:
		return errors.New("it is a directory")
	case s.kind == code && format != unix.S_IFREG:
		return errors.New("it is not a regular file")
	}
	if user == nil || user.UID == 0 {
		return nil // it is the caller's to open, and is when it is
	}
	need := map[kind]uint32{code: 0o4, readOnly: 0o4, writable: 0o6, device: 0o6, directory: 0o7}[s.kind]
	if s.target == runnerPath {
		need |= 0o1
	}
	if have := permissions(st, user); have&need != need {
		return fmt.Errorf("the VMM runs as uid %d, which may not use it (mode %#o): give others the same rights as root",
			user.UID, st.Mode&0o777)
	}
	return nil
}

// permissions are the three bits that user has.
func permissions(st *unix.Stat_t, user *spec.User) uint32 {
	switch {
	case st.Uid == user.UID:
		return st.Mode >> 6 & 0o7
	case st.Gid == user.GID || slices.Contains(user.Groups, st.Gid):
		return st.Mode >> 3 & 0o7
	}
	return st.Mode & 0o7
}
