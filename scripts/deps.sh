#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that Waggle's build, images and tests need, and
# nothing that is there already. Says what it does; uses sudo when not root.
# `deps.sh bench` adds what the benchmarks compare with.
set -eu

missing=""
need() { # need PROGRAM PACKAGE
	PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need qemu-system-x86_64 qemu-system-x86
need mmdebstrap mmdebstrap
need mkfs.ext4 e2fsprogs
need dpkg-deb dpkg
need gcc gcc
need git git
need newuidmap uidmap
need tmux tmux
need curl curl
need jq jq
need skopeo skopeo
need npm npm
[ "${1:-}" != bench ] || need umoci umoci
[ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"

[ -n "$missing" ] || { echo "deps: everything is there"; exit 0; }

if ! command -v apt-get >/dev/null 2>&1; then
	echo "deps: this script knows apt-get only. Install by hand what Debian calls:$missing" >&2
	exit 1
fi
sudo=""
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null 2>&1 || {
		echo "deps: run as root: apt-get install -y$missing" >&2
		exit 1
	}
	sudo="sudo"
fi
echo "deps: installing$missing"
$sudo apt-get update -qq
# $missing is a list of words on purpose.
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing </dev/null
