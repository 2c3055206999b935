// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vmm

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
)

func dieWithParent(*syscall.SysProcAttr) {}

func restrictThread() error { return nil }

// ProbeKVM fails: KVM is Linux's.
func ProbeKVM() error { return errors.New("KVM exists on Linux only") }

// Identity says that a VMM runs as the caller: here nobody gives it another user.
func Identity(string) (who string, shared bool, err error) {
	return fmt.Sprintf("your own user (uid %d)", os.Geteuid()), true, nil
}

// Credential is nil: a VMM runs as its starter.
func Credential(string, *User, string, *slog.Logger) (*syscall.Credential, error) { return nil, nil }
