# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# The last step of build.sh: the workload's user, and nothing of
# this machine but its package sources. mmdebstrap runs this text with the root directory
# as $1; it is not started as a file because the user that it runs as, in a user
# namespace, may not be able to read the checkout.
set -eu
root=$1

chroot "$root" useradd --uid 1000 --user-group --create-home --shell /bin/bash sandbox

# The package sources stay: an environment installs from where its image came. The pins
# do not: it installs what is newest there.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/apt/preferences.d/90waggle-pins"
cat >"$root/etc/apt/apt.conf.d/90waggle" <<EOF
APT::Install-Recommends "false";
Acquire::Languages "none";
EOF

# guestd writes hostname and resolv.conf before the first command runs; the
# machine id is each machine's own.
: >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
echo sandbox >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost sandbox\n::1\tlocalhost\n' >"$root/etc/hosts"

# Logs and caches of the build. /tmp is in use by mmdebstrap until it is done.
rm -rf "$root"/var/log/* "$root"/var/cache/*
mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/log/apt"
# Python's caches of the packages stay: under emulation, compiling them at each
# start would cost seconds.
