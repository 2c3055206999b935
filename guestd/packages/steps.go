// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"regexp"
	"strconv"
	"strings"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// step is where an install is by what its manager writes.
type step struct {
	phase            string
	completed, total uint32
	// before has what was completed of the phases so far: pip goes to and fro.
	before map[string]uint32
}

// rule says what a line of a manager tells. The groups of the pattern may be named:
// done and total are numbers, names is a list of which the length is the total.
type rule struct {
	pattern *regexp.Regexp
	phase   string // empty: the phase goes on
	// each counts one more; all says that the phase is complete.
	each, all bool
}

// rules of the managers, of which the first that fits is taken. npm says nothing
// until its end, when it is not on a terminal.
var rules = map[guestv1.PackageManager][]rule{
	guestv1.PackageManager_PACKAGE_MANAGER_PIP: {
		{pattern: regexp.MustCompile(`^(?:Collecting|Requirement already satisfied:) `), phase: "resolving", each: true},
		{pattern: regexp.MustCompile(`^ *(?:Downloading|Using cached) `), phase: "downloading", each: true},
		{pattern: regexp.MustCompile(`^Installing collected packages: (?P<names>.+)$`), phase: "installing"},
		{pattern: regexp.MustCompile(`^Successfully installed `), all: true},
	},
	guestv1.PackageManager_PACKAGE_MANAGER_APT: {
		{pattern: regexp.MustCompile(`^(?P<total>[0-9]+) upgraded, (?P<total>[0-9]+) newly installed`), phase: "downloading"},
		{pattern: regexp.MustCompile(`^Get:[0-9]+ `), each: true},
		{pattern: regexp.MustCompile(`^Unpacking `), phase: "unpacking", each: true},
		{pattern: regexp.MustCompile(`^Setting up `), phase: "installing", each: true},
	},
	guestv1.PackageManager_PACKAGE_MANAGER_APK: {
		{pattern: regexp.MustCompile(`^fetch `), phase: "updating", each: true},
		{pattern: regexp.MustCompile(`^\((?P<done>[0-9]+)/(?P<total>[0-9]+)\) `), phase: "installing"},
	},
	guestv1.PackageManager_PACKAGE_MANAGER_DNF: {
		{pattern: regexp.MustCompile(`^Downloading Packages:`), phase: "downloading"},
		{pattern: regexp.MustCompile(`^\((?P<done>[0-9]+)/(?P<total>[0-9]+)\): `), phase: "downloading"},
		{pattern: regexp.MustCompile(`^ +(?:Installing|Upgrading) +: .* (?P<done>[0-9]+)/(?P<total>[0-9]+) *$`), phase: "installing"},
	},
}

// follow takes what a line tells and says whether that was anything. A total holds
// for the phases after it too, until another one is named: apt names it once.
func (s *step) follow(kind guestv1.PackageManager, line string) bool {
	for _, r := range rules[kind] {
		m := r.pattern.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if r.phase != "" && r.phase != s.phase {
			if s.before == nil {
				s.before = make(map[string]uint32)
			}
			s.before[s.phase] = s.completed
			s.phase, s.completed = r.phase, s.before[r.phase]
		}
		s.count(r.pattern.SubexpNames(), m)
		if r.each {
			s.completed++
		}
		if r.all {
			s.completed = s.total
		}
		if s.completed > s.total {
			s.total = 0 // it was of something else
		}
		return true
	}
	return false
}

// count takes the numbers of a line; those of one name add up.
func (s *step) count(names, values []string) {
	total, given := uint32(0), false
	for i, name := range names {
		switch n, err := strconv.ParseUint(values[i], 10, 16); {
		case name == "names":
			total, given = uint32(strings.Count(values[i], ",")+1), true
		case err != nil: // a number without end: not one of packages
		case name == "total":
			total, given = total+uint32(n), true
		case name == "done":
			s.completed = uint32(n)
		}
	}
	if given {
		s.total = total
	}
}
