#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the official MCP clients, the conformance suite and the Node.js that runs
# them, as host/mcptest/testdata/package-lock.json pins them, once for each state of
# that file, outside the checkout. Prints the directory. With --where it installs
# nothing, and fails where nothing is installed. Needs npm.
set -eu
cd "$(dirname "$0")/../host/mcptest/testdata"

cache=${WAGGLE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/waggle-test}/mcp
hash=$({ uname -sm; cat package.json package-lock.json; } | sha256sum | cut -c1-16)
dir=$cache/$hash
if [ -d "$dir" ]; then
	echo "$dir"
	exit 0
fi
if [ "${1:-}" = --where ]; then
	echo "mcp-clients: not installed: run 'go tool -modfile=tools/go.mod task mcp-clients'" >&2
	exit 1
fi
mkdir -p "$cache"
# Whole or not at all, also when two run this at once.
new=$(mktemp -d "$cache/new-XXXXXX")
trap 'rm -rf "$new"' EXIT
cp package.json package-lock.json "$new"
# No script of a package runs. That this npm's own Node.js is older than some want is of no
# account: they run on the one that is installed here.
npm ci --prefix "$new" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
mv -T "$new" "$dir" 2>/dev/null || [ -d "$dir" ]
# Those of other states, unless another checkout may still want them.
find "$cache" -mindepth 1 -maxdepth 1 ! -name "$hash" -mtime +7 -exec rm -rf {} +
echo "$dir"
