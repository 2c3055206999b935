// SPDX-License-Identifier: Apache-2.0

package waggle_test

import (
	"encoding/json"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/stacklok/waggle/"

// rule says which packages of this module a package may import. Packages are
// named relative to the module; "host/qemu" also covers what is below it.
type rule struct {
	pkg    string
	allow  []string
	reason string
}

// rules is the import table of docs/architecture.md. A package without a rule
// fails the test: adding one is a decision, not an accident.
var rules = []rule{
	{"proto", []string{"proto"}, "the contract depends on nothing"},
	{"contract", []string{"proto"}, "its scenarios ask for what any client sees; only tests import it"},
	{"version", nil, "a leaf"},
	{"seccomp", nil, "how system calls are taken away, the same on both sides"},
	{"tartree", nil, "trees as archives, the same on both sides"},
	{"host/vm", nil, "a contract depends on nothing"},
	{"host/vsock", nil, "a way to dial depends on nothing"},
	{"host/vhostvsock", nil, "the device knows neither VMMs nor guestd"},
	{"host/remedy", nil, "the commands that mend a host are words"},
	{"host/egress", []string{"host/remedy"}, "the network knows neither VMMs nor guestd"},
	{"host/image", []string{"host/remedy"}, "images know nothing of who boots them"},
	{"host/disk", []string{"host/remedy"}, "disks are made of tar streams, not of images"},
	{"host/vmm", nil, "what backends share knows none of them"},
	{"host/qemu", []string{"host/qemu", "host/remedy", "host/vm", "host/vmm", "host/vhostvsock", "images/kernel"}, "a backend knows its contract and its device"},
	{"host/krun/spec", nil, "what two programs agree on depends on nothing"},
	{"host/krun/lib", []string{"host/krun/spec"}, "it calls libkrun and knows nothing else"},
	{"host/krun/jail", []string{"host/krun/spec", "seccomp"}, "a jail knows what it shows, not who is in it"},
	{"host/krun/bootdisk", []string{"host/krun/spec", "host/vmm", "host/disk"}, "what a guest boots from depends on no backend"},
	{"host/krun/kruntest", nil, "it builds programs, and imports none of them; only tests import it"},
	{"host/krun", []string{"host/krun/spec", "host/krun/bootdisk", "host/remedy", "host/vm", "host/vmm", "host/socket"}, "a backend knows its contract; what loads libkrun is waggle-krun's"},
	{"host/krunbundle", nil, "what fetches libraries knows nothing of who loads them"},
	{"host/guest", []string{"proto", "version", "host/vsock"}, "the client of guestd knows nothing of who boots it"},
	{"host/socket", nil, "a way to talk knows nothing of what is said"},
	{"host/admin", []string{"host/socket", "proto"}, "the server's own socket knows nothing of environments"},
	{"host/supervisor", []string{"host/vm", "host/guest", "host/egress", "host/disk", "host/socket", "host/vsock", "proto", "version"}, "the owner of a machine knows no backend and no image"},
	{"host/environment", []string{"host/environment", "host/supervisor", "host/guest", "host/image", "host/disk", "host/remedy", "proto"}, "the life of an environment never learns which backend runs it"},
	{"host/tools", []string{"host/environment"}, "tools are plain functions on environments"},
	{"host/edge", nil, "the HTTP edge knows nothing of environments"},
	{"host/metrics", []string{"host/environment"}, "it counts environments and calls"},
	{"host/stdio", nil, "a bridge of messages knows nothing of what they mean"},
	{"host/mcptest", []string{"host/remedy"}, "it runs clients that others wrote; only tests import it"},
	{"host/vmtest", nil, "it drives the built programs, not their packages"},
	{"images/kernel", []string{"images/kernel"}, "a build tool"},
	{"guestd", []string{"guestd", "proto", "seccomp", "tartree", "version"}, "host and guestd meet only in proto"},
	{"cmd/guestd", []string{"guestd", "proto", "version"}, "host and guestd meet only in proto"},
	{"cmd/waggle-krun", []string{"host/krun/spec", "host/krun/jail", "host/krun/lib", "host/vmm"}, "it is libkrun's process and knows no machine but one"},
	{"cmd/waggle", []string{"host", "proto", "tartree", "version"}, "the only wiring"},
}

type listed struct {
	ImportPath string
	Imports    []string
}

// TestImports holds the arrows of the design: host and guestd meet only in
// proto, contracts depend on nothing, and only cmd wires.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range list(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if p.ImportPath+"/" == module {
			continue
		}
		r, ok := ruleOf(name)
		if !ok {
			t.Errorf("%s has no rule in arch_test.go: say what it may import, and why", name)
			continue
		}
		for _, imp := range p.Imports {
			rel, ours := strings.CutPrefix(imp, module)
			if ours && !slices.ContainsFunc(r.allow, func(a string) bool { return within(rel, a) }) {
				t.Errorf("%s must not import %s: %s", name, rel, r.reason)
			}
		}
	}
}

// TestRulesAreUsed fails when a rule outlives its package.
func TestRulesAreUsed(t *testing.T) {
	t.Parallel()
	pkgs := list(t)
	for _, r := range rules {
		require.True(t, slices.ContainsFunc(pkgs, func(p listed) bool {
			return within(strings.TrimPrefix(p.ImportPath, module), r.pkg)
		}), "no package for rule %q", r.pkg)
	}
}

// TestOnlyKrunIsDynamic: whoever imports purego is linked dynamically, and
// libkrun ends the process that calls it. That is waggle-krun alone.
func TestOnlyKrunIsDynamic(t *testing.T) {
	t.Parallel()
	only := map[string]string{
		"github.com/ebitengine/purego": "host/krun/lib",
		module + "host/krun/lib":       "cmd/waggle-krun",
	}
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			if may, ok := only[imp]; ok {
				require.Equal(t, module+may, p.ImportPath, "%s is for %s alone", imp, may)
			}
		}
	}
}

func ruleOf(name string) (rule, bool) {
	i := slices.IndexFunc(rules, func(r rule) bool { return within(name, r.pkg) })
	if i < 0 {
		return rule{}, false
	}
	return rules[i], true
}

func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, path.Clean(dir)+"/")
}

func list(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := cmd.Output()
	require.NoError(t, err)
	var pkgs []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listed
		require.NoError(t, dec.Decode(&p))
		pkgs = append(pkgs, p)
	}
	require.NotEmpty(t, pkgs)
	return pkgs
}
