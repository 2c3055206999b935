// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/stacklok/waggle/host/remedy"
)

// signTimeout bounds the question for a signature.
const signTimeout = 10 * time.Second

// entitlements are what macOS must let waggle-krun do. scripts/entitlements.plist
// has them, without a comment, which the kernel's reader of that file may refuse.
var entitlements = []string{
	"com.apple.security.hypervisor", // libkrun makes its machine with Hypervisor.framework
	// libkrun and libkrunfw are signed by somebody else.
	"com.apple.security.cs.disable-library-validation",
	// libkrun opens libkrunfw by its bare name, and Homebrew's directory is found
	// by DYLD_LIBRARY_PATH alone.
	"com.apple.security.cs.allow-dyld-environment-variables",
}

// checkSigned says which entitlement a program of macOS lacks.
func checkSigned(ctx context.Context, path string) error {
	askCtx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	out, err := exec.CommandContext(askCtx, "codesign", "--display", "--entitlements", "-", "--xml", path).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return entitled(path, out, err)
}

// entitled reads what codesign said.
func entitled(path string, plist []byte, err error) error {
	mend := remedy.RunTask("sign")
	if err != nil {
		return fmt.Errorf("ask for the signature of %s: %w; %s", path, err, mend)
	}
	for _, name := range entitlements {
		_, after, found := bytes.Cut(plist, []byte("<key>"+name+"</key>"))
		if !found || !bytes.HasPrefix(bytes.TrimSpace(after), []byte("<true/>")) {
			return fmt.Errorf("%s lacks the entitlement %s: %s", path, name, mend)
		}
	}
	return nil
}
