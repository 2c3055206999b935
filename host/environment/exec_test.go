// SPDX-License-Identifier: Apache-2.0

package environment_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stacklok/waggle/host/environment"
	"github.com/stacklok/waggle/host/environment/envtest"
	hostv1 "github.com/stacklok/waggle/proto/gen/waggle/host/v1"
)

func TestExec(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 2)
	id := create(t, m, "python")
	exec := func(t *testing.T, req environment.ExecRequest) environment.ExecResult {
		t.Helper()
		r, err := m.Exec(t.Context(), id, req)
		require.NoError(t, err)
		return r
	}
	t.Run("streams apart and exit code", func(t *testing.T) {
		r := exec(t, environment.ExecRequest{Code: "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)"})
		require.Equal(t, 3, r.ExitCode)
		require.Equal(t, "out\n", r.Stdout.Text)
		require.Equal(t, "err\n", r.Stderr.Text)
	})
	t.Run("traceback shows the line", func(t *testing.T) {
		r := exec(t, environment.ExecRequest{Code: "x = 1\n\nraise ValueError('no')\n"})
		require.Equal(t, 1, r.ExitCode)
		require.Contains(t, r.Stderr.Text, ".py\", line 3")
		require.Contains(t, r.Stderr.Text, "raise ValueError('no')")
	})
	t.Run("imports what lies beside it", func(t *testing.T) {
		_, err := m.WriteFile(t.Context(), id, environment.Home+"/mine.py", []byte("answer = 42"), environment.WriteOptions{})
		require.NoError(t, err)
		require.Equal(t, "42\n", exec(t, environment.ExecRequest{Code: "import mine\nprint(mine.answer)"}).Stdout.Text)
	})
	t.Run("other language", func(t *testing.T) {
		r := exec(t, environment.ExecRequest{Code: "a=(1 2 3)\necho ${#a[@]}", Language: "shell"})
		require.Equal(t, "3\n", r.Stdout.Text)
		require.Equal(t, "shell", r.Language)
	})
	t.Run("timeout keeps what was printed", func(t *testing.T) {
		r := exec(t, environment.ExecRequest{Code: "import time\nprint('before')\ntime.sleep(60)", Timeout: 5 * time.Second})
		require.True(t, r.TimedOut)
		require.Equal(t, "before\n", r.Stdout.Text)
		require.Equal(t, 137, r.ExitCode)
		require.Equal(t, "SIGKILL", r.Signal)
	})
	t.Run("large output is cut in the middle", func(t *testing.T) {
		r := exec(t, environment.ExecRequest{Code: "print('a' + 'é' * 4000000 + 'z', end='')"})
		require.Equal(t, int64(8000002), r.Stdout.Bytes)
		require.Less(t, len(r.Stdout.Text), 300<<10)
		require.True(t, strings.HasPrefix(r.Stdout.Text, "aé"))
		require.True(t, strings.HasSuffix(r.Stdout.Text, "éz"))
		require.NotContains(t, r.Stdout.Text, "\uFFFD")
		require.Contains(t, r.Stdout.Text, "of 8000002 bytes cut here")
	})
	t.Run("hang up ends it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := m.Exec(ctx, id, environment.ExecRequest{
			Code: "import time\nprint('on')\ntime.sleep(60)", Output: func(bool, []byte) { cancel() },
		})
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("no file is left", func(t *testing.T) {
		require.Eventually(t, func() bool {
			l, err := m.ListFiles(t.Context(), id, "/tmp/.waggle", environment.ListOptions{})
			return err == nil && len(l.Files) == 0
		}, patience, 10*time.Millisecond)
		l, err := m.ListFiles(t.Context(), id, "", environment.ListOptions{})
		require.NoError(t, err)
		for _, f := range l.Files {
			require.Contains(t, []string{environment.Home + "/mine.py", environment.Home + "/__pycache__"}, f.Path)
		}
	})
}

