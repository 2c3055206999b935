// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DefaultRoot is where guestd keeps the groups of execs.
const DefaultRoot = "/sys/fs/cgroup/waggle/exec"

// ErrUnavailable says that there is no cgroup v2 at the wanted place.
var ErrUnavailable = errors.New("cgroup v2 is not available")

const (
	// pidsPart is the part, in quarters, of the tree's processes that one group
	// may have: a fork bomb in one leaves room to start another.
	pidsPart = 3
	// memoryLeft is what one group leaves to the others of the tree's memory, for
	// the same reason. A group at its limit whose fork bomb gives up a few pages of
	// its programs each time is not killed for hours, and until then nobody else
	// gets a page of the tree's. Seen: an interpreter starts with 12 MiB.
	memoryLeft = 24 << 20
)

// limit is a file of a group, and what is written to it.
type limit struct{ file, value string }

// Tree is the directory that holds the groups. Its methods may be called
// concurrently.
type Tree struct {
	root    string
	limits  []limit // of each group
	inotify *os.File
	done    chan struct{} // closed when watch has returned
	stop    chan struct{} // closed to have feed return, which closes fed
	fed     chan struct{}
	busy    chan struct{} // gets a token with the first group; capacity 1

	mu       sync.Mutex
	watchers map[int32]chan struct{} // by watch descriptor; capacity 1
	groups   map[*Group]struct{}     // that were made and not removed
}

// Open makes the directory root and enables the named controllers for the
// groups in it, as far as the kernel has them. When root has a limit of processes
// or of memory, each group gets one below it. Open returns ErrUnavailable when root is not within
// a cgroup v2 file system.
func Open(root string, controllers ...string) (*Tree, error) {
	if err := makeRoot(root, controllers); err != nil {
		return nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch control groups: %w", err)
	}
	t := &Tree{
		root:     root,
		inotify:  os.NewFile(uintptr(fd), "inotify"),
		done:     make(chan struct{}),
		stop:     make(chan struct{}),
		fed:      make(chan struct{}),
		busy:     make(chan struct{}, 1),
		watchers: make(map[int32]chan struct{}),
		groups:   make(map[*Group]struct{}),
	}
	if n, ok := readLimit(root, "pids.max"); ok {
		t.limits = append(t.limits, limit{"pids.max", strconv.FormatUint(n*pidsPart/4, 10)})
	}
	if n, ok := readLimit(root, "memory.max"); ok && n > 4*memoryLeft {
		t.limits = append(t.limits, limit{"memory.max", strconv.FormatUint(n-memoryLeft, 10)})
	}
	go t.watch()
	if hasPressure(root) {
		go t.feed()
	} else {
		close(t.fed)
	}
	return t, nil
}

// readLimit reads a limit of the group dir, which may be the word "max".
func readLimit(dir, file string) (uint64, bool) {
	n, err := readNumber(dir, file)
	return n, err == nil
}

// makeRoot creates root below the nearest directory that exists. Controllers
// must be enabled from the top down: a group can only pass on what it has.
func makeRoot(root string, controllers []string) error {
	var levels []string // of cgroup v2, deepest first
	for dir := filepath.Clean(root); ; dir = filepath.Dir(dir) {
		var fs unix.Statfs_t
		err := unix.Statfs(dir, &fs)
		switch {
		case errors.Is(err, unix.ENOENT):
			levels = append(levels, dir)
			continue
		case err != nil:
			return fmt.Errorf("look at %s: %w", dir, err)
		case fs.Type == unix.CGROUP2_SUPER_MAGIC:
			levels = append(levels, dir)
			if dir != filepath.Dir(dir) {
				continue
			}
		case len(levels) == 0 || !isCgroup(levels[len(levels)-1]):
			return fmt.Errorf("%s: %w", root, ErrUnavailable)
		}
		break
	}
	for i := len(levels) - 1; i >= 0; i-- {
		if err := os.Mkdir(levels[i], 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("create control group: %w", err)
		}
		for _, c := range controllers {
			// One at a time, because one that is missing fails the whole write.
			if err := writeFile(filepath.Join(levels[i], "cgroup.subtree_control"), "+"+c); err != nil {
				slog.Debug("controller is not available", "controller", c, "group", levels[i], "err", err)
			}
		}
	}
	return nil
}

func isCgroup(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// Close ends the watching. Groups stay as they are.
func (t *Tree) Close() error {
	close(t.stop)
	err := t.inotify.Close()
	<-t.done
	<-t.fed
	return err
}

// Count returns the number of groups in the tree.
func (t *Tree) Count() (int, error) {
	entries, err := os.ReadDir(t.root)
	if err != nil {
		return 0, fmt.Errorf("count control groups: %w", err)
	}
	n := 0
	for _, e := range entries {
		if e.IsDir() {
			n++
		}
	}
	return n, nil
}

// Create makes a group. name must be a single path element that is no name of
// a file of the kernel's; the caller calls Remove.
func (t *Tree) Create(name string) (*Group, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsRune(name, '/') {
		return nil, fmt.Errorf("create control group: %q is no name", name)
	}
	g := &Group{tree: t, dir: filepath.Join(t.root, name)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("create control group: %w", err)
	}
	for _, l := range t.limits {
		if err := writeFile(filepath.Join(g.dir, l.file), l.value); err != nil {
			return nil, errors.Join(fmt.Errorf("set %s of group: %w", l.file, err), os.Remove(g.dir))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.groups[g] = struct{}{}
	select {
	case t.busy <- struct{}{}:
	default:
	}
	return g, nil
}

// subscribe returns a channel that gets a token after the file has changed.
func (t *Tree) subscribe(file string) (<-chan struct{}, func(), error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	raw, err := t.inotify.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", file, err)
	}
	wd := -1
	cerr := raw.Control(func(fd uintptr) {
		// MASK_CREATE: a second watch of a file would share the first one's
		// descriptor and its removal; each group has one waiter at a time.
		wd, err = unix.InotifyAddWatch(int(fd), file, unix.IN_MODIFY|unix.IN_MASK_CREATE)
	})
	if err = errors.Join(cerr, err); err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", file, err)
	}
	ch := make(chan struct{}, 1)
	t.watchers[int32(wd)] = ch
	return ch, func() { t.unsubscribe(wd) }, nil
}

func (t *Tree) unsubscribe(wd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.watchers, int32(wd))
	raw, err := t.inotify.SyscallConn()
	if err != nil {
		return // closed: the kernel has removed all watches
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
}

// watch passes the kernel's notices on until the tree is closed.
func (t *Tree) watch() {
	defer close(t.done)
	buf := make([]byte, 64*unix.SizeofInotifyEvent)
	for {
		n, err := t.inotify.Read(buf)
		if err != nil {
			return
		}
		t.mu.Lock()
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			ev := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			if ch := t.watchers[ev.Wd]; ch != nil {
				select {
				case ch <- struct{}{}:
				default: // a token waits already
				}
			}
			at += unix.SizeofInotifyEvent + int(ev.Len)
		}
		t.mu.Unlock()
	}
}
