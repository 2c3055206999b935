// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/vhostvsock"
	"github.com/stacklok/waggle/host/vm"
)

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
			<-proc.Exited()
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

func TestWithoutProgram(t *testing.T) {
	t.Parallel()
	require.Equal(t, "-drive x: no such file", withoutProgram("qemu-system-x86_64: -drive x: no such file"))
	require.Equal(t, "more: text", withoutProgram("more: text"))
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
