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
	"path/filepath"
	"strings"
	"time"
)

const (
	// holeSize is the granularity at which zeros become holes, the block of
	// common file systems.
	holeSize = 4 << 10
	// maxDirs bounds the memory for directories whose times and permissions are
	// set last; beyond it they are set at once.
	maxDirs = 100_000
)

// Options say what is taken over from an archive.
type Options struct {
	// Owners are kept, and the bits setuid, setgid and sticky with them. Needs
	// the rights of root.
	Owners bool
}

// Unpack writes an archive below root. A file that exists is replaced when the new
// one is whole, a directory is kept and filled. The first error ends it; what was
// written before stays.
func Unpack(ctx context.Context, root *os.Root, r io.Reader, opts Options) (Result, error) {
	u := &unpacker{ctx: ctx, root: root, tr: tar.NewReader(r), opts: opts, buf: make([]byte, chunk)}
	defer u.leave()
	for {
		if ctx.Err() != nil {
			return u.res, context.Cause(ctx)
		}
		h, err := u.tr.Next()
		if errors.Is(err, io.EOF) {
			return u.res, u.finish()
		}
		if err != nil {
			return u.res, fmt.Errorf("read archive: %w", err)
		}
		if err := u.entry(h); err != nil {
			return u.res, err
		}
	}
}

type unpacker struct {
	ctx  context.Context // of the whole unpacking
	root *os.Root
	tr   *tar.Reader
	opts Options
	dirs []dir // deepest last
	buf  []byte
	res  Result

	open     *os.Root // the directory of the last file; nil: none
	openName string
}

// dir is a directory that gets its permissions and times last: it may be closed
// to its owner, and writing into it changes its time.
type dir struct {
	name   string
	header *tar.Header
}

// ErrName is an entry that does not lie below the root.
var ErrName = errors.New("archive entry leaves the directory")

// local turns a name of an archive into one below the root.
func local(name string) (string, error) {
	clean := path.Clean(name)
	if strings.HasPrefix(name, "/") || !filepath.IsLocal(filepath.FromSlash(clean)) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: %.200q", ErrName, name)
	}
	return clean, nil
}

func (u *unpacker) entry(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := local(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		err = u.file(name, h)
	case tar.TypeDir:
		u.leave() // what follows may put something else in its place
		err = u.dir(name, h)
	case tar.TypeSymlink:
		err = u.symlink(name, h)
	case tar.TypeLink:
		err = u.link(name, h)
	default:
		u.res.Skipped++
		return nil
	}
	if err == nil {
		u.res.Entries++
	}
	return err
}

// makeRoom makes the directory of a link, and removes what is in its way.
func (u *unpacker) makeRoom(name string) error {
	u.leave() // its place may be taken
	if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return u.clear(name)
}

// clear removes what is in the way of a file.
func (u *unpacker) clear(name string) error { return clearIn(u.root, name) }

func clearIn(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (u *unpacker) dir(name string, h *tar.Header) error {
	if name != "." {
		if info, err := u.root.Lstat(name); err == nil && !info.IsDir() {
			if err := u.clear(name); err != nil {
				return err
			}
		}
		if err := u.root.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	if len(u.dirs) >= maxDirs {
		return u.attributes(name, h)
	}
	u.dirs = append(u.dirs, dir{name, h})
	return nil
}

func (u *unpacker) symlink(name string, h *tar.Header) error {
	if err := u.makeRoom(name); err != nil {
		return err
	}
	if err := u.root.Symlink(h.Linkname, name); err != nil {
		return err
	}
	if err := u.owner(name, h); err != nil {
		return err
	}
	if h.ModTime.IsZero() {
		return nil
	}
	return linkTime(u.root, name, h.ModTime)
}

func (u *unpacker) link(name string, h *tar.Header) error {
	target, err := local(h.Linkname)
	if err != nil {
		return err
	}
	if target == name {
		return nil
	}
	if err := u.makeRoom(name); err != nil {
		return err
	}
	return u.root.Link(target, name)
}

// attributes sets owner, permissions and times of a directory. The owner comes first: changing
// it takes the setuid bit away.
func (u *unpacker) attributes(name string, h *tar.Header) error {
	if err := u.owner(name, h); err != nil {
		return err
	}
	if err := u.root.Chmod(name, u.modeOf(h)); err != nil {
		return err
	}
	if h.ModTime.IsZero() {
		return nil
	}
	return u.root.Chtimes(name, time.Now(), h.ModTime)
}

func (u *unpacker) modeOf(h *tar.Header) fs.FileMode {
	if u.opts.Owners {
		return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	}
	return h.FileInfo().Mode().Perm()
}

func (u *unpacker) owner(name string, h *tar.Header) error {
	if !u.opts.Owners {
		return nil
	}
	return u.root.Lchown(name, h.Uid, h.Gid)
}

// finish sets what writing into directories would have changed.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := u.attributes(u.dirs[i].name, u.dirs[i].header); err != nil {
			return err
		}
	}
	return nil
}
