// SPDX-License-Identifier: Apache-2.0

package vmm

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProbeKVM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	const withVMX = "processor\t: 0\nflags\t\t: fpu vmx sse\n"
	const without = "processor\t: 0\nflags\t\t: fpu vmx_like sse\nvmx flags\t: svm\n"
	tests := []struct {
		name, device, goarch, cpuinfo, want string
	}{
		{"missing", filepath.Join(dir, "none"), "amd64", withVMX, "modprobe"},
		{"no virtualisation, no device", filepath.Join(dir, "none"), "amd64", without, "neither vmx nor svm"},
		{"no virtualisation", file, "amd64", without, "neither vmx nor svm"},
		{"not KVM", file, "amd64", withVMX, "is not KVM"},
		{"flags do not matter on arm64", file, "arm64", without, "is not KVM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, probeKVM(tt.device, tt.goarch, []byte(tt.cpuinfo)), tt.want)
		})
	}
	t.Run("no permission", func(t *testing.T) {
		if os.Geteuid() == 0 {
			t.Skip("root may open anything; run as an ordinary user")
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "closed"), nil, 0))
		require.ErrorContains(t, probeKVM(filepath.Join(dir, "closed"), "amd64", []byte(withVMX)), "usermod -aG kvm")
	})
}

// TestAccessOf: the remedy gives access, whoever owns the device.
func TestAccessOf(t *testing.T) {
	t.Parallel()
	const device = "/dev/kvm"
	require.Contains(t, accessOf(device, 0o660, 108, "kvm"), "`sudo usermod -aG kvm $USER`")
	require.Contains(t, accessOf(device, 0o660, 36, "virt"), "`sudo usermod -aG virt $USER`")
	for name, alone := range map[string]string{
		"root's":           accessOf(device, 0o600, 0, "root"),
		"group root's":     accessOf(device, 0o660, 0, "root"),
		"open to no group": accessOf(device, 0o600, 108, "kvm"),
	} {
		require.Contains(t, alone, "sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm", name)
		require.Contains(t, alone, "udev", name)
		require.NotContains(t, alone, "-aG root", name)
	}
	require.Contains(t, accessRemedy("/none"), "who runs this machine")
}

func TestMapped(t *testing.T) {
	t.Parallel()
	const all, container = "         0          0 4294967295\n", "0 100000 65536\n70000 5 1\n"
	for _, tt := range []struct {
		uidMap string
		id     uint32
		want   bool
	}{
		{all, privateBase, true},
		{container, privateBase, false},
		{container, 65535, true},
		{container, 65536, false},
		{container, 70000, true},
		{"garbage\n", 0, false},
	} {
		require.Equal(t, tt.want, mapped(strings.NewReader(tt.uidMap), tt.id), "%q %d", tt.uidMap, tt.id)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	short := Tail{short: func(line string) string { return strings.TrimPrefix(line, "program: ") }}
	_, _ = io.WriteString(&short, "program: -drive x: no such file\n\nmore: text\n")
	require.Equal(t, "-drive x: no such file; more: text", short.String())

	var long Tail
	for i := range 1000 {
		_, _ = fmt.Fprintf(&long, "line %d of many\n", i)
	}
	_, _ = long.Write(make([]byte, 3))
	require.LessOrEqual(t, len(long.data), maxTail)
	require.Contains(t, long.String(), "line 999 of many")
	require.True(t, strings.HasPrefix(long.String(), "…"))
	_, _ = long.Write([]byte(strings.Repeat("x", 3*maxTail)))
	require.Len(t, long.data, maxTail)
}
