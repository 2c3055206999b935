// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// The first version with -netdev stream, which carries the guest's network.
const minMajor, minMinor = 7, 2

var versionPattern = regexp.MustCompile(`version (\d+)\.(\d+)[.\d]*`)

// Version asks the QEMU at path (see FindBinary) for its version, and fails if
// that is too old. It starts a process, so machines do without it.
func Version(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	return parseVersion(out)
}

func parseVersion(out []byte) (string, error) {
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return "", fmt.Errorf("find the version in what qemu says: %.80q", out)
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return "", fmt.Errorf("read qemu version: %w", err)
	}
	minor, err := strconv.Atoi(string(match[2]))
	if err != nil {
		return "", fmt.Errorf("read qemu version: %w", err)
	}
	version := string(match[0][len("version "):])
	if major < minMajor || major == minMajor && minor < minMinor {
		return "", fmt.Errorf("qemu %s is too old: %d.%d or later is needed (Debian 12, Ubuntu 24.04)",
			version, minMajor, minMinor)
	}
	return version, nil
}
