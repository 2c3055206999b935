#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# images.sh [IMAGE ...] prepares reference images (base, shell, python, node; all but
# base by default) in Waggle's local store: Debian packages, imported, guestd baked in.
# The root file systems are kept by the hash of what they are made from, and an
# image whose label has that hash gets a new guestd only: a second run takes
# seconds. The packages are those that images/packages.lock pins, but for those that the
# mirrors no longer have (WAGGLE_IMAGE_PINS: prefer by default, strict, newest).
# WAGGLE_IMAGE_REFRESH=1 makes the images anew, with newest by default. Needs bin/waggle,
# bin/guestd-linux-ARCH and jq.
set -eu
cd "$(dirname "$0")/.."

waggle=bin/waggle
[ -x "$waggle" ] || { echo "images: $waggle is missing: run 'go tool -modfile=tools/go.mod task build' first" >&2; exit 1; }

cache=${WAGGLE_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/waggle/rootfs}
mkdir -p "$cache"
[ $# -gt 0 ] || set -- shell python node

pins=prefer
[ -z "${WAGGLE_IMAGE_REFRESH:-}" ] || pins=newest

hash=$({ uname -m; echo "${WAGGLE_IMAGE_SUITE:-} ${WAGGLE_IMAGE_PINS:-}"; cat images/*.sh images/packages.lock; } | sha256sum | cut -c1-16)
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
	WAGGLE_IMAGE_PINS=${WAGGLE_IMAGE_PINS:-$pins} images/build.sh "$1" "$tar"
	# Those of other hashes, unless another checkout may still want them.
	find "$cache" -name "$1-*.tar*" ! -name "$1-$hash.tar*" -mtime +7 -delete
}

for runtime in "$@"; do
	start=$(date +%s)
	image=waggle/$runtime:latest
	if ! { made "$image" && "$waggle" image bake "$image"; }; then
		rootfs "$runtime"
		"$waggle" image import --user sandbox --workdir /home/sandbox --label "$label=$hash" \
			--label "org.opencontainers.image.title=waggle/$runtime" \
			--env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			"$tar" "waggle/$runtime:rootfs" >/dev/null
		"$waggle" image bake "waggle/$runtime:rootfs" "$image"
		"$waggle" image rm "waggle/$runtime:rootfs"
	fi
	size=$("$waggle" image ls --json | jq -r ".[] | select(.ref == \"$image\") | .size / 1048576 | floor")
	echo "images: $runtime: ready after $(($(date +%s) - start)) s, $size MiB compressed"
done
