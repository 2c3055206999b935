// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGoldenOfOthers builds the disk in a process whose user, time zone, umask, clock and
// number of CPUs are others.
func TestGoldenOfOthers(t *testing.T) {
	if dir := os.Getenv("WAGGLE_TEST_GOLDEN"); dir != "" {
		syscall.Umask(0o077)
		c, err := Open(dir, Limits{})
		require.NoError(t, err)
		path, err := c.Root(t.Context(), keyOf("golden"), layersOf(goldenLayers(t)...), nil)
		require.NoError(t, err)
		require.Equal(t, goldenSum, sumOf(t, path))
		t.Logf("built by uid %d", os.Getuid())
		return
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "disk golden ") // that another user can enter
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	cmd := exec.Command(os.Args[0], "-test.run=^TestGoldenOfOthers$", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"WAGGLE_TEST_GOLDEN=" + dir, "TZ=Asia/Kathmandu", "LANG=tr_TR.UTF-8", "GOMAXPROCS=1", "HOME=/nonexistent", "PATH=" + os.Getenv("PATH")}
	who := itoa(int64(os.Getuid()))
	if os.Getuid() == 0 {
		// Anybody but root, who has no rights that building could need, nor for the
		// directory of this program: it gets it as a file that is open.
		const nobody = 65534
		who = itoa(nobody)
		self, err := os.Open(os.Args[0])
		require.NoError(t, err)
		defer func() { require.NoError(t, self.Close()) }()
		cmd.ExtraFiles, cmd.Path = []*os.File{self}, "/proc/self/fd/3"
		require.NoError(t, os.Chown(dir, nobody, nobody))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "built by uid "+who)
}
