#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# images.sh [RUNTIME ...] prepares reference images (shell, python, node; all by
# default) in Waggle's local store: Debian packages, imported, guestd baked in.
# The root file systems are kept by the hash of what they are made from, so a
# second run takes seconds. Needs bin/waggle and bin/guestd-linux-ARCH.
set -eu
cd "$(dirname "$0")/.."

waggle=bin/waggle
[ -x "$waggle" ] || { echo "images: $waggle is missing: run 'task build' first" >&2; exit 1; }

cache=${WAGGLE_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/waggle/rootfs}
mkdir -p "$cache"
[ $# -gt 0 ] || set -- shell python node

for runtime in "$@"; do
	start=$(date +%s)
	hash=$(cat images/build.sh images/finish.sh | sha256sum | cut -c1-16)
	tar=$cache/$runtime-$hash.tar
	if [ -s "$tar" ]; then
		echo "images: $runtime: root file system is there"
	else
		echo "images: $runtime: building the root file system from Debian packages (about a minute)"
		images/build.sh "$runtime" "$tar"
	fi
	"$waggle" image import --user sandbox --workdir /home/sandbox \
		--env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		"$tar" "waggle/$runtime:rootfs" >/dev/null
	"$waggle" image bake "waggle/$runtime:rootfs" "waggle/$runtime:latest"
	"$waggle" image rm "waggle/$runtime:rootfs"
	echo "images: $runtime: ready after $(($(date +%s) - start)) s"
done
