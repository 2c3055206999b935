// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmtest

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBackends is what every backend owes. Its image holds one program, so that it
// also runs on a double of libkrun, whose guest is a guestd with that program.
func TestBackends(t *testing.T) {
	onEachBackend(t, func(t *testing.T, in *Installation, b backend) {
		shared := in.Data
		in.Data = t.TempDir()
		require.NoError(t, os.Symlink(filepath.Join(shared, "kernel"), filepath.Join(in.Data, "kernel")))
		tiny(t, in)
		in.Settings = append(in.Settings, "WAGGLE_IMAGE_SHELL=tiny", "WAGGLE_DEFAULT_MEMORY_MB=192", "WAGGLE_DEFAULT_DISK_MB=64")
		session := in.Serve(t).Connect(t)
		var one, two environment
		session.Call(t, "create_environment", map[string]any{"runtime": "shell"}, &one)
		session.Call(t, "create_environment", map[string]any{"runtime": "shell"}, &two)
		rows := ps(t, in)
		require.Len(t, rows, 2)
		for _, id := range []string{one.ID, two.ID} {
			require.Equal(t, "running", rows[id].State)
			require.Equal(t, b.shown, rows[id].Backend)
			require.NoError(t, syscall.Kill(rows[id].VMMPid, 0))
		}
		t.Run("files", func(t *testing.T) { keepsFiles(t, in, one.ID, two.ID, b) })
		t.Run("exec", func(t *testing.T) { runsCommands(t, in, one.ID, b) })
		t.Run("kill", func(t *testing.T) { killsCommands(t, in, one.ID, b) })
		t.Run("console", func(t *testing.T) { require.NotEmpty(t, in.Command(t, "logs", one.ID)) })
		t.Run("disks", func(t *testing.T) { hasDisks(t, in, one.ID, b) })
		t.Run("network", func(t *testing.T) { hasNetwork(t, in, one.ID, b) })
		t.Run("stop", func(t *testing.T) {
			watched := watch(t, rows[one.ID].VMMPid)
			require.Equal(t, one.ID+"\n", in.Command(t, "rm", one.ID))
			require.True(t, watched.endsWithin(t, 0), "the VMM outlives its environment")
			nothingLeft(t, in, one.ID)
			require.Equal(t, "here\n", in.Command(t, "exec", two.ID, "--", b.program, "say", "here"), "the other one lives on")
		})
		t.Run("death of the VMM", func(t *testing.T) { survivesVMM(t, in, session, rows[two.ID]) })
		t.Run("death of the supervisor", func(t *testing.T) {
			var three environment
			session.Call(t, "create_environment", map[string]any{"runtime": "shell"}, &three)
			killSupervisor(t, ps(t, in)[three.ID])
			in.Command(t, "rm", three.ID)
			nothingLeft(t, in, three.ID)
		})
	})
}

// tiny imports an image that holds one program, /bin/guest of cmd/waggle.
func tiny(t *testing.T, in *Installation) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "guest")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "../../cmd/waggle/testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(program)
	require.NoError(t, err)
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	for _, h := range []tar.Header{
		{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/guest", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(text))},
	} {
		require.NoError(t, w.WriteHeader(&h))
		if h.Size > 0 {
			_, err := w.Write(text)
			require.NoError(t, err)
		}
	}
	require.NoError(t, w.Close())
	archive := filepath.Join(t.TempDir(), "root.tar")
	require.NoError(t, os.WriteFile(archive, root.Bytes(), 0o600))
	in.Command(t, "image", "import", archive, "tiny")
}

func runsCommands(t *testing.T, in *Installation, id string, b backend) {
	out, errOut, code := in.cli(t, "", "exec", id, "--", b.program, "say", "hello", "bees")
	require.Equal(t, "hello bees\n", out)
	require.Equal(t, "said\n", errOut)
	require.Zero(t, code)
	_, _, code = in.cli(t, "", "exec", id, "--", b.program, "exit", "7")
	require.Equal(t, 7, code)
	_, _, code = in.cli(t, "", "exec", id, "--", "no-such-program")
	require.Equal(t, 127, code)
	// Of a machine, more than any buffer on the way; both ways, and the end of the input.
	text := strings.Repeat("0123456789abcdef", b.room/16)
	out, errOut, code = in.cli(t, text, "exec", "-i", id, "--", b.program, "cat")
	require.Zero(t, code, errOut)
	require.True(t, out == text, "%d of %d bytes came back", len(out), len(text))
}

