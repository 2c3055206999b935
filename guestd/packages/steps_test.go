// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// TestSteps follows what the managers wrote on Debian 12, Alpine 3.20 and Fedora 40.
func TestSteps(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind  guestv1.PackageManager
		lines string
		want  string
	}{
		"pip": {guestv1.PackageManager_PACKAGE_MANAGER_PIP, `
Collecting requests
  Downloading requests-2.32.3-py3-none-any.whl (64 kB)
Collecting idna<4,>=2.5
  Using cached idna-3.10-py3-none-any.whl (70 kB)
Installing collected packages: idna, requests
Successfully installed idna-3.10 requests-2.32.3`,
			"resolving 1/0, downloading 1/0, resolving 2/0, downloading 2/0, installing 0/2, installing 2/2"},
		"pip, nothing to do": {guestv1.PackageManager_PACKAGE_MANAGER_PIP,
			"Requirement already satisfied: six in /usr/lib/python3/dist-packages (1.16.0)", "resolving 1/0"},
		"apt": {guestv1.PackageManager_PACKAGE_MANAGER_APT, `
Reading package lists...
1 upgraded, 1 newly installed, 0 to remove and 3 not upgraded.
Get:1 http://deb.example/debian bookworm/main amd64 tree amd64 2.1.0-1 [52.5 kB]
Get:2 http://deb.example/debian bookworm/main amd64 jq amd64 1.6-2.1 [64.9 kB]
Unpacking tree (2.1.0-1) ...
Unpacking jq (1.6-2.1) over (1.6-2) ...
Setting up tree (2.1.0-1) ...
Setting up jq (1.6-2.1) ...
Processing triggers for man-db (2.11.2-2) ...`,
			"downloading 0/2, downloading 1/2, downloading 2/2, unpacking 1/2, unpacking 2/2, installing 1/2, installing 2/2"},
		"apk": {guestv1.PackageManager_PACKAGE_MANAGER_APK, `
fetch https://apk.example/v3.20/main/x86_64/APKINDEX.tar.gz
(1/2) Installing oniguruma (6.9.9-r0)
(2/2) Installing jq (1.7.1-r0)
OK: 10 MiB in 17 packages`, "updating 1/0, installing 1/2, installing 2/2"},
		"dnf": {guestv1.PackageManager_PACKAGE_MANAGER_DNF, `
Downloading Packages:
(1/2): oniguruma-6.9.9-3.fc40.x86_64.rpm        1.0 MB/s | 212 kB     00:00
  Preparing        :                                                        1/1
  Installing       : oniguruma-6.9.9-3.fc40.x86_64                          1/2
  Installing       : jq-1.7.1-7.fc40.x86_64                                 2/2 `,
			"downloading 0/0, downloading 1/2, installing 1/2, installing 2/2"},
		"numbers without end": {guestv1.PackageManager_PACKAGE_MANAGER_APK,
			"(99999999999/99999999999) Installing x (1)\n(9/3) Installing y (1)", "installing 0/0, installing 9/0"},
		"npm": {guestv1.PackageManager_PACKAGE_MANAGER_NPM, "added 1 package in 2s", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s step
			var got []string
			for line := range strings.Lines(tc.lines) {
				if s.follow(tc.kind, strings.TrimSuffix(line, "\n")) {
					got = append(got, fmt.Sprintf("%s %d/%d", s.phase, s.completed, s.total))
				}
			}
			require.Equal(t, tc.want, strings.Join(got, ", "))
		})
	}
}
