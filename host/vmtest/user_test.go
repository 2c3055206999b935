// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOrdinaryUser is the transcript for somebody who is not root, has no group
// but his own and no rights on /dev/kvm, and owns nothing but a home with the
// kernel and the images in it.
func TestOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user; for anybody else TestTranscript is this test")
	}
	in := Install(t)
	who := newUser(t)
	// A user that is gone may have had this uid, and have left something.
	before := owned(t, who.Uid)
	t.Cleanup(func() { require.Subset(t, before, owned(t, who.Uid)) }) // after the home is gone
	home, err := os.MkdirTemp("", "wu")                                // short: it holds sockets
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(home)) })
	for _, dir := range []string{"kernel", "images"} {
		run(t, "cp", "-a", "--reflink=auto", filepath.Join(in.Data, dir), home)
	}
	in.Waggle = readable(t, in.Waggle, home)
	in.Data, in.Run, in.As = home, filepath.Join(home, "run"), who
	run(t, "chown", "-R", fmt.Sprintf("%d:%d", who.Uid, who.Gid), home)
	transcript(t, in)
}

// newUser makes a user that is gone after the test, which fails when a process
// of the user is left by then.
func newUser(t *testing.T) *syscall.Credential {
	t.Helper()
	name := fmt.Sprintf("waggle-test-%d", os.Getpid())
	run(t, "useradd", "--no-create-home", "--shell", "/bin/false", name)
	t.Cleanup(func() {
		out, err := exec.Command("userdel", name).CombinedOutput() //nolint:noctx // t.Context() has ended
		require.NoError(t, err, "%s", out)
	})
	u, err := user.Lookup(name)
	require.NoError(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// owned lists the files of the user where everybody may make some.
func owned(t *testing.T, uid uint32) []string {
	t.Helper()
	paths := []string{}
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp", "/dev/shm", "/run/lock"} {
		entries, err := os.ReadDir(dir)
		if !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // somebody else's, gone since
			}
			require.NoError(t, err)
			if info.Sys().(*syscall.Stat_t).Uid == uid {
				paths = append(paths, filepath.Join(dir, e.Name()))
			}
		}
	}
	return paths
}

// readable copies waggle and what lies beside it to where the user can read it.
func readable(t *testing.T, waggle, home string) string {
	t.Helper()
	bin := filepath.Join(home, "bin")
	require.NoError(t, os.Mkdir(bin, 0o755))
	guestd, err := filepath.Glob(filepath.Join(filepath.Dir(waggle), "guestd-linux-*"))
	require.NoError(t, err)
	run(t, "cp", append(append([]string{waggle}, guestd...), bin)...)
	return filepath.Join(bin, "waggle")
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", name, out)
}
