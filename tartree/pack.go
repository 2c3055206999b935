// SPDX-License-Identifier: Apache-2.0

package tartree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
)

const (
	// maxDepth bounds the depth of a tree: each level holds a descriptor.
	maxDepth = 512
	// maxLinked bounds the memory for names of files with several links. Beyond
	// it such files are packed as often as they have names.
	maxLinked = 100_000
	chunk     = 256 << 10
)

// Result counts what was packed or unpacked.
type Result struct {
	// Entries are files, directories and links.
	Entries uint64
	// Bytes of content, without holes where they are known.
	Bytes uint64
	// Skipped are devices, FIFOs and sockets.
	Skipped uint64
	// Changed are files that changed their size while they were packed: what is
	// missing was filled with zeros, what was too much was cut off.
	Changed uint64
}

// Pack writes what is at name below root to w: a directory as "./" with all that
// is in it, anything else as one entry named as, or with its base name when as is
// empty. It does not follow links. Files that vanish meanwhile are left out. The context is asked between
// pieces.
func Pack(ctx context.Context, root *os.Root, name, as string, w io.Writer) (Result, error) {
	p := &packer{ctx: ctx, root: root, out: w, tw: tar.NewWriter(w), linked: map[inode]string{}, buf: make([]byte, chunk)}
	info, err := root.Lstat(name)
	if err != nil {
		return p.res, err
	}
	entry := as
	switch {
	case info.IsDir():
		entry = "."
	case as == "":
		entry = path.Base(name)
	}
	if err := p.add(name, entry, info, 0); err != nil {
		return p.res, err
	}
	if err := p.tw.Close(); err != nil {
		return p.res, fmt.Errorf("write archive: %w", err)
	}
	return p.res, nil
}

type inode struct{ dev, ino uint64 }

type packer struct {
	ctx    context.Context // of the whole packing
	root   *os.Root
	out    io.Writer
	tw     *tar.Writer
	linked map[inode]string // the entry under which a file was packed
	buf    []byte
	res    Result
}

// add packs the file at name as entry.
func (p *packer) add(name, entry string, info fs.FileInfo, depth int) error {
	if err := p.ctx.Err(); err != nil {
		return context.Cause(p.ctx)
	}
	switch {
	case info.IsDir():
		return p.addDir(name, entry, info, depth)
	case info.Mode().IsRegular():
		return p.addFile(name, entry, info)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := p.root.Readlink(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return p.header(info, entry, target)
	}
	p.res.Skipped++
	return nil
}

func (p *packer) addDir(name, entry string, info fs.FileInfo, depth int) error {
	if depth > maxDepth {
		return &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENAMETOOLONG}
	}
	if err := p.header(info, entry+"/", ""); err != nil {
		return err
	}
	dir, err := p.root.Open(name)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close() // it was only read
	if err != nil {
		return err
	}
	slices.Sort(names) // the same tree gives the same archive
	for _, child := range names {
		at := path.Join(name, child)
		info, err := p.root.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := p.add(at, entry+"/"+child, info, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) header(info fs.FileInfo, entry, target string) error {
	h, err := headerOf(info, entry, target)
	if err != nil {
		return err
	}
	if err := p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	p.res.Entries++
	return nil
}

func headerOf(info fs.FileInfo, entry, target string) (*tar.Header, error) {
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", entry, err)
	}
	h.Name, h.Format = entry, tar.FormatPAX
	// Names of users mean nothing on another machine; access times change by
	// being looked at.
	h.Uname, h.Gname = "", ""
	h.AccessTime, h.ChangeTime = noTime, noTime
	return h, nil
}

func (p *packer) addFile(name, entry string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
		key := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // it is an int32 on macOS
		if first, seen := p.linked[key]; seen {
			h, err := headerOf(info, entry, "")
			if err != nil {
				return err
			}
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			p.res.Entries++
			return wrap(p.tw.WriteHeader(h))
		}
		if len(p.linked) < maxLinked {
			p.linked[key] = entry
		}
	}
	file, err := openRegular(p.root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	if info, err = file.Stat(); err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // it was swapped for something else
		p.res.Skipped++
		return nil
	}
	data, err := dataOf(file, info.Size())
	if err != nil {
		return err
	}
	p.res.Entries++
	return p.content(file, entry, info, data)
}

// content writes header and data of one file.
func (p *packer) content(file *os.File, entry string, info fs.FileInfo, data []segment) error {
	h, err := headerOf(info, entry, "")
	if err != nil {
		return err
	}
	var body io.Writer = p.tw
	if sparse(data, info.Size()) {
		if err := p.tw.Flush(); err != nil {
			return wrap(err)
		}
		s := &sparseWriter{w: p.out}
		if err := s.begin(h, data); err != nil {
			return wrap(err)
		}
		body = s
		if err := p.copy(file, body, data); err != nil {
			return err
		}
		return wrap(s.end())
	}
	if err := p.tw.WriteHeader(h); err != nil {
		return wrap(err)
	}
	return p.copy(file, body, []segment{{0, info.Size()}})
}

// copy writes exactly the segments, whatever becomes of the file.
func (p *packer) copy(file *os.File, w io.Writer, data []segment) error {
	changed := false
	for _, s := range data {
		for at, end := s.offset, s.offset+s.length; at < end; {
			if p.ctx.Err() != nil {
				return context.Cause(p.ctx)
			}
			piece := p.buf[:min(int64(len(p.buf)), end-at)]
			n, err := file.ReadAt(piece, at)
			if n < len(piece) {
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				changed = true
				clear(piece[n:])
			}
			if _, err := w.Write(piece); err != nil {
				return wrap(err)
			}
			at += int64(len(piece))
			p.res.Bytes += uint64(len(piece))
		}
	}
	if changed {
		p.res.Changed++
	}
	return nil
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write archive: %w", err)
}
