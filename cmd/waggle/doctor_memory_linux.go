// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memInfoMiB reads one value of a file such as /proc/meminfo.
func memInfoMiB(path, name string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for in := bufio.NewScanner(bytes.NewReader(text)); in.Scan(); {
		f := strings.Fields(in.Text())
		if len(f) == 3 && f[0] == name {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			return kib >> 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, strings.TrimSuffix(name, ":"))
}
