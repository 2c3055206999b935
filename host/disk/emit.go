// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// lostFound is made by the ext4 writer itself. Anything of an image under this
// name other than a directory cannot be kept.
const lostFound = "lost+found"

// emitter writes the tree as one tar for the ext4 writer: each directory
// before what it holds, names in byte order, the first name of a file with the
// content and the further ones as links.
type emitter struct {
	ctx    context.Context
	tw     *tar.Writer
	spools []*spool
	buf    []byte
	report func(bytes int64)
	bytes  int64
}

func (m *emitter) tree(t *tree) error {
	if lf := t.root.children[lostFound]; lf != nil && !lf.isDir() {
		delete(t.root.children, lostFound)
	}
	if err := m.node("", t.root); err != nil {
		return err
	}
	if err := m.tw.Close(); err != nil {
		return fmt.Errorf("write disk: %w", err)
	}
	return nil
}

// node writes n and, for a directory, all below it. The depth is bounded by
// maxPath.
func (m *emitter) node(name string, n *node) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	if len(name) > maxPath {
		return fmt.Errorf("%w: a name of %d bytes", ErrBadLayer, len(name))
	}
	if err := m.file(name, n); err != nil {
		return err
	}
	for _, base := range slices.Sorted(maps.Keys(n.children)) {
		child := base
		if name != "" {
			child = name + "/" + base
		}
		if err := m.node(child, n.children[base]); err != nil {
			return err
		}
	}
	return nil
}

func (m *emitter) file(name string, n *node) error {
	hdr := n.header(name)
	if n.emitted != "" {
		hdr = &tar.Header{Typeflag: tar.TypeLink, Name: hdr.Name, Linkname: n.emitted, Format: tar.FormatPAX}
	}
	if err := m.tw.WriteHeader(hdr); err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	if hdr.Typeflag != tar.TypeReg {
		n.emitted = hdr.Name
		return nil
	}
	n.emitted = hdr.Name
	if n.size == 0 {
		return nil
	}
	r, err := m.spools[n.layer].open(n.off)
	if err != nil {
		return fmt.Errorf("read %q: %w", name, err)
	}
	for left := n.size; left > 0; {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		part, err := io.CopyBuffer(onlyWriter{m.tw}, onlyReader{io.LimitReader(r, min(left, 16*copyBuffer))}, m.buf)
		if err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
		if part == 0 {
			return fmt.Errorf("write %q: %w", name, io.ErrUnexpectedEOF)
		}
		left -= part
		m.bytes += part
	}
	m.report(m.bytes)
	return nil
}

func (n *node) header(name string) *tar.Header {
	mtime := ext4Time(n.mtime)
	hdr := &tar.Header{
		Typeflag: n.typ, Name: "/" + name, Linkname: n.link, Size: n.size, Mode: n.perm,
		Uid: n.uid, Gid: n.gid, Devmajor: n.major, Devminor: n.minor,
		// Access and change time would otherwise be those of 1970.
		ModTime: mtime, AccessTime: mtime, ChangeTime: mtime,
		Format: tar.FormatPAX,
	}
	if n.isDir() && name != "" {
		hdr.Name += "/"
	}
	for key, value := range n.xattrs {
		if hdr.PAXRecords == nil {
			hdr.PAXRecords = make(map[string]string)
		}
		hdr.PAXRecords[paxXattr+key] = value
	}
	if hdr.ModTime.Equal(time.Unix(0, 0)) {
		// The zero of ext4 is the same moment and spares the PAX records.
		hdr.AccessTime, hdr.ChangeTime = time.Time{}, time.Time{}
	}
	return hdr
}
