#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [SERVE FLAGS] goes from a fresh checkout to a running server: installs
# what is missing, builds, prepares the kernel and the python image, and serves.
# Each step says how long it took; what is there already takes no time.
set -eu
cd "$(dirname "$0")/.."

step() { # step NAME COMMAND...
	name=$1
	shift
	start=$(date +%s)
	echo "run: $name"
	"$@"
	echo "run: $name done after $(($(date +%s) - start)) s"
}
task() {
	if [ -n "${TASK:-}" ]; then
		"$TASK" --silent "$@"
	else
		go tool -modfile=tools/go.mod task --silent "$@"
	fi
}

step "missing packages" task deps
step "build" task build
step "guest kernel" task kernel
step "python image" ./scripts/images.sh python
echo "run: other runtimes: go tool -modfile=tools/go.mod task images; end with Ctrl-C"
exec bin/waggle serve "$@"
