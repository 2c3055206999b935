# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
#
# The hook of build.sh that has apt take the versions of packages.lock. mmdebstrap runs
# this text twice, with the root directory as $1: before apt knows of any package, when
# it writes the pins, and when it knows them all, before the first of them is fetched,
# when it looks whether they are there. finish.sh removes what it writes.
set -eu
root=$1
file=$root/etc/apt/preferences.d/90waggle-pins

if [ ! -e "$file" ]; then
	mkdir -p "$(dirname "$file")"
	echo "$WAGGLE_PINNED" | while read -r name version; do
		printf 'Package: %s\nPin: version %s\nPin-Priority: 1001\n\n' "$name" "$version"
	done >"$file"
	exit 0
fi

gone=$(echo "$WAGGLE_PINNED" | while read -r name version; do
	has=$(LC_ALL=C APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache policy "$name" | sed -n 's/^  Candidate: //p')
	[ "$has" = "$version" ] || echo "build.sh: $name $version is pinned, the mirrors have ${has:-none}"
done)
[ -n "$gone" ] || exit 0
echo "$gone" >&2
if [ "$WAGGLE_PINS" = prefer ]; then
	echo "build.sh: these are taken as the mirrors have them" >&2
	exit 0
fi
echo "build.sh: not all pinned versions are there. Choose one of:
  WAGGLE_IMAGE_SNAPSHOT=$WAGGLE_SNAPSHOT WAGGLE_IMAGE_ARCHIVE=URL  the pinned versions, from an archive
  WAGGLE_IMAGE_PINS=prefer                what is not there is taken as it is today
  images/pin.sh                           pin what is there today, for a commit" >&2
exit 1
