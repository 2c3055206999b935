// SPDX-License-Identifier: Apache-2.0

package environment

import (
	"context"
	"errors"
	"path"
	"strings"

	"github.com/stacklok/waggle/host/guest"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// handIn writes code to a file in the working directory, or, where the user may not
// write that, in the home. Where neither has room it goes to /tmp, which is memory: on a
// full disk, code has to run that makes room again.
func handIn(ctx context.Context, client *guest.Client, k *kit, name, code string) (file string, err error) {
	for _, dir := range []string{k.dir, k.home, "/tmp"} {
		file = path.Join(dir, name)
		open := &guestv1.WriteOpen{Path: file, Size: new(uint64(len(code)))}
		if _, err = client.WriteFile(ctx, open, strings.NewReader(code)); err == nil {
			return file, nil
		}
		err = guestError(ctx, "hand in the code", err)
		if !errors.Is(err, ErrFilePermission) && !errors.Is(err, ErrFileNotFound) && !errors.Is(err, ErrNoSpace) {
			break
		}
	}
	return "", err
}
