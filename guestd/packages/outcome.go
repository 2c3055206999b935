// SPDX-License-Identifier: Apache-2.0

//go:build linux

package packages

import (
	"regexp"
	"strings"

	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

// sign is what a manager writes for a class of failure. A group of the pattern
// holds the package.
type sign struct {
	kind    guestv1.InstallFailureKind
	pattern *regexp.Regexp
}

// signs in order: a full disk or a dead network makes managers say of packages
// that they were not found.
var signs = []sign{
	{
		guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NO_SPACE,
		regexp.MustCompile(`No space left on device|ENOSPC|You don't have enough free space`),
	},
	{
		guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_NETWORK,
		regexp.MustCompile(`Temporary failure (in name resolution|resolving)|Failed to establish a new connection|` +
			`Could not (resolve|connect)|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|SSLError|ProxyError|` +
			`ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|Network is unreachable|temporary error \(try again later\)`),
	},
	{
		guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_UNKNOWN_PACKAGE,
		regexp.MustCompile(`No matching distribution found for (\S+)|Unable to locate package (\S+)|` +
			`404 Not Found - GET \S+/(\S+)|No matching version found for (\S+?)\.?$|` +
			`Version '[^']*' for '([^']+)' was not found|Package '?([^' ]+)'? has no installation candidate|` +
			`  (\S+) \(no such package\)|No match for argument: (\S+)`),
	},
}

// classify returns what failed, nil for a success. tail is the manager's last
// lines.
func classify(exited *guestv1.Exited, tail string) *guestv1.InstallFailure {
	code, ended := exited.GetOutcome().(*guestv1.Exited_ExitCode)
	if ended && code.ExitCode == 0 && !exited.GetTimedOut() {
		return nil
	}
	failure := &guestv1.InstallFailure{Message: tail, ExitCode: -1}
	if ended {
		failure.ExitCode = code.ExitCode
	}
	if spawn := exited.GetSpawnFailure(); spawn != nil {
		failure.Message = spawn.GetMessage()
	}
	switch {
	case exited.GetTimedOut():
		failure.Kind = guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_TIMEOUT
		return failure
	case exited.GetOomKilled():
		failure.Kind = guestv1.InstallFailureKind_INSTALL_FAILURE_KIND_OUT_OF_MEMORY
		return failure
	}
	for _, s := range signs {
		if !s.pattern.MatchString(tail) {
			continue
		}
		failure.Kind = s.kind
		failure.Packages = culprits(s.pattern, tail)
		break
	}
	return failure
}

// culprits returns what the groups of a pattern caught, each once.
func culprits(pattern *regexp.Regexp, tail string) []string {
	seen := make(map[string]bool)
	var names []string
	for line := range strings.Lines(tail) {
		for _, match := range pattern.FindAllStringSubmatch(strings.TrimRight(line, "\n"), -1) {
			for _, name := range match[1:] {
				if name != "" && !seen[name] {
					seen[name] = true
					names = append(names, name)
				}
			}
		}
	}
	return names
}

var (
	pipName = regexp.MustCompile(`^(.+)-([0-9][^-]*)$`)
	aptName = regexp.MustCompile(`^Setting up ([^ :]+)(?::\S+)? \(([^)]+)\)`)
	// Of dnf 4: "  Installing       : name-1:2.3-4.noarch      1/2 ".
	dnfName = regexp.MustCompile(`^ +(?:Installing|Upgrading) +: (\S+)-(?:[0-9]+:)?([^-\s]+-[^-\s]+)\.[^.\s]+ +[0-9]+/[0-9]+ *$`)
	apkName = regexp.MustCompile(`^\([0-9]+/[0-9]+\) (?:Installing|Upgrading) (\S+) \(([^)]+)\)`)
)

// installedBy returns the packages, as "name version", that a line of a manager
// reports.
func installedBy(kind guestv1.PackageManager, line string) []string {
	switch kind {
	case guestv1.PackageManager_PACKAGE_MANAGER_PIP:
		list, ok := strings.CutPrefix(line, "Successfully installed ")
		if !ok {
			return nil
		}
		var names []string
		for _, word := range strings.Fields(list) {
			if m := pipName.FindStringSubmatch(word); m != nil {
				names = append(names, m[1]+" "+m[2])
			}
		}
		return names
	case guestv1.PackageManager_PACKAGE_MANAGER_APT:
		if m := aptName.FindStringSubmatch(line); m != nil {
			return []string{m[1] + " " + m[2]}
		}
	case guestv1.PackageManager_PACKAGE_MANAGER_DNF:
		if m := dnfName.FindStringSubmatch(line); m != nil {
			return []string{m[1] + " " + m[2]}
		}
	case guestv1.PackageManager_PACKAGE_MANAGER_APK:
		if m := apkName.FindStringSubmatch(line); m != nil {
			return []string{m[1] + " " + m[2]}
		}
	}
	return nil
}
