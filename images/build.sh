#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# build.sh RUNTIME OUT.tar builds the root file system of a reference image
# (shell, python or node) from Debian packages, for this machine's
# architecture. `waggle image import` makes an image of it.
#
# Works as root and, by user namespaces, as an ordinary user. Packages come
# through this machine's apt sources, proxy and certificates. The result keeps the
# sources alone, so that an environment installs from where its image came.
set -eu

die() {
	echo "build.sh: $*" >&2
	exit 1
}

[ $# -eq 2 ] || die "usage: $0 shell|python|node OUT.tar"
runtime=$1
out=$2
here=$(cd "$(dirname "$0")" && pwd)

# Every runtime can fetch over TLS; procps gives ps and kill to the agent.
packages=ca-certificates,procps
case $runtime in
shell) packages=$packages,curl,git,jq ;;
python) packages=$packages,python3,python3-pip,python3-venv ;;
node) packages=$packages,nodejs,npm ;;
*) die "unknown runtime '$runtime': choose shell, python or node" ;;
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

suite=${WAGGLE_IMAGE_SUITE:-bookworm}

# The host's own mirrors of this Debian release, where it has any. Sources of
# other makers stay out: their packages do not belong in a reference image.
# The names in the format are apt's, not the shell's.
sources=""
if command -v apt-get >/dev/null 2>&1; then
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

echo "build.sh: $runtime from Debian $suite" >&2
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
mv "$tmp" "$out"
