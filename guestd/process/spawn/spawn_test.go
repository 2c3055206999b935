// SPDX-License-Identifier: Apache-2.0

//go:build linux

package spawn

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stacklok/waggle/guestd/reap"
	guestv1 "github.com/stacklok/waggle/proto/gen/waggle/guest/v1"
)

const path = "PATH=/usr/local/bin:/usr/bin:/bin"

func newLauncher(t *testing.T) *Launcher {
	t.Helper()
	r := reap.New()
	l, err := NewLauncher(r, nil)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close(); r.Close() })
	return l
}

func self(t *testing.T) *User {
	t.Helper()
	u, err := FindUser(fmt.Sprint(os.Geteuid()))
	require.NoError(t, err)
	return u
}

// output runs a command to its end and returns what it printed.
func output(t *testing.T, l *Launcher, cmd *Command) string {
	t.Helper()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd.Stdio = []*os.File{null, w, w}
	child, err := l.Start(cmd)
	require.NoError(t, w.Close())
	require.NoError(t, err)
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	select {
	case <-child.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("no status")
	}
	return string(out)
}

func TestFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, []byte(text), mode))
		return p
	}
	plain := file("plain", "text", 0o644)
	garbage := file("garbage", "\x00\x01garbage", 0o755)
	orphan := file("orphan", "#!/no/such/interpreter\n", 0o755)

	l := newLauncher(t)
	u := self(t)
	for name, c := range map[string]struct {
		argv  []string
		env   string
		dir   string
		kind  guestv1.SpawnFailureKind
		errno unix.Errno
		stage string
	}{
		"no such program":   {[]string{"no-such-program"}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, unix.ENOENT, "resolve program"},
		"no such path":      {[]string{"/no/such/program"}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, unix.ENOENT, "resolve program"},
		"endless name":      {[]string{strings.Repeat("ä", 100<<10)}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, unix.ENOENT, "resolve program"},
		"empty PATH":        {[]string{"true"}, "PATH=", "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, unix.ENOENT, "resolve program"},
		"not executable":    {[]string{plain}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION, unix.EACCES, "resolve program"},
		"denied along PATH": {[]string{"plain"}, "PATH=/bin:" + dir, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION, unix.EACCES, "resolve program"},
		"a directory":       {[]string{dir}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_PERMISSION, unix.EACCES, "resolve program"},
		"wrong format":      {[]string{garbage}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_FORMAT, unix.ENOEXEC, "exec"},
		"no interpreter":    {[]string{orphan}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_FORMAT, unix.ENOENT, "exec"},
		"no such cwd":       {[]string{"true"}, path, "/no/such/dir", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_CWD, unix.ENOENT, "chdir"},
		"cwd is a file":     {[]string{"true"}, path, plain, guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_CWD, unix.ENOTDIR, "chdir"},
		"arguments":         {[]string{"true", strings.Repeat("a", 200<<10)}, path, "/", guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_ARGUMENTS_TOO_LARGE, unix.E2BIG, "exec"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := l.Start(&Command{Argv: c.argv, Env: []string{c.env}, Dir: c.dir, User: u})
			var f *Failure
			require.ErrorAs(t, err, &f)
			require.Equal(t, c.kind, f.Kind, f.Message)
			require.Equal(t, c.stage, f.Stage, f.Message)
			require.ErrorIs(t, err, c.errno)
			require.NotEmpty(t, f.Proto().GetErrnoName())
			require.LessOrEqual(t, len(f.Proto().GetMessage()), maxMessage)
		})
	}
}

// TestPrivileges looks at what the children have and that this process, and
// so guestd, has lost nothing.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("changing the user needs root; try: sudo go test ./guestd/process/spawn")
	}
	// Of a thread that is not a launcher's; /proc/self would be the first thread,
	// which another test's launcher may have got.
	before, err := os.ReadFile("/proc/thread-self/status")
	require.NoError(t, err)
	l := newLauncher(t)
	status := func(u *User, root bool) map[string]string {
		out := output(t, l, &Command{Argv: []string{"cat", "/proc/self/status"}, Env: []string{path}, Dir: "/", User: u, Root: root})
		return fields(out)
	}
	workload := status(&User{UID: 54321, GID: 54322, Groups: []uint32{7, 9}}, false)
	require.Equal(t, "54321 54321 54321 54321", workload["Uid"])
	require.Equal(t, "54322 54322 54322 54322", workload["Gid"])
	require.Equal(t, "7 9", workload["Groups"])
	require.Equal(t, "1", workload["NoNewPrivs"])
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		require.Equal(t, "0000000000000000", workload[set], set)
	}

	var keep uint64
	for _, c := range rootCapabilities {
		keep |= 1 << c
	}
	root := status(&User{}, true)
	require.Equal(t, "0 0 0 0", root["Uid"])
	require.Equal(t, "1", root["NoNewPrivs"])
	require.Equal(t, fmt.Sprintf("%016x", keep), root["CapBnd"])
	require.Equal(t, fmt.Sprintf("%016x", keep), root["CapEff"])

	after, err := os.ReadFile("/proc/thread-self/status")
	require.NoError(t, err)
	for _, key := range []string{"CapBnd", "CapEff", "NoNewPrivs", "Uid"} {
		require.Equal(t, fields(string(before))[key], fields(string(after))[key], key)
	}
}

