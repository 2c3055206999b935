// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	paxXattr = "SCHILY.xattr."
	// maxXattrs is what ext4 has for the attributes of one file.
	maxXattrs     = xattrInInode + xattrInBlock
	maxXattrName  = 255
	xattrInInode  = 256 - 152 - 4 - 4 // what the ext4 writer leaves of an inode
	xattrInBlock  = 4096 - 32 - 4
	xattrOverhead = 16 // of each attribute
)

// keepXattrs picks the attributes that mean something in the guest, copied: what it is
// given are pieces of a larger string, which they would keep alive.
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
		if xattrSpace(name) == "" {
			continue
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[strings.Clone(name)] = strings.Clone(value)
	}
	return out
}

// xattrSpace is the name space of an attribute that is kept, with its dot, else "".
func xattrSpace(name string) string {
	for _, space := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, space) {
			return space
		}
	}
	return ""
}

// checkXattrs refuses attributes that ext4 has no place or no form for. It counts as the
// ext4 writer does, which would otherwise fail in the middle of a disk without a word of
// whose attributes they were, and cut a long name.
func checkXattrs(file string, xattrs map[string]string, bound int) error {
	inode, block, total := xattrInInode, xattrInBlock, 0
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		value := xattrs[name]
		short := len(name) - len(xattrSpace(name))
		if short == 0 || len(name) > maxXattrName {
			return fmt.Errorf("%w: %q has an extended attribute with a name of %d bytes", ErrBadLayer, file, len(name))
		}
		if total += len(name) + len(value); total > bound && bound < maxXattrs {
			return overBytes(fmt.Sprintf("extended attributes of %q", file), int64(total), int64(bound), "WAGGLE_IMAGE_MAX_XATTR")
		}
		switch size := xattrOverhead + (short+3)&^3 + (len(value)+3)&^3; {
		case size <= inode:
			inode -= size
		case size <= block:
			block -= size
		default:
			return fmt.Errorf("%w: the extended attributes of %q do not fit into the %d bytes that ext4 has for those of a file",
				ErrTooLarge, file, maxXattrs)
		}
	}
	return nil
}
