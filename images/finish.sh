# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# The last step of build.sh: the workload's user, the public package sources,
# and nothing of this machine. mmdebstrap runs this text with the root directory
# as $1; it is not started as a file because the user that it runs as, in a user
# namespace, may not be able to read the checkout. build.sh sets $suite.
set -eu
root=$1

chroot "$root" useradd --uid 1000 --user-group --create-home --shell /bin/bash sandbox

rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/* \
	"$root/etc/apt/apt.conf.d/99mmdebstrap"
cat >"$root/etc/apt/sources.list.d/debian.sources" <<EOF
Types: deb
URIs: http://deb.debian.org/debian
Suites: $suite $suite-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: $suite-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
EOF
# The rules of what not to unpack hold for what is installed later, too.
mv "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/90waggle"
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