func TestExecValidates(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "python")
	for _, tc := range []struct {
		name string
		req  environment.ExecRequest
		err  error
		text string
	}{
		{"empty", environment.ExecRequest{Code: " \n"}, environment.ErrInvalidArgument, "code is empty"},
		{"nul", environment.ExecRequest{Code: "a\x00b"}, environment.ErrInvalidArgument, "NUL"},
		{"huge", environment.ExecRequest{Code: strings.Repeat("#", 9<<20)}, environment.ErrInvalidArgument, "write_file"},
		{"negative", environment.ExecRequest{Code: "1", Timeout: -1}, environment.ErrInvalidArgument, "1 to 300"},
		{"too long", environment.ExecRequest{Code: "1", Timeout: 301 * time.Second}, environment.ErrInvalidArgument, "1 to 300"},
		{"language", environment.ExecRequest{Code: "1", Language: "perl"}, environment.ErrInvalidRuntime, "python, node, shell"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := m.Exec(t.Context(), id, tc.req)
			require.ErrorIs(t, err, tc.err)
			require.ErrorContains(t, err, tc.text)
		})
	}
}

// TestLostDuringExec: the end of the machine ends the call with words.
func TestLostDuringExec(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, cause string
		end         func(*testing.T, *envtest.Fleet, *environment.Manager, string)
	}{
		{"crash", "its supervisor was killed", func(_ *testing.T, f *envtest.Fleet, _ *environment.Manager, id string) { f.Machine(id).Crash() }},
		{"destroy", "it was destroyed", func(t *testing.T, _ *envtest.Fleet, m *environment.Manager, id string) {
			require.NoError(t, m.Destroy(t.Context(), id))
		}},
		{"its machine crashes", "qemu: killed", func(_ *testing.T, f *envtest.Fleet, _ *environment.Manager, id string) {
			f.Machine(id).Stopping(hostv1.EndCause_END_CAUSE_CRASHED, "qemu: killed")
			f.Machine(id).End(hostv1.EndCause_END_CAUSE_CRASHED, "qemu: killed")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := envtest.NewFleet(t)
			m := newManager(t, f, 1)
			id := create(t, m, "python")
			running := make(chan struct{})
			done := make(chan error, 1)
			go func() {
				_, err := m.Exec(t.Context(), id, environment.ExecRequest{
					Code: "import time\nprint(1, end='')\ntime.sleep(60)", Output: func(bool, []byte) { close(running) },
				})
				done <- err
			}()
			<-running
			tc.end(t, f, m, id)
			began := time.Now()
			err := <-done
			require.ErrorIs(t, err, environment.ErrLost)
			require.ErrorContains(t, err, tc.cause)
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "shell")
	ctx := t.Context()
	file := environment.Home + "/a/b.txt"
	w, err := m.WriteFile(ctx, id, file, []byte("héllo"), environment.WriteOptions{})
	require.NoError(t, err)
	require.Equal(t, uint64(6), w.Size)
	c, err := m.ReadFile(ctx, id, file, 0, 2) // in the middle of é
	require.NoError(t, err)
	require.Equal(t, "h", string(c.Data))
	require.True(t, c.Truncated)
	_, err = m.WriteFile(ctx, id, file+"é", []byte("éé"), environment.WriteOptions{})
	require.NoError(t, err)
	c, err = m.ReadFile(ctx, id, file+"é", 0, 1) // no room for a character
	require.NoError(t, err)
	require.Len(t, c.Data, 1, "or the next piece would begin where this one does")
	require.True(t, c.Truncated)
	c, err = m.ReadFile(ctx, id, file, 1, 0)
	require.NoError(t, err)
	require.Equal(t, "éllo", string(c.Data))
	require.False(t, c.Truncated)
	l, err := m.ListFiles(ctx, id, "", environment.ListOptions{})
	require.NoError(t, err)
	require.Equal(t, environment.Home, l.Path)
	require.Len(t, l.Files, 1)
	require.Equal(t, "directory", l.Files[0].Type)

	for path, want := range map[string]error{
		"":                              environment.ErrInvalidArgument,
		"b.txt":                         environment.ErrInvalidArgument,
		"/a\x00":                        environment.ErrInvalidArgument,
		"/" + strings.Repeat("a", 5000): environment.ErrInvalidArgument,
		"/none":                         environment.ErrFileNotFound,
		environment.Home:                environment.ErrFileKind,
	} {
		_, err := m.ReadFile(ctx, id, path, 0, 0)
		require.ErrorIs(t, err, want, path)
	}
	for _, path := range []string{environment.Home + "/x/", "/", environment.Home + "/.", "/a/.."} {
		_, err := m.WriteFile(ctx, id, path, nil, environment.WriteOptions{})
		require.ErrorIs(t, err, environment.ErrInvalidArgument, path)
		require.ErrorContains(t, err, "names a directory", path)
	}
	_, err = m.ReadFile(ctx, id, environment.Home+"/x", 0, 0)
	require.ErrorIs(t, err, environment.ErrFileNotFound)
	_, err = m.ReadFile(ctx, id, file, -1, 0)
	require.ErrorIs(t, err, environment.ErrInvalidArgument)
	_, err = m.ReadFile(ctx, id, file, 0, 1<<30)
	require.ErrorIs(t, err, environment.ErrInvalidArgument)
}

// TestReadWithoutSize: what the kernel makes up goes on until it ends, whatever size
// it is said to have.
func TestReadWithoutSize(t *testing.T) {
	t.Parallel()
	const file = "/proc/filesystems"
	whole, err := os.ReadFile(file)
	require.NoError(t, err)
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "shell")
	var got []byte
	for piece := 0; ; piece++ {
		c, err := m.ReadFile(t.Context(), id, file, int64(len(got)), 60)
		require.NoError(t, err)
		require.Zero(t, c.File.Size)
		got = append(got, c.Data...)
		require.Equal(t, len(got) < len(whole), c.Truncated, "after %d of %d bytes", len(got), len(whole))
		if !c.Truncated {
			break
		}
	}
	require.Equal(t, string(whole), string(got))
}

