#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# build.sh IMAGE OUT.tar builds the root file system of a reference image (those of
# packages.lock: base, shell, python, node) from Debian packages, for this machine's
# architecture. `waggle image import` makes an image of it.
#
# WAGGLE_IMAGE_PINS says what the versions of packages.lock are worth: strict (the
# default here) builds these or nothing, prefer takes the newest of those that the
# mirrors no longer have, newest takes the newest of all. WAGGLE_IMAGE_SNAPSHOT=TIME
# takes the packages from that day's state of WAGGLE_IMAGE_ARCHIVE, the URL of an archive
# of Debian's past such as Debian's snapshot service. WAGGLE_IMAGE_LOCK is another
# packages.lock, of images of your own.
#
# Works as root and, by user namespaces, as an ordinary user. Packages come
# through this machine's apt sources, proxy and certificates. The result keeps the
# sources alone, so that an environment installs from where its image came.
set -eu

die() {
	echo "build.sh: $*" >&2
	exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
lock=${WAGGLE_IMAGE_LOCK:-$here/packages.lock}

# of prints the second word, and the third if there is one, of lock's lines of KEY.
of() { # of KEY
	awk -v key="$1" '$1 == key { print $2, $3 }' "$lock"
}

images=$(awk '!/^#/ && NF == 3 { print $1 }' "$lock" | uniq | tr '\n' ' ')
[ $# -eq 2 ] || die "usage: $0 IMAGE OUT.tar, with IMAGE one of: $images"
image=$1
out=$2
case " $images" in
*" $image "*) ;;
*) die "unknown image '$image': choose one of $images" ;;
esac

# The commands are those of waggle doctor (host/remedy).
apt='apt-get install -y'
[ "$(id -u)" = 0 ] || apt="sudo $apt"
command -v mmdebstrap >/dev/null 2>&1 ||
	die "mmdebstrap not found: run '$apt mmdebstrap'"
if [ "$(id -u)" != 0 ]; then
	command -v newuidmap >/dev/null 2>&1 ||
		die "an ordinary user needs newuidmap: run '$apt uidmap'"
	grep -q "^$(id -un):" /etc/subuid 2>/dev/null ||
		die "an ordinary user needs subordinate ids: run 'sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)'"
fi

pinned=$(of suite | tr -d ' ')
suite=${WAGGLE_IMAGE_SUITE:-$pinned}
pins=${WAGGLE_IMAGE_PINS:-strict}
case $pins in
strict | prefer | newest) ;;
*) die "WAGGLE_IMAGE_PINS is '$pins': choose strict, prefer or newest" ;;
esac
if [ "$suite" != "$pinned" ]; then
	echo "build.sh: packages.lock is of $pinned: the newest packages of $suite are taken" >&2
	pins=newest
fi

wanted=$(of base)
[ "$image" = base ] || wanted=$(printf '%s\n%s' "$wanted" "$(of "$image")")
packages=$(echo "$wanted" | cut -d' ' -f1 | paste -sd, -)
# A package of another release may not exist in this one: python3.11 is there because
# python3 alone says nothing of the interpreter's own version.
[ "$suite" = "$pinned" ] || packages=$(echo "$packages" | sed 's/,python3\.[0-9]*//')

# The host's own mirrors of this Debian release, where it has any. Sources of
# other makers stay out: their packages do not belong in a reference image.
# The names in the format are apt's, not the shell's.
sources=""
if [ -n "${WAGGLE_IMAGE_SNAPSHOT:-}" ]; then
	[ -n "${WAGGLE_IMAGE_ARCHIVE:-}" ] ||
		die "WAGGLE_IMAGE_SNAPSHOT needs WAGGLE_IMAGE_ARCHIVE, the URL of an archive of Debian's past (images/README.md)"
	old="deb [check-valid-until=no] $WAGGLE_IMAGE_ARCHIVE"
	sources="$old/debian/$WAGGLE_IMAGE_SNAPSHOT $suite main
$old/debian/$WAGGLE_IMAGE_SNAPSHOT $suite-updates main
$old/debian-security/$WAGGLE_IMAGE_SNAPSHOT $suite-security main"
elif command -v apt-get >/dev/null 2>&1; then
	# shellcheck disable=SC2016
	sources=$(apt-get indextargets --no-release-info --format '$(COMPONENT) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		sed -nE "s#^main ($suite|$suite-updates|$suite-security) (.*/debian(-security)?/)\$#deb \\2 \\1 main#p" | sort -u) || sources=""
fi

# How the host's apt reaches them. These options end up in a file of the
# result, which finish.sh deletes.
set --
if command -v apt-config >/dev/null 2>&1; then
	for option in Acquire::http::Proxy Acquire::https::Proxy Acquire::https::CaInfo \
		Acquire::Check-Valid-Until Acquire::Check-Date; do
		value=""
		eval "$(apt-config shell value $option)"
		[ -z "$value" ] || set -- "$@" --aptopt="$option \"$value\""
	done
fi

umask 022
tmp=$out.tmp.$$
trap 'rm -f "$tmp"' EXIT
trap 'exit 130' INT TERM

# Mirrors after the target, one line each; without any, mmdebstrap takes its
# default.
build() {
	if [ -n "$sources" ]; then
		printf '%s\n' "$sources" | mmdebstrap "$@" "$suite" - -
	else
		mmdebstrap "$@" "$suite" - </dev/null
	fi
}

# What pins.sh reads, and itself: the hooks have the environment, but perhaps not the
# checkout, and mmdebstrap prints the whole text of a hook that fails.
WAGGLE_PINNED=$wanted
WAGGLE_PINS=$pins
WAGGLE_SNAPSHOT=$(of snapshot | tr -d ' ')
WAGGLE_PINS_HOOK=$(cat "$here/pins.sh")
export WAGGLE_PINNED WAGGLE_PINS WAGGLE_SNAPSHOT WAGGLE_PINS_HOOK
if [ "$pins" != newest ]; then
	# shellcheck disable=SC2016
	set -- "$@" --setup-hook='eval "$WAGGLE_PINS_HOOK"' --essential-hook='eval "$WAGGLE_PINS_HOOK"'
fi

echo "build.sh: $image from Debian $suite" >&2
build "$@" --quiet --variant=minbase --format=tar --include="$packages" \
	--aptopt='APT::Install-Recommends "false"' \
	--aptopt='Acquire::Languages "none"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-include=/usr/share/doc/*/copyright' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/info/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--dpkgopt='path-exclude=/usr/share/lintian/*' \
	--customize-hook="$(cat "$here/finish.sh")" >"$tmp"

# Every package with its version, and those that were asked for in the output.
tar -xOf "$tmp" ./var/lib/dpkg/status |
	awk '$1 == "Package:" { name = $2 } $1 == "Version:" { print name, $2 }' | LC_ALL=C sort >"$out.packages"
echo "$packages" | tr , '\n' | while read -r name; do
	awk -v name="$name" '$1 == name { print "build.sh:   " $1, $2 }' "$out.packages" >&2
done
echo "build.sh: $image: $(wc -l <"$out.packages") packages, $(($(wc -c <"$tmp") / 1048576)) MiB unpacked" >&2
mv "$tmp" "$out"
