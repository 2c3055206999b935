// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

const (
	// maxEntries bounds the files of an image that are remembered, maxLinks the
	// symbolic links of one path.
	maxEntries = 2_000_000
	maxLinks   = 40
)

// node is one file of an image.
type node struct {
	kind     byte // as in tar
	mode     int64
	uid, gid int
	link     string
}

// tree is the files of an image by their paths without the leading slash, and the
// content of a few of them.
type tree struct {
	nodes   map[string]node
	content map[string][]byte
}

// readTree lays the layers over each other. Of the files in keep it keeps up to so
// many bytes of content.
func (img *Image) readTree(ctx context.Context, keep map[string]int64) (*tree, error) {
	t := &tree{nodes: make(map[string]node), content: make(map[string][]byte)}
	for _, l := range img.Layers {
		if err := t.lay(ctx, l, keep); err != nil {
			return nil, fmt.Errorf("read layer %s: %w", l.Digest, err)
		}
	}
	return t, nil
}

// upper is one layer: what it adds, and what it takes from those below.
type upper struct {
	nodes  map[string]node
	gone   map[string]bool // files that are deleted
	opaque map[string]bool // directories whose content is deleted
}

func (t *tree) lay(ctx context.Context, l Layer, keep map[string]int64) error {
	r, err := l.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	u := upper{nodes: make(map[string]node), gone: make(map[string]bool), opaque: make(map[string]bool)}
	content := make(map[string][]byte)
	tr := tar.NewReader(&sourceReader{ctx: ctx, r: r})
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(t.nodes)+len(u.nodes)+len(u.gone) >= maxEntries {
			return fmt.Errorf("%w: it has more than %d files", ErrCorrupt, maxEntries)
		}
		name := path.Clean("/" + hdr.Name)[1:]
		u.add(name, hdr, t)
		if limit := keep[name]; limit > 0 && hdr.Typeflag == tar.TypeReg {
			if content[name], err = io.ReadAll(io.LimitReader(tr, limit)); err != nil {
				return err
			}
		}
	}
	t.merge(u)
	for name, b := range content {
		t.content[name] = b
	}
	return nil
}

// add notes one entry. A hard link is what it links to.
func (u *upper) add(name string, hdr *tar.Header, below *tree) {
	dir, base := path.Split(name)
	switch {
	case base == ".wh..wh..opq":
		u.opaque[path.Clean(dir)] = true
		return
	case strings.HasPrefix(base, ".wh."):
		u.gone[dir+strings.TrimPrefix(base, ".wh.")] = true
		return
	}
	n := node{kind: hdr.Typeflag, mode: hdr.Mode & 0o7777, uid: hdr.Uid, gid: hdr.Gid, link: hdr.Linkname}
	if hdr.Typeflag == tar.TypeLink {
		target := path.Clean("/" + hdr.Linkname)[1:]
		var ok bool
		if n, ok = u.nodes[target]; !ok {
			n = below.nodes[target]
		}
	}
	u.nodes[name] = n
}

// merge lays a layer over the tree.
func (t *tree) merge(u upper) {
	for name := range t.nodes {
		if u.hides(name) {
			delete(t.nodes, name)
			delete(t.content, name)
		}
	}
	for name, n := range u.nodes {
		delete(t.content, name)
		t.nodes[name] = n
	}
}

// hides says whether the layer deletes a file of those below, or covers a directory
// above it with something else.
func (u *upper) hides(name string) bool {
	if u.gone[name] {
		return true
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		over, ok := u.nodes[dir]
		if u.gone[dir] || u.opaque[dir] || ok && over.kind != tar.TypeDir {
			return true
		}
	}
	return u.opaque["."]
}

// find follows the symbolic links of an absolute path.
func (t *tree) find(name string) (string, node, bool) {
	rest := strings.Split(path.Clean("/" + name)[1:], "/")
	at, links := "", 0
	for len(rest) > 0 {
		next := path.Join(at, rest[0])
		rest = rest[1:]
		n, ok := t.nodes[next]
		if ok && n.kind == tar.TypeSymlink {
			if links++; links > maxLinks {
				return "", node{}, false
			}
			target := n.link
			if !path.IsAbs(target) {
				target = "/" + path.Join(path.Dir(next), target)
			}
			rest = append(strings.Split(path.Clean("/" + target)[1:], "/"), rest...)
			at = ""
			continue
		}
		at = next
	}
	n, ok := t.nodes[at]
	return at, n, ok
}

// program returns where along PATH a program is, or "".
func (t *tree) program(name, searchPath string) string {
	for _, dir := range strings.Split(searchPath, ":") {
		if !path.IsAbs(dir) {
			continue
		}
		file := path.Join(dir, name)
		if _, n, ok := t.find(file); ok && n.kind == tar.TypeReg && n.mode&0o111 != 0 {
			return file
		}
	}
	return ""
}
