// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadProbe: a type that no answer, or an empty one, names is missing.
func TestReadProbe(t *testing.T) {
	t.Parallel()
	answers := func(without string) string {
		text := `{"QMP": {"version": {}}}` + "\n" + `{"return": {}}` + "\n"
		for _, name := range neededTypes {
			list := `[{"name": "` + name + `"}]`
			if name == without {
				list = "[]"
			}
			text += `{"return": ` + list + `, "id": "` + name + `"}` + "\n"
		}
		return text + `{"event": "SHUTDOWN", "data": {"guest": false}}` + "\n" + `{"return": {}}` + "\n"
	}
	require.NoError(t, readProbe(strings.NewReader(answers(""))))
	require.ErrorContains(t, readProbe(strings.NewReader(answers("vhost-user-vsock-pci"))), "no vhost-user-vsock-pci")
	require.ErrorContains(t, readProbe(strings.NewReader("")), "virtio-blk-pci, virtio-net-pci")
	require.ErrorContains(t, readProbe(strings.NewReader("Segmentation fault")), "read qemu's answers")
}

// TestCheckFeatures asks the real QEMU, and one that knows none of this.
func TestCheckFeatures(t *testing.T) {
	t.Parallel()
	old := filepath.Join(t.TempDir(), "qemu")
	require.NoError(t, os.WriteFile(old, []byte("#!/bin/sh\necho 'qemu-system-x86_64: -sandbox: not enabled in this QEMU' >&2\nexit 1\n"), 0o700))
	require.ErrorContains(t, CheckFeatures(t.Context(), old), "cannot make a machine: qemu-system-x86_64: -sandbox: not enabled")

	path, err := FindBinary("")
	if err != nil && os.Getenv("WAGGLE_TEST_REQUIRE") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	require.NoError(t, CheckFeatures(t.Context(), path))
}
