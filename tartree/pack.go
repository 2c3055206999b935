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
	// maxFailures bounds what is told of those that could not be read.
	maxFailures = 20
	chunk       = 256 << 10
)

// Result counts what was packed or unpacked.
type Result struct {
	// Entries are files, directories and links.
	Entries uint64
	// Bytes of content, without holes where they are known.
	Bytes uint64
	// Skipped are devices, FIFOs and sockets.
	Skipped uint64
	// Unreadable are files, directories and links that could not be packed, or not
	// whole: what is missing of a file was filled with zeros. Failures are the first
	// of them.
	Unreadable uint64
	Failures   []Failure
	// Changed are files that changed their size while they were packed: what is
	// missing was filled with zeros, what was too much was cut off.
	Changed uint64
}

// Failure is what could not be read, by its name below the root.
type Failure struct {
	Name string
	Err  error
}

// Pack writes what is at name below root to w: a directory as "./" with all that
// is in it, anything else as one entry named as, or with its base name when as is
// empty. It does not follow links. Files that vanish meanwhile are left out, and what
// is below a directory and cannot be read is noted and left out: only of name itself
// is that an error. The context is asked between pieces.
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
		return p.addFile(name, entry, info, depth)
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := p.root.Readlink(name)
		if err != nil {
			return p.unreadable(name, depth, err)
		}
		return p.header(info, entry, target)
	}
	p.res.Skipped++
	return nil
}

// unreadable notes what could not be read. It returns err when that is all that there
// is to pack.
func (p *packer) unreadable(name string, depth int, err error) error {
	switch {
	case depth == 0:
		return err
	case errors.Is(err, fs.ErrNotExist):
		return nil // it has vanished
	}
	p.res.Unreadable++
	if len(p.res.Failures) < maxFailures {
		p.res.Failures = append(p.res.Failures, Failure{name, err})
	}
	return nil
}

func (p *packer) addDir(name, entry string, info fs.FileInfo, depth int) error {
	if depth > maxDepth {
		return p.unreadable(name, depth, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENAMETOOLONG})
	}
	if err := p.header(info, entry+"/", ""); err != nil {
		return err
	}
	dir, err := p.root.Open(name)
	if err != nil {
		return p.unreadable(name, depth, err)
	}
	names, err := dir.Readdirnames(-1)
	_ = dir.Close() // it was only read
	if err != nil {
		return p.unreadable(name, depth, err)
	}
	slices.Sort(names) // the same tree gives the same archive
	for _, child := range names {
		at := path.Join(name, child)
		info, err := p.root.Lstat(at)
		if err != nil {
			if err := p.unreadable(at, depth+1, err); err != nil {
				return err
			}
			continue
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
