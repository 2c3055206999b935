// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"path/filepath"
	"testing"

	"github.com/stacklok/waggle/contract"
)

// TestContract holds the guestd that owns a machine to the contract, over vsock, on
// each backend. Here nothing is skipped but what is for a guestd without one.
func TestContract(t *testing.T) {
	onEachBackend(t, func(t *testing.T, in *Installation, b backend) {
		if b.disks == nil {
			t.Skip("the guestd of a double owns no machine")
		}
		var env environment
		in.Serve(t).Connect(t).Call(t, "create_environment", map[string]any{"runtime": "python"}, &env)
		defer in.Command(t, "rm", env.ID)
		guest := contract.Dial(t, contract.Unix(filepath.Join(in.Run, env.ID, "guestd.sock")))
		const all = ^contract.Plain
		t.Run("scenarios", func(t *testing.T) { contract.Run(t, guest, all) })
	})
}
