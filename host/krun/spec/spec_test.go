// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func machine() Machine {
	return Machine{
		CPUs: 2, MemoryMiB: 512, Dir: "/run/x/krun", Runner: "/bin/waggle-krun", Library: "/lib/a", Firmware: "/lib/b",
		Disks: []Disk{{Name: "boot", Path: "/boot", ReadOnly: true}, {Name: "scratch", Path: "/scratch"}},
		MAC:   "52:54:00:01:02:03", Confine: Namespaces, User: &User{UID: 1, GID: 2, Groups: []uint32{3}},
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	want := machine()
	text, err := json.Marshal(want)
	require.NoError(t, err)
	got, err := Read(strings.NewReader(string(text)))
	require.NoError(t, err)
	require.Equal(t, want, got)
	for _, text := range []string{"", "{", `{"dir":"` + strings.Repeat("x", maxSpec)} {
		_, err := Read(strings.NewReader(text))
		require.ErrorContains(t, err, "read machine")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Machine){
		"0 CPUs":                     func(m *Machine) { m.CPUs = 0 },
		"17 CPUs":                    func(m *Machine) { m.CPUs = MaxCPUs + 1 },
		"0 MiB":                      func(m *Machine) { m.MemoryMiB = 0 },
		"without a read-only boot":   func(m *Machine) { m.Disks = m.Disks[1:] },
		"unknown confinement":        func(m *Machine) { m.Confine = "" },
		`dir: path "x"`:              func(m *Machine) { m.Dir = "x" },
		`disk scratch: path "y"`:     func(m *Machine) { m.Disks[1].Path = "y" },
		`disk "../etc" has no plain`: func(m *Machine) { m.Disks[1].Name = "../etc" },
		"not a 6-byte":               func(m *Machine) { m.MAC = "52:54:00:01:02:03:04:05" },
	} {
		m := machine()
		change(&m)
		require.ErrorContains(t, m.Check(), want)
	}
}