func TestInstallPackages(t *testing.T) {
	t.Parallel()
	m := newManager(t, envtest.NewFleet(t), 1)
	id := create(t, m, "python")
	var lines []string
	r, err := m.InstallPackages(t.Context(), id, environment.InstallRequest{
		Packages: []string{"six"}, Line: func(l string) { lines = append(lines, l) },
	})
	require.NoError(t, err)
	require.Equal(t, "pip", r.Manager)
	require.Equal(t, []string{"six 1.0.0"}, r.Installed)
	require.Equal(t, []string{"Collecting six"}, lines)
	_, err = m.InstallPackages(t.Context(), id, environment.InstallRequest{Packages: []string{"nope"}})
	require.ErrorIs(t, err, environment.ErrInstall)
	require.ErrorContains(t, err, "No matching distribution found")
	_, err = m.InstallPackages(t.Context(), id, environment.InstallRequest{Packages: []string{"six"}, Manager: "dnf"})
	require.ErrorIs(t, err, environment.ErrNoManager)
	require.ErrorContains(t, err, "dnf is not in the image, which has pip, npm, apt")
	for _, req := range []environment.InstallRequest{
		{}, {Packages: []string{"--index-url=http://evil"}}, {Packages: []string{"six"}, Manager: "cargo"},
		{Packages: make([]string, 101)},
	} {
		_, err := m.InstallPackages(t.Context(), id, req)
		require.ErrorIs(t, err, environment.ErrInvalidArgument)
	}
}

// TestExecOnFullDisk: code can still be run, for something has to make room.
func TestExecOnFullDisk(t *testing.T) {
	t.Parallel()
	f := envtest.NewFleet(t)
	m := newManager(t, f, 1)
	id := create(t, m, "python")
	f.Machine(id).FillDisk()
	_, err := m.WriteFile(t.Context(), id, environment.Home+"/a", []byte("x"), environment.WriteOptions{})
	require.ErrorIs(t, err, environment.ErrNoSpace)
	r, err := m.Exec(t.Context(), id, environment.ExecRequest{Code: "print(6*7)"})
	require.NoError(t, err)
	require.Equal(t, "42\n", r.Stdout.Text)
}
