// SPDX-License-Identifier: Apache-2.0

package krun

import (
	"context"

	"github.com/stacklok/waggle/host/vm"
)

// Start starts one machine. See vm.Backend.
func (b *Backend) Start(ctx context.Context, spec vm.Spec) (vm.Machine, error) {
	return nil, ErrNoLibrary
}
