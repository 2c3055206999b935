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
	maxFile    = 32 << 30
	maxID      = 1<<32 - 1
	maxMajor   = 1<<12 - 1
	maxMinor   = 1<<20 - 1
	maxTime    = 0x37fffffff // ext4 with the extra epoch bits: the year 2446
)

const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutMeta   = ".wh..wh." // aufs bookkeeping, no content
	paxXattr       = "SCHILY.xattr."
)

// entry is one tar entry of a layer: what the file is and where its content
// lies in the spooled layer.
type entry struct {
	name  string // clean, relative to the root; "" is the root itself
	link  string // symlink: the target as it is; hard link: a clean name
	hard  bool
	node  node
	layer int
}

// newEntry checks hdr and brings it into the form that the tree takes. It
// returns nil for entries without meaning for the file system.
func newEntry(hdr *tar.Header, layer int, off int64) (*entry, error) {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil, nil
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink, tar.TypeSymlink,
		tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
	default:
		return nil, fmt.Errorf("%w: %q has the unknown tar type %q", ErrBadLayer, hdr.Name, hdr.Typeflag)
	}
	name, err := cleanName(hdr.Name)
	if err != nil {
		return nil, err
	}
	e := &entry{name: name, layer: layer, node: node{
		typ: hdr.Typeflag, perm: hdr.Mode & 0o7777, uid: hdr.Uid, gid: hdr.Gid,
		mtime: clampTime(hdr.ModTime), layer: layer, off: off,
	}}
	if err := e.setType(hdr); err != nil {
		return nil, err
	}
	if name == "" && e.node.typ != tar.TypeDir {
		return nil, fmt.Errorf("%w: the root is not a directory", ErrBadLayer)
	}
	if hdr.Uid < 0 || hdr.Gid < 0 || int64(hdr.Uid) > maxID || int64(hdr.Gid) > maxID {
		return nil, fmt.Errorf("%w: %q has the owner %d:%d", ErrBadLayer, hdr.Name, hdr.Uid, hdr.Gid)
	}
	e.node.xattrs = keepXattrs(hdr.PAXRecords)
	return e, nil
}

func (e *entry) setType(hdr *tar.Header) (err error) {
	n := &e.node
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		n.typ, n.size = tar.TypeReg, hdr.Size
		if hdr.Size < 0 || hdr.Size > maxFile {
			return fmt.Errorf("%w: %q has %d bytes, the limit for one file is %d", ErrTooLarge, hdr.Name, hdr.Size, int64(maxFile))
		}
	case tar.TypeLink:
		e.hard = true
		e.link, err = cleanName(hdr.Linkname)
	case tar.TypeSymlink:
		n.link = hdr.Linkname
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
func cleanName(name string) (string, error) {
	if len(name) > maxPath {
		return "", fmt.Errorf("%w: a name of %d bytes", ErrBadLayer, len(name))
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
	return path.Clean("/" + name)[1:], nil
}

// keepXattrs picks the attributes that mean something in the guest.
//
// Overlayfs would act on trusted.overlay.* of its lower layer (redirects,
// metacopy, opaque marks), so an image must not bring any. POSIX ACLs are left
// out because ext4 stores them in another form than tar carries them.
func keepXattrs(records map[string]string) map[string]string {
	var out map[string]string
	for key, value := range records {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if !strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "trusted.") && !strings.HasPrefix(name, "security.") {
			continue
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[name] = value
	}
	return out
}

// clampTime keeps what an ext4 timestamp can hold. A time before 1970 would
// spill into the nanoseconds of tar2ext4's encoding.
func clampTime(t time.Time) time.Time {
	if s := t.Unix(); s < 0 || s > maxTime {
		return time.Unix(0, 0)
	}
	return t
}
