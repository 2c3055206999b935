// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// neededCapabilities are root's, with which it gives each VMM a user of its own
// and ends it. A container may lack them.
var neededCapabilities = []struct {
	name string
	bit  int
}{
	{"CAP_SETUID", unix.CAP_SETUID}, {"CAP_SETGID", unix.CAP_SETGID}, {"CAP_KILL", unix.CAP_KILL},
}

// Identity says as whom the VMM called name runs when the caller starts it. shared: machines
// have one user together. err: it cannot be started as it should.
func Identity(name string) (who string, shared bool, err error) {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Sprintf("your own user (uid %d)", uid), true, nil
	}
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return "", false, fmt.Errorf("read own capabilities: %w", err)
	}
	defer status.Close()
	if missing := lacking(bufio.NewScanner(status)); len(missing) > 0 {
		return "", false, fmt.Errorf("root without %s cannot start %s as another user", strings.Join(missing, ", "), name)
	}
	maps, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return "", false, fmt.Errorf("read own user namespace: %w", err)
	}
	defer maps.Close()
	if !mapped(maps, privateBase) {
		return fmt.Sprintf("nobody (uid %d): this user namespace has no uids from %d on", nobody, privateBase), true, nil
	}
	return fmt.Sprintf("a user of its own for each machine (uids from %d on)", privateBase), false, nil
}

// lacking returns the needed capabilities that are not in the effective set.
func lacking(status *bufio.Scanner) []string {
	var missing []string
	for status.Scan() {
		text, ok := strings.CutPrefix(status.Text(), "CapEff:")
		if !ok {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
		for _, c := range neededCapabilities {
			if err != nil || set&(1<<c.bit) == 0 {
				missing = append(missing, c.name)
			}
		}
	}
	return missing
}
