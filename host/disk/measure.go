// SPDX-License-Identifier: Apache-2.0

package disk

import "fmt"

// place is a name that measure goes to.
type place struct {
	n             *node
	base          string
	depth, length int
}

// measure returns the bytes of content and an upper bound of the disk's size. It
// refuses what came together only in the merge, through symlinks or over layers, and
// what ext4 has no number for.
func (t *tree) measure() (content, disk int64, err error) {
	names := make(map[*node]int)
	todo := []place{{n: t.root}}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if names[p.n]++; names[p.n] > maxLinks {
			return 0, 0, fmt.Errorf("%w: the file %q has more than %d names (hard links), which ext4 cannot count", ErrTooLarge, p.base, maxLinks)
		}
		if names[p.n] > 1 {
			continue
		}
		content += p.n.size
		subdirs := 0
		for base, child := range p.n.children {
			next := place{child, base, p.depth + 1, p.length + len("/") + len(base)}
			if err := t.fits(next); err != nil {
				return 0, 0, err
			}
			if child.isDir() {
				subdirs++
			}
			todo = append(todo, next)
		}
		if subdirs > maxLinks-2-1 { // lost+found may be one more
			return 0, 0, fmt.Errorf("%w: there are %d directories in %q, and ext4 counts to %d", ErrTooLarge, subdirs, p.base, maxLinks-2)
		}
	}
	return content, content + int64(len(names))*perInode + 1<<20, nil
}

// fits checks the length and the depth of a name.
func (t *tree) fits(p place) error {
	if p.depth > t.limits.Depth {
		return tooDeep("…/"+p.base, p.depth, t.limits)
	}
	switch length := p.length - len("/"); {
	case length > maxPath:
		return fmt.Errorf("%w: a name of %d bytes, of …/%q", ErrBadLayer, length, p.base)
	case length > t.limits.PathBytes:
		return overCount(fmt.Sprintf("bytes of the name of …/%q", p.base), length, t.limits.PathBytes, "WAGGLE_IMAGE_MAX_PATH")
	}
	return nil
}
