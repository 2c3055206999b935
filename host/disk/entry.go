// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"
	"time"
)

// Bounds of Linux and of ext4 that every name and inode has to keep.
const (
	maxName    = 255
	maxPath    = 4095
	maxSymlink = 4095 // ext4 keeps the target in one block
	maxID      = 1<<32 - 1
	maxMajor   = 1<<12 - 1
	maxMinor   = 1<<20 - 1
	minTime    = -1 << 31    // the year 1901
	maxTime    = 0x27fffffff // the year 2310; ext4 goes to 2446, its writer does not
	maxLinks   = 65000       // names of a file; directories in a directory, and 2
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // aufs bookkeeping, no content
)

// entry is one tar entry of a layer: what the file is and where its content
// lies in the spooled layer.
type entry struct {
	name  string // clean, relative to the root; "" is the root itself
	link  string // symlink: the target as it is; hard link: a clean name
	hard  bool
	node  node
	layer int
	// below is what a hard link pointed to before the layer's whiteouts; hidden says
	// that these have hidden it and that it is to be taken all the same.
	below  *node
	hidden bool
}

// memory is what the entry holds of what the layer says, in bytes.
func (e *entry) memory() int64 {
	n := len(e.name) + len(e.link) + len(e.node.link)
	for key, value := range e.node.xattrs {
		n += len(key) + len(value)
	}
	return int64(n)
}

// newEntry checks hdr and brings it into the form that the tree takes. It
// returns nil for entries without meaning for the file system. It keeps copies of
// what it takes from hdr, whose strings may be pieces of one that is 1 MiB long.
func newEntry(hdr *tar.Header, layer int, off int64, limits Limits) (*entry, error) {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil, nil
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink, tar.TypeSymlink,
		tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
	default:
		return nil, fmt.Errorf("%w: %q has the unknown tar type %q", ErrBadLayer, hdr.Name, hdr.Typeflag)
	}
	name, err := cleanName(hdr.Name, limits)
	if err != nil {
		return nil, err
	}
	e := &entry{name: name, layer: layer, node: node{
		typ: hdr.Typeflag, perm: hdr.Mode & 0o7777, uid: hdr.Uid, gid: hdr.Gid,
		mtime: clampTime(hdr.ModTime), layer: layer, off: off,
	}}
	if err := e.setType(hdr, limits); err != nil {
		return nil, err
	}
	if name == "" && e.node.typ != tar.TypeDir {
		return nil, fmt.Errorf("%w: the root is not a directory", ErrBadLayer)
	}
	if hdr.Uid < 0 || hdr.Gid < 0 || int64(hdr.Uid) > maxID || int64(hdr.Gid) > maxID {
		return nil, fmt.Errorf("%w: %q has the owner %d:%d", ErrBadLayer, hdr.Name, hdr.Uid, hdr.Gid)
	}
	e.node.xattrs = keepXattrs(hdr.PAXRecords)
	return e, checkXattrs(hdr.Name, e.node.xattrs, limits.XattrBytes)
}

func (e *entry) setType(hdr *tar.Header, limits Limits) (err error) {
	n := &e.node
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		n.typ, n.size = tar.TypeReg, hdr.Size
		if hdr.Size < 0 {
			return fmt.Errorf("%w: %q has %d bytes", ErrBadLayer, hdr.Name, hdr.Size)
		}
		if hdr.Size > limits.FileBytes {
			return overBytes(fmt.Sprintf("file %q", hdr.Name), hdr.Size, limits.FileBytes, "WAGGLE_IMAGE_MAX_FILE_MB")
		}
	case tar.TypeLink:
		e.hard = true
		e.link, err = cleanName(hdr.Linkname, limits)
	case tar.TypeSymlink:
		n.link = strings.Clone(hdr.Linkname)
		if n.link == "" || len(n.link) > maxSymlink {
			return fmt.Errorf("%w: symlink %q has a target of %d bytes", ErrBadLayer, hdr.Name, len(n.link))
		}
	case tar.TypeChar, tar.TypeBlock:
		n.major, n.minor = hdr.Devmajor, hdr.Devminor
		if n.major < 0 || n.major > maxMajor || n.minor < 0 || n.minor > maxMinor {
			return fmt.Errorf("%w: device %q has the number %d:%d", ErrBadLayer, hdr.Name, n.major, n.minor)
		}
	}
	return err
}

// cleanName makes a tar name relative to the root. Leading slashes are common
// and harmless here; ".." is neither.
func cleanName(name string, limits Limits) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("%w: a name of %d bytes", ErrBadLayer, len(name))
	}
	if len(name) > limits.PathBytes {
		return "", overCount(fmt.Sprintf("bytes of the name %q", name), len(name), limits.PathBytes, "WAGGLE_IMAGE_MAX_PATH")
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: %q leaves the root", ErrBadLayer, name)
		}
		if len(part) > maxName {
			return "", fmt.Errorf("%w: %q has a component of %d bytes", ErrBadLayer, name, len(part))
		}
		if strings.ContainsRune(part, 0) {
			return "", fmt.Errorf("%w: %q contains a NUL", ErrBadLayer, name)
		}
	}
	clean := path.Clean("/" + name)[1:]
	if depth := strings.Count(clean, "/") + 1; depth > limits.Depth {
		return "", tooDeep(name, depth, limits)
	}
	return clean, nil
}

func tooDeep(name string, depth int, limits Limits) error {
	return overCount(fmt.Sprintf("directories, one in the other, of %q", name), depth, limits.Depth, "WAGGLE_IMAGE_MAX_DEPTH")
}

// clampTime keeps what an ext4 timestamp can hold.
func clampTime(t time.Time) time.Time {
	if s := t.Unix(); s < minTime || s > maxTime {
		return time.Unix(0, 0)
	}
	return t
}

// ext4Time is what the ext4 writer has to be told for the kernel to read t. The writer
// puts the seconds down as they are, above 32 bits those that the kernel adds to a
// signed number: from 2038 on, and before 1970, that would be another year.
func ext4Time(t time.Time) time.Time {
	s := t.Unix()
	epoch := (s - int64(int32(s))) >> 32
	return time.Unix(int64(uint32(s))|epoch<<32, int64(t.Nanosecond()))
}
