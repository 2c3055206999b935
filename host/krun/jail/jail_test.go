// SPDX-License-Identifier: Apache-2.0

//go:build linux

package jail

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/host/krun/spec"
)

// TestRuleset: each version of Landlock is asked for what it knows, no more.
func TestRuleset(t *testing.T) {
	t.Parallel()
	for version, want := range map[int]unix.LandlockRulesetAttr{
		1: {Handled_access_fs: 1<<13 - 1},
		2: {Handled_access_fs: 1<<14 - 1},
		3: {Handled_access_fs: 1<<15 - 1},
		4: {Handled_access_fs: 1<<15 - 1, Handled_access_net: 3},
		5: {Handled_access_fs: 1<<16 - 1, Handled_access_net: 3},
		6: {Handled_access_fs: 1<<16 - 1, Handled_access_net: 3, Scoped: 3},
		9: {Handled_access_fs: 1<<16 - 1, Handled_access_net: 3, Scoped: 3},
	} {
		require.Equal(t, want, ruleset(version), "version %d", version)
	}
	const noFiles = unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK
	for _, k := range []kind{code, readOnly, writable, device} {
		require.Zero(t, k.rights()&noFiles, "the kernel refuses rights of directories for a file")
	}
	require.Zero(t, readOnly.rights()&unix.LANDLOCK_ACCESS_FS_EXECUTE)
	require.Zero(t, directory.rights()&unix.LANDLOCK_ACCESS_FS_EXECUTE)
	require.Zero(t, code.rights()&unix.LANDLOCK_ACCESS_FS_WRITE_FILE)
}

// TestRefused: what is for want of a right leads to Landlock, anything else is an
// error; and where nothing works both remedies are named.
func TestRefused(t *testing.T) {
	t.Parallel()
	var r *refusedError
	for _, errno := range []unix.Errno{unix.EPERM, unix.EACCES} {
		err := errors.Join(refused("mount the root", errno), nil)
		require.ErrorAs(t, err, &r)
		require.EqualError(t, err, "mount the root: "+errno.Error())
	}
	require.NoError(t, refused("x", nil))
	require.False(t, errors.As(refused("x", unix.ENOMEM), &r))

	err := fmt.Errorf(errUnconfined, "mount the root: operation not permitted", errors.New("this kernel has no Landlock"))
	for _, text := range []string{
		"mount the root: operation not permitted", "kernel.apparmor_restrict_unprivileged_userns=0",
		"user.max_user_namespaces=15000", "this kernel has no Landlock",
	} {
		require.ErrorContains(t, err, text)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const file, dir = unix.S_IFREG, unix.S_IFDIR
	user := &spec.User{UID: 1000, GID: 1000, Groups: []uint32{36}}
	for _, tt := range []struct {
		s    source
		st   unix.Stat_t
		want string
	}{
		{source{kind: directory}, unix.Stat_t{Mode: file | 0o777}, "not a directory"},
		{source{kind: readOnly}, unix.Stat_t{Mode: dir | 0o777}, "is a directory"},
		{source{kind: code}, unix.Stat_t{Mode: unix.S_IFIFO | 0o777}, "not a regular file"},
		{source{kind: readOnly}, unix.Stat_t{Mode: file | 0o440}, "uid 1000, which may not use it (mode 0440)"},
		{source{kind: readOnly}, unix.Stat_t{Mode: file | 0o444}, ""},
		{source{kind: writable}, unix.Stat_t{Mode: file | 0o600, Uid: 1000}, ""},
		{source{kind: writable}, unix.Stat_t{Mode: file | 0o066, Uid: 1000}, "may not use it"},
		{source{kind: device}, unix.Stat_t{Mode: unix.S_IFCHR | 0o660, Gid: 36}, ""},
		{source{kind: device}, unix.Stat_t{Mode: unix.S_IFCHR | 0o660, Gid: 37}, "may not use it"},
		{source{kind: code, target: "/lib/x"}, unix.Stat_t{Mode: file | 0o644}, ""},
		{source{kind: code, target: runnerPath}, unix.Stat_t{Mode: file | 0o644}, "may not use it"},
	} {
		err := tt.s.check(&tt.st, user)
		if tt.want == "" {
			require.NoError(t, err, "%+v %o", tt.s, tt.st.Mode)
		} else {
			require.ErrorContains(t, err, tt.want)
		}
		if tt.want == "may not use it" {
			require.NoError(t, tt.s.check(&tt.st, nil), "the caller's own rights show when it opens")
		}
	}
}
