// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// backend is one way to make machines, as an installation is told to take it.
type backend struct {
	// name is WAGGLE_TEST_REQUIRE's, shown is what waggle ps says of its machines.
	name, shown string
	settings    []string
	// program is the one of the image, as a command names it.
	program string
	// room is for a file and for the output of a command, in bytes.
	room int
	// disks are the machine's, in their order, and whether they can be written.
	disks []string
	// devices are the disks and the network cards that the VMM of a machine was told
	// of, for a machine that cannot be asked itself. May be nil.
	devices func(t *testing.T, in *Installation, id string) (disks, cards []string)
	// prepare gets what it needs. May be nil.
	prepare func(t *testing.T, in *Installation)
	// missing says why it cannot make machines here; empty when it can.
	missing func(t *testing.T, in *Installation) string
}

// backends are all that there are. Each test that is about a machine runs on every
// one of them that is present.
var backends = []backend{
	{
		name: "qemu", shown: "qemu", settings: []string{"WAGGLE_BACKEND=qemu"}, program: "guest", room: 4 << 20,
		disks: []string{"vda ro", "vdb rw"}, missing: undiagnosed,
	},
	{
		name: "krun", shown: "krun", settings: []string{"WAGGLE_BACKEND=krun"}, program: "guest", room: 4 << 20,
		disks: []string{"vda ro", "vdb ro", "vdc rw"}, missing: undiagnosed,
	},
	double,
}

// undiagnosed asks doctor, who knows best.
func undiagnosed(t *testing.T, in *Installation) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), in.Waggle, "doctor", "--json")
	in.prepare(cmd)
	out, err := cmd.Output()
	var findings []struct{ Check, Status, Detail string }
	require.NoError(t, json.Unmarshal(out, &findings), "%s: %v", out, err)
	for _, f := range findings {
		if f.Status == "missing" {
			return f.Check + ": " + f.Detail
		}
	}
	return ""
}

// onEachBackend runs f on every backend that is present, or on the one that
// WAGGLE_BACKEND names.
func onEachBackend(t *testing.T, f func(t *testing.T, in *Installation, b backend)) {
	t.Helper()
	asked := os.Getenv("WAGGLE_BACKEND")
	for _, b := range backends {
		if asked != "" && asked != "auto" && asked != b.shown {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			in := Install(t)
			in.Settings = append(in.Settings, b.settings...)
			if b.prepare != nil {
				b.prepare(t, in)
			}
			if why := b.missing(t, in); why != "" {
				skip(t, b.name, why)
			}
			f(t, in, b)
		})
	}
}
