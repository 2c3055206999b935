// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package krun

import (
	"syscall"

	"github.com/stacklok/waggle/host/krun/spec"
)

// confinement: there is no jail here (docs/libkrun.md).
const confinement = spec.Unconfined

func isolated(*spec.User) syscall.SysProcAttr { return syscall.SysProcAttr{} }
