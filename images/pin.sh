#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# pin.sh builds all reference images from the newest packages of the mirrors, and writes
# their versions into packages.lock and the Containerfiles, for a commit. Takes some
# minutes.
set -eu
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

day=$(date -u +%Y%m%dT000000Z)
for image in $(awk '!/^#/ && NF == 3 { print $1 }' packages.lock | uniq); do
	WAGGLE_IMAGE_PINS=newest ./build.sh "$image" "$work/$image.tar"
	rm "$work/$image.tar"
done

# A line of the lock has the version that the image's build found.
awk -v work="$work" -v day="$day" '
/^#/ || NF < 2 { print; next }
$1 == "snapshot" { print $1, day; next }
NF == 3 {
	version = ""
	list = work "/" $1 ".tar.packages"
	while ((getline line < list) > 0) {
		split(line, word, " ")
		if (word[1] == $2) version = word[2]
	}
	close(list)
	if (version == "") { print "pin.sh: " $1 " has no " $2 >"/dev/stderr"; exit 1 }
	print $1, $2, version
	next
}
{ print }' packages.lock >"$work/lock"
cat "$work/lock" >packages.lock

# The defaults of the Containerfiles: python3.11 is the argument PYTHON3_11.
awk '!/^#/ && NF == 3 { print $2, $3 } $1 == "snapshot"' packages.lock | while read -r name version; do
	arg=$(echo "$name" | tr 'a-z.+-' 'A-Z___')
	sed -i "s|^ARG $arg=.*|ARG $arg=$version|" ./*/Containerfile
done
git --no-pager diff --stat -- . || true
