#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# images.sh [RUNTIME ...] prepares reference images (shell, python, node; all by
# default) in Waggle's local store: Debian packages, imported, guestd baked in.
# The root file systems are kept by the hash of what they are made from, and an
# image whose label has that hash gets a new guestd only: a second run takes
# seconds. WAGGLE_IMAGE_REFRESH=1 makes them anew, with the newest packages. Needs
# bin/waggle, bin/guestd-linux-ARCH and jq.
set -eu
cd "$(dirname "$0")/.."

waggle=bin/waggle
[ -x "$waggle" ] || { echo "images: $waggle is missing: run 'go tool -modfile=tools/go.mod task build' first" >&2; exit 1; }

cache=${WAGGLE_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/waggle/rootfs}
mkdir -p "$cache"
[ $# -gt 0 ] || set -- shell python node

hash=$({ uname -m; echo "${WAGGLE_IMAGE_SUITE:-}"; cat images/build.sh images/finish.sh; } | sha256sum | cut -c1-16)
label=io.waggle.rootfs

# made says whether the image is there and made from these scripts.
made() { # made IMAGE
	[ -z "${WAGGLE_IMAGE_REFRESH:-}" ] && "$waggle" image ls --json |
		jq -e ".[] | select(.ref == \"$1\" and .config.labels[\"$label\"] == \"$hash\")" >/dev/null
}

# rootfs makes $cache/RUNTIME-HASH.tar, if it is not there.
rootfs() { # rootfs RUNTIME
	tar=$cache/$1-$hash.tar
	if [ -s "$tar" ] && [ -z "${WAGGLE_IMAGE_REFRESH:-}" ]; then
		echo "images: $1: root file system is there"
		return
	fi
	echo "images: $1: building the root file system from Debian packages (about a minute)"
	images/build.sh "$1" "$tar"
	# Those of other hashes, unless another checkout may still want them.
	find "$cache" -name "$1-*.tar" ! -name "$1-$hash.tar" -mtime +7 -delete
}

for runtime in "$@"; do
	start=$(date +%s)
	image=waggle/$runtime:latest
	if ! { made "$image" && "$waggle" image bake "$image"; }; then
		rootfs "$runtime"
		"$waggle" image import --user sandbox --workdir /home/sandbox --label "$label=$hash" \
			--env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			"$tar" "waggle/$runtime:rootfs" >/dev/null
		"$waggle" image bake "waggle/$runtime:rootfs" "$image"
		"$waggle" image rm "waggle/$runtime:rootfs"
	fi
	echo "images: $runtime: ready after $(($(date +%s) - start)) s"
done
