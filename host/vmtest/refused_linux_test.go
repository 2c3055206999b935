// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/kruntest"
)

// TestRunRefusedByLibkrun is what the user of `waggle run` reads when a call of
// libkrun fails: which, why by the name of the errno, what it was for and what to do.
func TestRunRefusedByLibkrun(t *testing.T) {
	in := onDouble(t)
	for _, call := range []string{
		"krun_init_log", "krun_create_ctx", "krun_set_vm_config", "krun_disable_implicit_vsock", "krun_add_vsock",
		"krun_add_vsock_port2", "krun_add_disk2", "krun_set_root_disk_remount", "krun_add_net_unixstream",
		"krun_set_exec", "krun_set_console_output", "krun_start_enter",
	} {
		for _, errno := range []unix.Errno{unix.EINVAL, unix.ENOENT, unix.EPERM} {
			t.Run(call+"_"+unix.ErrnoName(errno), func(t *testing.T) {
				libs := kruntest.Install(t, kruntest.Options{Orders: []string{fmt.Sprintf("fail=%s:%d", call, errno)}})
				said := in.refused(t, "WAGGLE_KRUN_LIB_DIR="+libs)
				require.Regexp(t, regexp.QuoteMeta(call+": "+unix.ErrnoName(errno)+" ("+errno.Error()+"): ")+`.+; .+`, said)
			})
		}
	}
	require.Empty(t, ps(t, in))
}

// TestRunWithoutLibkrun says what is missing, and what to do.
func TestRunWithoutLibkrun(t *testing.T) {
	in := onDouble(t)
	for name, c := range map[string]struct {
		options kruntest.Options
		setting string
		words   []string
	}{
		"no library":  {setting: "WAGGLE_KRUN_LIB_DIR=" + t.TempDir(), words: []string{"libkrun is not installed", "docs/libkrun.md"}},
		"no firmware": {options: kruntest.Options{WithoutFirmware: true}, words: []string{"libkrunfw is not installed", "install libkrunfw"}},
		"too old":     {options: kruntest.Options{Older: true}, words: []string{"too old", "1.17.3", "docs/libkrun.md"}},
		"without NET": {options: kruntest.Options{WithoutNet: true}, words: []string{"NET=1"}},
		"without BLK": {options: kruntest.Options{WithoutBlk: true}, words: []string{"BLK=1"}},
		"no KVM":      {setting: "WAGGLE_KRUN_KVM=/dev/none", words: []string{"WAGGLE_KRUN_KVM", "/dev/none", "waggle doctor"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			said := in.refused(t, "WAGGLE_KRUN_LIB_DIR="+kruntest.Install(t, c.options), c.setting)
			for _, w := range c.words {
				require.Contains(t, said, w)
			}
		})
	}
}

// onDouble is an installation with an image, which takes libkrun.
func onDouble(t *testing.T) *Installation {
	t.Helper()
	in := Install(t)
	shared := in.Data
	in.Data = t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(shared, "kernel"), filepath.Join(in.Data, "kernel")))
	in.Settings = append(in.Settings, "WAGGLE_DEFAULT_MEMORY_MB=192", "WAGGLE_DEFAULT_DISK_MB=64")
	tiny(t, in)
	in.Settings = append(in.Settings, double.settings...)
	return in
}

// refused runs a command in a new machine with more settings, and returns what
// waggle says when there is none.
func (in *Installation) refused(t *testing.T, settings ...string) string {
	t.Helper()
	with := *in
	with.Settings = append(append([]string{}, in.Settings...), settings...)
	out, errOut, code := with.cli(t, "", "run", "-q", "tiny", "--", "guest", "say", "hello")
	require.NotZero(t, code, "%s%s", out, errOut)
	require.Empty(t, out)
	return errOut
}
