// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
)

// Tag gives an image of the store one more name, which may have meant something else
// before. What that had alone is swept. The signature policy sees the image under the new
// name as under the old one.
func (s *Store) Tag(ctx context.Context, src, dst string) (*Image, error) {
	names, err := localNames(src)
	if err != nil {
		return nil, err
	}
	name, err := ownName(dst)
	if err != nil {
		return nil, err
	}
	err = s.adding(ctx, func() error {
		desc, ok, err := s.find(names)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("tag %q: %w in the local store; `waggle image ls` lists what is there", src, ErrNotFound)
		}
		if _, err := s.load(desc); err != nil {
			return fmt.Errorf("tag %q: %w", src, err)
		}
		return s.setName(ctx, name, desc)
	})
	if err != nil {
		return nil, err
	}
	return s.Inspect(name)
}
