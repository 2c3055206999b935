// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"
	"time"
)

const (
	// maxHops is how many symlinks one name may pass, as in Linux's path
	// lookup.
	maxHops = 40
	// maxSteps bounds the name components looked up for one image: long
	// targets of symlinks that lead to further ones would otherwise buy hours
	// of work with a small layer.
	maxSteps = 200_000_000
)

// node is an inode of the merged file system. Hard links are two names of one
// node.
type node struct {
	typ          byte // tar.TypeReg, TypeSymlink, TypeChar, TypeBlock, TypeDir or TypeFifo
	perm         int64
	uid, gid     int
	mtime        time.Time
	size         int64
	link         string // of a symlink
	major, minor int64
	xattrs       map[string]string

	layer int   // which spooled layer holds the content
	off   int64 // where its tar header starts there

	children map[string]*node // of a directory
	// emitted is the first name under which the node was written; further
	// names become hard links to it.
	emitted string
}

func newDir() *node {
	return &node{typ: tar.TypeDir, perm: 0o755, mtime: time.Unix(0, 0), children: make(map[string]*node)}
}

func (n *node) isDir() bool { return n.typ == tar.TypeDir }

// tree is the merged content of the layers applied so far, lowest first.
type tree struct {
	root   *node
	limits Limits
	steps  int // left of maxSteps
	made   int // directories that no layer mentions but as part of a name
}

func newTree(l Limits) *tree { return &tree{root: newDir(), limits: l, steps: maxSteps} }

// apply lays one layer over the tree. Whiteouts come first, wherever they
// stand in the tar, since they speak of the layers below only.
func (t *tree) apply(entries []*entry) error {
	declared := make(map[string]bool) // directories that this layer brings itself
	for _, e := range entries {
		if e.node.typ == tar.TypeDir && !isWhiteout(e.name) {
			declared[e.name] = true
		}
	}
	if err := t.lookBelow(entries); err != nil {
		return err
	}
	for _, e := range entries {
		if isWhiteout(e.name) {
			if err := t.whiteout(e.name, declared); err != nil {
				return err
			}
		}
	}
	var pending []*entry
	for _, e := range entries {
		if isWhiteout(e.name) {
			continue
		}
		done, err := t.put(e)
		if err != nil {
			return err
		}
		if !done {
			pending = append(pending, e)
		}
	}
	return t.linkPending(pending)
}

func isWhiteout(name string) bool {
	return strings.HasPrefix(path.Base(name), whiteoutPrefix)
}

// whiteout hides one name, or with the opaque mark all names of a directory,
// of the layers below. Hiding what is not there is not an error: layers are
// often squashed or rebased.
func (t *tree) whiteout(name string, declared map[string]bool) error {
	dirname, base := path.Split(name)
	dir, err := t.walk(dirname, walkLower, declared)
	if err != nil || dir == nil {
		return err
	}
	switch hidden := strings.TrimPrefix(base, whiteoutPrefix); {
	case base == whiteoutOpaque:
		clear(dir.children)
	case strings.HasPrefix(base, whiteoutMeta):
	case hidden == "" || hidden == "." || hidden == "..":
		return fmt.Errorf("%w: whiteout %q names nothing", ErrBadLayer, name)
	default:
		delete(dir.children, hidden)
	}
	return nil
}

// put adds one entry. It returns false for a hard link whose target is not
// there yet.
func (t *tree) put(e *entry) (bool, error) {
	if e.name == "" {
		t.root.become(&e.node)
		return true, nil
	}
	fresh := e.node
	n := &fresh
	if e.hard {
		target, err := t.lookup(e.link)
		if err == nil && target == nil && e.hidden {
			target = e.below
		}
		if err != nil || target == nil {
			return false, err
		}
		if target.isDir() {
			return false, fmt.Errorf("%w: hard link %q points to the directory %q", ErrBadLayer, e.name, e.link)
		}
		n = target
	}
	dirname, base := path.Split(e.name)
	dir, err := t.walk(dirname, walkMake, nil)
	if err != nil {
		return false, err
	}
	if old := dir.children[base]; old != nil && old.isDir() && n.isDir() {
		old.become(n)
		return true, nil
	}
	if n.isDir() {
		n.children = make(map[string]*node)
	}
	dir.children[base] = n
	return true, nil
}

// become takes over the attributes of the directory m and keeps the children.
func (n *node) become(m *node) {
	children := n.children
	*n = *m
	n.children = children
}

// lookup finds a name without following a symlink in its last component. It
// returns nil when there is none.
func (t *tree) lookup(name string) (*node, error) {
	if name == "" {
		return t.root, nil
	}
	dirname, base := path.Split(name)
	dir, err := t.walk(dirname, walkFind, nil)
	if err != nil || dir == nil {
		return nil, err
	}
	return dir.children[base], nil
}

type walkMode int

const (
	// walkFind returns nil where the directory does not exist.
	walkFind walkMode = iota
	// walkLower is walkFind for whiteouts: a directory that the layer itself
	// declares where a lower layer has a symlink replaces that symlink, so
	// the way does not lead through it.
	walkLower
	// walkMake makes what is missing, as unpacking tools do, and replaces
	// files that stand in the way.
	walkMake
)

// walk goes to a directory, following symlinks as a process with this root
// would: a target that is absolute or climbs too high stays inside.
func (t *tree) walk(name string, mode walkMode, declared map[string]bool) (*node, error) {
	stack := []*node{t.root}
	plain := "" // the name so far as the layer spells it
	followed := false
	todo := strings.Split(name, "/")
	for hops := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		if t.steps--; t.steps < 0 {
			return nil, fmt.Errorf("%w: looking up its names takes more than %d steps", ErrTooLarge, maxSteps)
		}
		dir := stack[len(stack)-1]
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		if !followed {
			plain = path.Join(plain, part)
		}
		next := dir.children[part]
		switch {
		case next != nil && next.isDir():
			stack = append(stack, next)
		case next != nil && next.typ == tar.TypeSymlink:
			if mode == walkLower && !followed && declared[plain] {
				return nil, nil
			}
			if hops++; hops > maxHops {
				return nil, fmt.Errorf("%w: %q passes more than %d symlinks", ErrBadLayer, name, maxHops)
			}
			if strings.HasPrefix(next.link, "/") {
				stack = stack[:1]
			}
			todo = append(strings.Split(next.link, "/"), todo...)
			followed = true
		case mode != walkMake:
			return nil, nil
		case len(part) > maxName:
			return nil, fmt.Errorf("%w: %q leads to a name that is too long", ErrBadLayer, name)
		case isWhiteout(part):
			return nil, fmt.Errorf("%w: %q leads through a whiteout, %q", ErrBadLayer, name, part)
		case len(stack) > t.limits.Depth:
			return nil, tooDeep(name, len(stack), t.limits)
		default:
			if t.made++; t.made > t.limits.Entries {
				return nil, overCount("directories in names", t.made, t.limits.Entries, settingFiles)
			}
			made := newDir()
			dir.children[part] = made
			stack = append(stack, made)
		}
	}
	return stack[len(stack)-1], nil
}
