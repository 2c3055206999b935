// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/vhostvsock"
	"github.com/stacklok/waggle/host/vm"
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

func TestCause(t *testing.T) {
	t.Parallel()
	malformed := fmt.Errorf("tx ring: %w", vhostvsock.ErrMalformedRing)
	tests := []struct {
		name, script string
		device       error
		shutdown     string
		want         string
	}{
		{"broken ring", "kill -9 $$", malformed, "", "vsock device: tx ring: guest broke a virtqueue"},
		{"killed", "kill -9 $$", vhostvsock.ErrFrontendGone, "", "killed from outside"},
		{"own failure beats the device's", "echo no memory >&2; exit 1", malformed, "", "qemu: no memory (exit status 1)"},
		{"power-off", "exit 0", context.Canceled, "guest-shutdown", vm.ErrPoweredOff.Error()},
		{"reset", "exit 0", context.Canceled, "guest-reset", "kernel panicked"},
		{"terminated", "exit 0", context.Canceled, "host-signal", "qemu: exit status 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			proc, err := spawn("/bin/sh", []string{"-c", tt.script}, nil, nil)
			require.NoError(t, err)
			<-proc.exited
			m := newMachine(proc, nil, slog.New(slog.DiscardHandler))
			require.ErrorContains(t, m.cause(tt.device, tt.shutdown), tt.want)
		})
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]string{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n": "7.2.22",
		"QEMU emulator version 10.0.0\n":                       "10.0.0",
	} {
		got, err := parseVersion([]byte(out))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := parseVersion([]byte("QEMU emulator version 6.2.0"))
	require.ErrorContains(t, err, "6.2.0 is too old")
	_, err = parseVersion([]byte("what?"))
	require.ErrorContains(t, err, "what?")
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
	var short tail
	_, _ = io.WriteString(&short, "qemu-system-x86_64: -drive x: no such file\n\nmore: text\n")
	require.Equal(t, "-drive x: no such file; more: text", short.String())

	var long tail
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

func TestQMP(t *testing.T) {
	t.Parallel()
	const greeting, ok = `{"QMP": {"version": {}}}` + "\n", `{"return": {}}` + "\n"
	const reset = `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}` + "\n"
	tests := []struct {
		name     string
		replies  []string // the first at once, then one per command
		wantErr  string
		shutdown string
	}{
		{"fine", []string{greeting, ok, reset + ok}, "", "guest-reset"},
		{"event after the start", []string{greeting, ok, ok + reset}, "", "guest-reset"},
		{"closed at once", nil, "read QMP greeting", ""},
		{"no greeting", []string{ok}, "not a QMP server", ""},
		{"not JSON", []string{"hello\n"}, "decode QMP message", ""},
		{"refused", []string{greeting, `{"error": {"desc": "no such command"}}` + "\n"}, "no such command", ""},
		{"endless line", []string{strings.Repeat("x", maxQMPLine+1)}, "buffer full", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				defer theirs.Close()
				commands := bufio.NewReader(theirs)
				for i, reply := range tt.replies {
					if i > 0 {
						if _, err := commands.ReadString('\n'); err != nil {
							return
						}
					}
					if _, err := io.WriteString(theirs, reply); err != nil {
						return
					}
				}
			}()
			q := newQMP(ours)
			err := q.negotiate(t.Context())
			if tt.wantErr == "" {
				require.NoError(t, err)
				q.watch()
			} else {
				require.ErrorContains(t, err, tt.wantErr)
			}
			require.Equal(t, tt.shutdown, q.shutdown)
			require.NoError(t, ours.Close())
			<-served
		})
	}
}
