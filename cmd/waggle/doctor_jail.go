// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
)

// namespaceSettings are what an administrator, or a distribution, keeps ordinary
// users from namespaces with: the value that does so, and what undoes it.
var namespaceSettings = []struct{ path, refuses, remedy string }{
	{"/proc/sys/user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"},
	// Ubuntu 24.04 and later: one can be made, and nothing be done in it.
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"},
}

// refusedNamespaces says which setting keeps ordinary users from namespaces, and
// what undoes it; both are empty when none does.
func refusedNamespaces(read func(path string) string) (why, remedy string) {
	for _, s := range namespaceSettings {
		if value := read(s.path); value == s.refuses {
			return s.path + " is " + value, s.remedy
		}
	}
	return "", ""
}

// readSetting returns the kernel's setting, empty where it has none.
func readSetting(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// jailFinding says what keeps a VMM that its guest has taken over: namespaces, or
// Landlock where they are refused. namespaces is why they are.
func jailFinding(euid int, namespaces error, landlock int, read func(string) string) finding {
	const check = "jail"
	if namespaces == nil {
		if euid == 0 {
			return good(check, "each VMM gets namespaces of its own")
		}
		return good(check, "each VMM gets namespaces of its own, a user namespace first")
	}
	why, remedy := refusedNamespaces(read)
	if why == "" || euid == 0 {
		why, remedy = namespaces.Error(), "let waggle make namespaces: in a container, it needs CAP_SYS_ADMIN"
	}
	if landlock > 0 {
		return note(check, "a VMM is held by Landlock alone, because it gets no namespaces: "+why, remedy)
	}
	return missing(check, "a VMM could not be held: it gets no namespaces ("+why+"), and this kernel has no Landlock", remedy)
}