func fields(status string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(status) {
		k, v, _ := strings.Cut(line, ":")
		m[k] = strings.Join(strings.Fields(v), " ")
	}
	return m
}

// TestResolveAsUser has a program that root may execute and the user may not.
func TestResolveAsUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("changing the user needs root; try: sudo go test ./guestd/process/spawn")
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/secret", 0o700))
	require.NoError(t, os.WriteFile(dir+"/secret/tool", []byte("#!/bin/sh\n"), 0o755))
	l := newLauncher(t)
	other := &User{UID: 54321, GID: 54321}
	_, err := l.Start(&Command{Argv: []string{"tool"}, Env: []string{"PATH=" + dir + "/secret"}, Dir: "/", User: other})
	var f *Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_NOT_FOUND, f.Kind, f.Message)
	_, err = l.Start(&Command{Argv: []string{"true"}, Env: []string{path}, Dir: dir + "/secret", User: other})
	require.ErrorAs(t, err, &f)
	require.Equal(t, guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_CWD, f.Kind, f.Message)
	output(t, l, &Command{Argv: []string{"tool"}, Env: []string{"PATH=" + dir + "/secret"}, Dir: dir, User: &User{}, Root: true})
}

func TestFindUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	passwd, group := dir+"/passwd", dir+"/group"
	require.NoError(t, os.WriteFile(passwd, []byte("root:x:0:0::/root:/bin/bash\nsandbox:x:1000:1000::/home/sandbox:\nbroken line\n"), 0o644))
	require.NoError(t, os.WriteFile(group, []byte("docker:x:99:sandbox,other\nwheel:x:10:root\n"), 0o644))
	for name, want := range map[string]*User{
		"sandbox": {Name: "sandbox", UID: 1000, GID: 1000, Groups: []uint32{99}, Home: "/home/sandbox", Shell: "/bin/sh"},
		"1000":    {Name: "sandbox", UID: 1000, GID: 1000, Groups: []uint32{99}, Home: "/home/sandbox", Shell: "/bin/sh"},
		"root":    {Name: "root", Groups: []uint32{10}, Home: "/root", Shell: "/bin/bash"},
		"4711":    {Name: "4711", UID: 4711, GID: 4711, Home: "/", Shell: "/bin/sh"},
		"4711:":   {Name: "4711", UID: 4711, GID: 4711, Home: "/", Shell: "/bin/sh"},
		"4711:12": {Name: "4711", UID: 4711, GID: 12, Home: "/", Shell: "/bin/sh"},

		"sandbox:wheel": {Name: "sandbox", UID: 1000, GID: 10, Home: "/home/sandbox", Shell: "/bin/sh"},
	} {
		got, err := findUser(name, passwd, group)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, name := range []string{"nobody-here", "-1", "4294967295", "99999999999", "", ":1", "sandbox:none", "1000:4294967295"} {
		_, err := findUser(name, passwd, group)
		var f *Failure
		require.ErrorAs(t, err, &f, name)
		require.Equal(t, guestv1.SpawnFailureKind_SPAWN_FAILURE_KIND_BAD_USER, f.Kind)
	}
	// What root may have put there instead must not hold up anybody.
	require.NoError(t, unix.Mkfifo(dir+"/fifo", 0o644))
	for _, file := range []string{dir + "/fifo", dir, "/dev/zero"} {
		_, err := findUser("sandbox", file, group)
		require.ErrorContains(t, err, "not a regular file")
		u, err := findUser("0", file, group)
		require.NoError(t, err, "root can mend it")
		require.Equal(t, &User{Name: "0", Home: "/", Shell: "/bin/sh"}, u)
	}
	_, err := findUser("sandbox", dir+"/missing", group)
	require.ErrorContains(t, err, `user "sandbox" does not exist`)
}

// TestTimerSlack: timers of commands are exact, whatever those of guestd are.
func TestTimerSlack(t *testing.T) {
	t.Parallel()
	type answer struct {
		slack int
		err   error
	}
	c := make(chan answer)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with it
		err := unix.Prctl(unix.PR_SET_TIMERSLACK, 2_000_000, 0, 0, 0)
		if err == nil {
			err = confine(nil, nil)
		}
		slack, get := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		c <- answer{slack, errors.Join(err, get)}
	}()
	select {
	case a := <-c:
		require.NoError(t, a.err)
		require.Equal(t, commandSlack, a.slack)
	case <-time.After(10 * time.Second):
		require.FailNow(t, "no answer")
	}
}
