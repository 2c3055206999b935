// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/stacklok/waggle/host/krun/jail"
	"github.com/stacklok/waggle/host/krun/spec"
)

// prepare is the first stage.
func prepare(m spec.Machine) error { return jail.Exec(m) }