func killsCommands(t *testing.T, in *Installation, id string, b backend) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // or it waits for ever
	defer cancel()
	cmd := exec.CommandContext(ctx, in.Waggle, "exec", "--exec-id", "waiter", id, "--", b.program, "wait")
	in.prepare(cmd)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "waiting\n", line)
	require.Equal(t, "waiter\n", in.Command(t, "kill", id+"/waiter"))
	require.Error(t, cmd.Wait())
	require.Equal(t, 128+int(syscall.SIGTERM), cmd.ProcessState.ExitCode())
}

// keepsFiles: files go both ways, and each machine has its own.
func keepsFiles(t *testing.T, in *Installation, one, two string, b backend) {
	dir := t.TempDir()
	for _, id := range []string{one, two} {
		from, to := filepath.Join(dir, id), filepath.Join(dir, id+"-back")
		content := strings.Repeat(id+"\n", b.room/16)
		require.NoError(t, os.WriteFile(from, []byte(content), 0o600))
		in.Command(t, "cp", "-q", from, id+":/tmp/bees/file")
		in.Command(t, "cp", "-q", id+":/tmp/bees/file", to)
		back, err := os.ReadFile(to)
		require.NoError(t, err)
		require.True(t, content == string(back), "%d of %d bytes came back", len(back), len(content))
	}
	for _, id := range []string{one, two} {
		require.Equal(t, id+"\n", in.Command(t, "cat", "--limit", "13", id+":/tmp/bees/file"))
		require.Equal(t, "file\n", in.Command(t, "ls", id+":/tmp/bees"))
	}
}

// hasDisks looks at the machine's own view: only the scratch disk can be written.
func hasDisks(t *testing.T, in *Installation, id string, b backend) {
	if b.devices != nil {
		told, _ := b.devices(t, in, id)
		require.Equal(t, []string{"boot ro", "image ro", "scratch rw"}, told)
		return
	}
	var found []string
	for _, disk := range []string{"vda", "vdb", "vdc", "vdd"} {
		out, _, code := in.cli(t, "", "exec", id, "--", b.program, "show", "/sys/block/"+disk+"/ro")
		if code == 0 {
			found = append(found, disk+map[string]string{"0\n": " rw", "1\n": " ro"}[out])
		}
	}
	require.Equal(t, b.disks, found)
}

// hasNetwork: a machine has a network card, but for one that was made without.
func hasNetwork(t *testing.T, in *Installation, id string, b backend) {
	if b.devices != nil {
		_, cards := b.devices(t, in, id)
		require.Len(t, cards, 1)
		_, cards = b.devices(t, in, unconnected(t, in, b))
		require.Empty(t, cards)
		return
	}
	cards := func(table string) (names []string) {
		for _, line := range strings.Split(strings.TrimSpace(table), "\n")[2:] {
			name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			names = append(names, name)
		}
		return names
	}
	open := in.Command(t, "exec", id, "--", b.program, "show", "/proc/net/dev")
	require.ElementsMatch(t, []string{"lo", "eth0"}, cards(open))
	none := in.Command(t, "run", "-q", "--network", "none", "tiny", "--", "guest", "show", "/proc/net/dev")
	require.Equal(t, []string{"lo"}, cards(none))
}

// unconnected is a machine without a network. It ends with the test.
func unconnected(t *testing.T, in *Installation, b backend) (id string) {
	t.Helper()
	before := ps(t, in)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, in.Waggle, "run", "-q", "--network", "none", "tiny", "--", b.program, "wait")
	in.prepare(cmd)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was told to end
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "waiting\n", line)
	for id := range ps(t, in) {
		if _, old := before[id]; !old {
			return id
		}
	}
	require.FailNow(t, "its machine is not listed")
	return ""
}

// survivesVMM: a VMM that is killed ends its environment, which says so.
func survivesVMM(t *testing.T, in *Installation, session *Session, row listed) {
	watched := watch(t, row.Pid)
	require.NoError(t, syscall.Kill(row.VMMPid, syscall.SIGKILL))
	require.True(t, watched.endsWithin(t, 20*time.Second), "the supervisor outlives its machine")
	refusal := session.Refused(t, "execute", map[string]any{"environment_id": row.ID, "code": "1"})
	require.Contains(t, refusal, "killed", "it says how the machine ended")
	in.cli(t, "", "rm", row.ID) // it may have cleared up by itself
	nothingLeft(t, in, row.ID)
}
