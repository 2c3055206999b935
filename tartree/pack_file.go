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
	"syscall"
)

func (p *packer) addFile(name, entry string, info fs.FileInfo, depth int) error {
	if first, seen := p.linked[inodeOf(info)]; seen {
		h, err := headerOf(info, entry, "")
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		p.res.Entries++
		return wrap(p.tw.WriteHeader(h))
	}
	file, err := openRegular(p.root, name)
	if err != nil {
		return p.unreadable(name, depth, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	if info, err = file.Stat(); err != nil {
		return p.unreadable(name, depth, err)
	}
	if !info.Mode().IsRegular() { // it was swapped for something else
		p.res.Skipped++
		return nil
	}
	data, err := dataOf(file, info.Size())
	if err != nil {
		return p.unreadable(name, depth, err)
	}
	// Only now: a link to what is not in the archive could not be unpacked.
	if key := inodeOf(info); key != (inode{}) && len(p.linked) < maxLinked {
		p.linked[key] = entry
	}
	p.res.Entries++
	rerr, err := p.content(file, entry, info, data)
	if err == nil && rerr != nil {
		return p.unreadable(name, depth, rerr)
	}
	return err
}

// inodeOf identifies a file with several links; it is zero for any other.
func inodeOf(info fs.FileInfo) inode {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return inode{}
	}
	return inode{uint64(st.Dev), st.Ino} //nolint:unconvert // it is an int32 on macOS
}

// content writes header and data of one file. unread is what kept a part of it from
// being read; the archive goes on all the same.
func (p *packer) content(file *os.File, entry string, info fs.FileInfo, data []segment) (unread, err error) {
	h, err := headerOf(info, entry, "")
	if err != nil {
		return nil, err
	}
	if !sparse(data, info.Size()) {
		if err := p.tw.WriteHeader(h); err != nil {
			return nil, wrap(err)
		}
		return p.copy(file, p.tw, []segment{{0, info.Size()}})
	}
	if err := p.tw.Flush(); err != nil {
		return nil, wrap(err)
	}
	s := &sparseWriter{w: p.out}
	if err := s.begin(h, data); err != nil {
		return nil, wrap(err)
	}
	if unread, err = p.copy(file, s, data); err != nil {
		return nil, err
	}
	return unread, wrap(s.end())
}

// copy writes exactly the segments, whatever becomes of the file: the header has
// promised them.
func (p *packer) copy(file *os.File, w io.Writer, data []segment) (unread, err error) {
	changed := false
	for _, s := range data {
		for at, end := s.offset, s.offset+s.length; at < end; {
			if p.ctx.Err() != nil {
				return nil, context.Cause(p.ctx)
			}
			piece := p.buf[:min(int64(len(p.buf)), end-at)]
			n, rerr := file.ReadAt(piece, at)
			if n < len(piece) {
				if rerr != nil && !errors.Is(rerr, io.EOF) {
					unread = rerr
				}
				changed = true
				clear(piece[n:])
			}
			if _, err := w.Write(piece); err != nil {
				return nil, wrap(err)
			}
			at += int64(len(piece))
			p.res.Bytes += uint64(len(piece))
		}
	}
	if changed && unread == nil {
		p.res.Changed++
	}
	return unread, nil
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write archive: %w", err)
}
