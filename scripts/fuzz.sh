#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the module as often as given (default 10000x; 10m is a
# time). Go fuzzes one target of one package at a time, so the targets are looked up
# first. A count and not a time in the gate: when the time is up in the middle of an
# input, Go now and then reports "context deadline exceeded" as a failure.
set -eu
time=${1:-10000x}
ran=0
for dir in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n1 dirname | sort -u); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | sed 's/^func //'); do
		echo "fuzz: ./$dir $target for $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5x "./$dir"
		ran=$((ran + 1))
	done
done
[ "$ran" -gt 0 ] || { echo "fuzz: found no target" >&2; exit 1; }
echo "fuzz: $ran targets"
