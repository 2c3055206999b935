// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"errors"
	"fmt"
	"slices"
)

// lookBelow notes what the hard links of a layer with whiteouts point to before these
// are applied: a tool that unpacks entry by entry makes a link that stands before the
// whiteout of its target.
func (t *tree) lookBelow(entries []*entry) error {
	if !slices.ContainsFunc(entries, func(e *entry) bool { return isWhiteout(e.name) }) {
		return nil
	}
	for _, e := range entries {
		if !e.hard || isWhiteout(e.name) {
			continue
		}
		target, err := t.lookup(e.link)
		if errors.Is(err, ErrTooLarge) {
			return err
		}
		if err == nil && target != nil && !target.isDir() {
			e.below = target
		}
	}
	return nil
}

// linkPending makes the hard links that stood before their target in the tar, and then
// those to a file that the layer hides. Each round makes at least one or ends the loop.
func (t *tree) linkPending(pending []*entry) error {
	for len(pending) > 0 {
		var left []*entry
		for _, e := range pending {
			done, err := t.put(e)
			if err != nil {
				return err
			}
			if !done {
				left = append(left, e)
			}
		}
		if len(left) == len(pending) && !takeBelow(left) {
			return fmt.Errorf("%w: hard link %q points to %q, which does not exist", ErrBadLayer, left[0].name, left[0].link)
		}
		pending = left
	}
	return nil
}

// takeBelow lets links to hidden files be made, and reports whether there are any.
func takeBelow(left []*entry) (any bool) {
	for _, e := range left {
		if e.below != nil && !e.hidden {
			e.hidden, any = true, true
		}
	}
	return any
}
