// SPDX-License-Identifier: Apache-2.0

package tartree

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// tempPrefix begins the names of files that are not whole yet: those of files that
// guestd writes, which its Watch leaves out.
const tempPrefix = ".waggle-"

// enter returns the directory of a file, made where it is missing. It stays open
// for the files that follow: each step of a path costs a system call or two.
func (u *unpacker) enter(dir string) (*os.Root, error) {
	if u.open != nil && u.openName == dir {
		return u.open, nil
	}
	u.leave()
	if err := u.root.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	open, err := u.root.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	u.open, u.openName = open, dir
	return open, nil
}

func (u *unpacker) leave() {
	if u.open != nil {
		_ = u.open.Close() // nothing is written by it
		u.open = nil
	}
}

// file unpacks a file under another name and renames it when it is whole, so that an
// archive that breaks off in it leaves what was there before. Nothing is synced: the
// promise is to readers and after an interruption, not after a crash of the machine.
func (u *unpacker) file(name string, h *tar.Header) error {
	dir, err := u.enter(path.Dir(name))
	if err != nil {
		return err
	}
	temp := tempPrefix + rand.Text()
	// The file is new: nobody else's link is written through.
	f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return named(err, name)
	}
	err = u.fill(f, h)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && !h.ModTime.IsZero() {
		err = dir.Chtimes(temp, time.Now(), h.ModTime)
	}
	if err == nil {
		err = place(dir, temp, path.Base(name))
	}
	if err != nil {
		_ = dir.Remove(temp) // the first error matters
	}
	return named(err, name)
}

// fill writes content, owner and permissions of a file.
func (u *unpacker) fill(f *os.File, h *tar.Header) error {
	// At once, so that a size that no file system takes is refused before its
	// zeros are read.
	if err := f.Truncate(h.Size); err != nil {
		return err
	}
	if err := u.content(f, h.Size); err != nil {
		return err
	}
	return u.fileAttributes(f, h)
}

// place gives a file its name. What was there is replaced: in one step, but for an
// empty directory.
func place(dir *os.Root, temp, name string) error {
	err := dir.Rename(temp, name)
	if err == nil {
		return nil
	}
	if info, serr := dir.Lstat(name); serr != nil || !info.IsDir() {
		return err
	}
	if err := clearIn(dir, name); err != nil {
		return err
	}
	return dir.Rename(temp, name)
}

// named has an error speak of the file that was meant, not of its temporary name.
func named(err error, name string) error {
	var p *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &p):
		p.Path = name
	case errors.As(err, &link):
		return &fs.PathError{Op: link.Op, Path: name, Err: link.Err}
	}
	return err
}

// fileAttributes sets owner and permissions of a file that is open.
func (u *unpacker) fileAttributes(f *os.File, h *tar.Header) error {
	if u.opts.Owners {
		if err := f.Chown(h.Uid, h.Gid); err != nil {
			return err
		}
	}
	return f.Chmod(u.modeOf(h))
}

// content writes what the archive has of a file. Blocks of zeros become holes.
func (u *unpacker) content(f *os.File, size int64) error {
	var at int64
	for {
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		n, err := io.ReadFull(u.tr, u.buf)
		if n > 0 {
			w, werr := writeData(f, u.buf[:n], at)
			u.res.Bytes += uint64(w)
			at += int64(n)
			if werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && at == size {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
	}
}

var zeros [holeSize]byte

// writeData writes the blocks of p that are not all zero, adjacent ones at once.
func writeData(f *os.File, p []byte, at int64) (written int64, err error) {
	for i := 0; i < len(p); {
		begin := i
		for i < len(p) && !zero(p[i:min(i+holeSize, len(p))]) {
			i = min(i+holeSize, len(p))
		}
		if i > begin {
			n, err := f.WriteAt(p[begin:i], at+int64(begin))
			written += int64(n)
			if err != nil {
				return written, err
			}
		}
		for i < len(p) && zero(p[i:min(i+holeSize, len(p))]) {
			i = min(i+holeSize, len(p))
		}
	}
	return written, nil
}

func zero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }
